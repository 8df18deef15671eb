"""Every figure is published with its sentence, in three places; every table with its numbers."""

import base64

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt

from commonspace import figures


@pytest.fixture(autouse=True)
def shell():
    plt.switch_backend("agg")
    InteractiveShell.instance()
    yield
    plt.close("all")
    InteractiveShell.clear_instance()


def shown(call, *arguments):
    with capture_output() as captured:
        call(*arguments)
    (output,) = captured.outputs
    return output.data, output.metadata, captured.stdout


def test_show_publishes_picture_text_and_alt_and_prints_the_sentence():
    fig, axis = figures.subplots()
    axis.plot([1, 2], [3, 4])
    data, metadata, stdout = shown(figures.show, fig, "The line rises from\n  3 to 4.")
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "The line rises from 3 to 4."
    assert metadata["image/png"]["alt"] == "The line rises from 3 to 4."
    assert stdout == "The line rises from 3 to 4.\n"
    assert plt.get_fignums() == []


@pytest.mark.parametrize("sentence", ["", "A figure.", "   "])
def test_a_figure_without_a_sentence_is_refused(sentence):
    with pytest.raises(ValueError, match="say in a sentence"):
        figures.show(figures.subplots()[0], sentence)


def test_results_are_shown_as_a_table_and_published_as_numbers():
    rows = [{"method": "CCA <1>", "R@1": np.float64(0.12345), "n": 7}, {"method": "chance", "mAP": torch.tensor(0.5)}]
    data, _, _ = shown(figures.results, rows, "Two methods")
    published = data[figures.RESULTS_MIME]
    assert published["caption"] == "Two methods"
    assert published["columns"] == ["method", "R@1", "n", "mAP"]
    assert published["rows"] == [{"method": "CCA <1>", "R@1": 0.123, "n": 7}, {"method": "chance", "mAP": 0.5}]
    lines = data["text/plain"].splitlines()
    assert lines[0] == "Two methods"
    assert lines[1].split() == ["method", "R@1", "n", "mAP"]
    assert lines[2].split() == ["CCA", "<1>", "0.123", "7"]
    assert lines[3].split() == ["chance", "0.500"]
    assert "CCA &lt;1&gt;" in data["text/html"]
    assert "<script" not in data["text/html"]


@pytest.mark.parametrize(("rows", "message"), [([], "no rows"), ([{"R@1": float("nan")}], "R@1 is nan")])
def test_results_without_numbers_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        figures.results(rows, "Nothing")


def test_pictures_fill_the_axes_and_leave_no_ticks():
    _, axes = figures.subplots(2, 2)
    figures.pictures(axes, torch.randint(0, 255, (3, 3, 4, 4), dtype=torch.uint8), ["a", "b", "c"])
    assert [len(axis.images) for axis in axes.ravel()] == [1, 1, 1, 0]
    assert axes[0, 1].get_title() == "b"
    assert not any(axis.axison for axis in axes.ravel())


def test_diagram_draws_every_box_and_arrow():
    fig = figures.diagram({"x": (0.1, 0.5), "y": (0.9, 0.5)}, [("x", "y", "learned")])
    texts = {text.get_text() for text in fig.axes[0].texts}
    assert {"x", "y", "learned"} <= texts


def test_lines_differ_by_marker_as_well_as_by_colour():
    _, axis = figures.subplots()
    lines = [axis.plot([0, 1], [0, i])[0] for i in range(7)]
    assert len({line.get_marker() for line in lines}) == 7
    assert len({line.get_color() for line in lines}) == 7
