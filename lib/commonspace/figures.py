"""A plot and the sentence that says what it shows.

Pictures reach readers of every kind only with words, and a test that compares text sees a picture only by its words. So
every figure of the course is shown by `show(figure, sentence)`, whose sentence is computed from the numbers plotted.
"""

import html
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by every kind of eye. Lines also differ by marker, so that colour is never alone.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
RESULTS_MIME = "application/vnd.commonspace.results+json"

STYLE = {
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS) + matplotlib.cycler(marker=MARKERS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 80,
    "font.size": 11,
    "grid.alpha": 0.3,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.markersize": 5,
}


def subplots(rows: int = 1, columns: int = 1, *, width: float = 4.2, height: float = 3.2, **kwargs: Any):
    """`matplotlib.pyplot.subplots` in the course's style; ``width`` and ``height`` are inches for one panel."""
    with plt.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(width * columns, height * rows), **kwargs)


def show(figure: Figure, sentence: str) -> None:
    """Show ``figure`` in the notebook with ``sentence``, which says what can be seen in it; then close the figure.

    The sentence stands under the picture for everyone, and goes with it as its text (compared by the notebook tests)
    and as the image's ``alt`` metadata. Raises ValueError for a sentence of fewer than 5 words.
    """
    from IPython.display import display

    sentence = " ".join(sentence.split())
    if len(sentence.split()) < 5:
        raise ValueError(f"say in a sentence what the figure shows, with its numbers; got {sentence!r}")
    png = BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(png, format="png", dpi=figure.dpi, metadata={"Software": None})
    plt.close(figure)
    picture = {"image/png": b64encode(png.getvalue()).decode(), "text/plain": sentence}
    display(picture, raw=True, metadata={"image/png": {"alt": sentence}})
    print(sentence)


def pictures(axes: Any, images: torch.Tensor | np.ndarray, titles: Sequence[str] | None = None) -> None:
    """Draw uint8 pictures (n, 3, h, w), or grey ones (n, h, w), into n axes without ticks; ``titles`` above each."""
    axes = np.ravel(axes)
    images = np.asarray(images)
    for axis in axes:
        axis.set_axis_off()
    for i, (axis, picture) in enumerate(zip(axes, images, strict=False)):
        if picture.ndim == 3:
            axis.imshow(picture.transpose(1, 2, 0))
        else:
            axis.imshow(picture, cmap="gray_r")
        if titles is not None:
            axis.set_title(titles[i], fontsize=8, loc="center", wrap=True)


def results(rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Show rows of results as a table, and publish them for the results page that ``make run`` writes.

    ``rows``: one mapping a row, column name -> text or number (numbers to 3 decimals). Columns are all names in order
    of first appearance. Raises ValueError for no rows or a number that is not finite.
    """
    from IPython.display import display

    if not rows:
        raise ValueError("results got no rows")
    clean = [{str(name): _value(name, value) for name, value in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in clean for name in row))
    cells = [names] + [[_cell(row.get(name, "")) for name in names] for row in clean]
    widths = [max(len(line[j]) for line in cells) for j in range(len(names))]
    plain = "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)
    body = "".join(
        "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in line) + "</tr>"
        for line, tag in zip(cells, ["th"] + ["td"] * len(clean), strict=True)
    )
    table = f"<table><caption>{html.escape(caption)}</caption>{body}</table>"
    published = {"caption": caption, "columns": names, "rows": clean}
    display({"text/plain": f"{caption}\n{plain}", "text/html": table, RESULTS_MIME: published}, raw=True)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, (str, bool)):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}: a result must be a finite number")
    return value if isinstance(value, int) else round(float(value), 3)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def diagram(
    boxes: Mapping[str, tuple[float, float]],
    arrows: Sequence[tuple[str, str, str]],
    width: float = 8.0,
    height: float = 2.4,
) -> Figure:
    """A drawing of boxes joined by arrows.

    ``boxes``: text -> (x, y) of its centre, both in [0, 1]. ``arrows``: (from, to, label), names as in ``boxes``.
    """
    figure, axis = subplots(width=width, height=height)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_axis_off()
    frame = {"boxstyle": "round,pad=0.4", "facecolor": "#EAF3FA", "edgecolor": COLOURS[0]}
    drawn = {
        text: axis.text(x, y, text, ha="center", va="center", bbox=frame, fontsize=10, zorder=3)
        for text, (x, y) in boxes.items()
    }
    for start, end, label in arrows:
        axis.annotate(
            "",
            xy=boxes[end],
            xytext=boxes[start],
            arrowprops={
                "arrowstyle": "-|>",
                "color": "#444444",
                "patchA": drawn[start].get_bbox_patch(),
                "patchB": drawn[end].get_bbox_patch(),
                "shrinkA": 4,
                "shrinkB": 4,
            },
        )
        x, y = (np.array(boxes[start]) + boxes[end]) / 2
        axis.text(x, y + 0.05, label, ha="center", va="bottom", fontsize=9, color="#444444")
    return figure
