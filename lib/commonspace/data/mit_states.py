"""MIT-States: photos of nouns in many states, in folders of an adjective and a noun ("diced tomato").

P. Isola, J. J. Lim and E. H. Adelson, Discovering States and Transformations in Image Collections, CVPR 2015. Queries,
and the 49 nouns that are for testing, as in TIRG (N. Vo et al., Composing Text and Image for Image Retrieval, CVPR
2019). ``python data_scripts/get_mit_states.py`` prepares it.
"""

from pathlib import Path

from commonspace.data import files
from commonspace.data.download import mendable
from commonspace.data.mit_states_queries import MITStatesDraws
from commonspace.data.pictures import Pictures, check_size, names_in_zip

COMMAND = "python data_scripts/get_mit_states.py"
TEST_NOUNS = (
    *("armor", "bracelet", "bush", "camera", "candy", "castle", "ceramic", "cheese", "clock", "clothes", "coffee"),
    *("fan", "fig", "fish", "foam", "forest", "fruit", "furniture", "garden", "gate", "glass", "horse", "island"),
    *("laptop", "lead", "lightning", "mirror", "orange", "paint", "persimmon", "plastic", "plate", "potato", "road"),
    *("rubber", "sand", "shell", "sky", "smoke", "steel", "stream", "table", "tea", "tomato", "vacuum", "wax", "wheel"),
    *("window", "wool"),
)
SIDES = ("train", "test")


def caption_of(place: str) -> str:
    """``.../adjective noun/photo.jpg`` -> "adjective noun"; "" for what is no photo of a known state.

    That is another file, a folder of another number of words, or the owners' folder "adj noun" of photos in any state.
    """
    *_, folder, name = ["", *place.split("/")]
    words = folder.split()
    usable = len(words) == 2 and words[0] != "adj" and name.lower().endswith(".jpg") and not name.startswith("._")
    return " ".join(words) if usable else ""


def listing(folder: Path) -> tuple[Path, dict[str, list[str]]]:
    """images.zip or the folder images, and the photos of each side in there, by noun, adjective and file name.

    Raises ValueError for a damaged zip.
    """
    where = folder / "images.zip"
    if where.is_file():
        places = names_in_zip(where)
    else:
        where = folder / "images"
        places = [path.relative_to(where).as_posix() for path in where.glob("*/*")]
    photos = sorted((*reversed(caption_of(place).split()), place) for place in places if caption_of(place))
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for noun, _, place in photos:
        sides[SIDES[noun in TEST_NOUNS]].append(place)
    return where, sides


def _folder(root: str | Path | None) -> Path:
    """The first on the search path with photos, in a zip or as the owners have them."""
    for home in files.search_path(root):
        for folder in [home / "mit-states"] + ([home] if root is not None else []):
            if (folder / "images").is_dir():
                return folder
    return files.find("mit-states", "images.zip", COMMAND, root).parent


class MITStates:
    """``MITStates().train``: `MITStatesDraws`, drawn afresh for every epoch; ``.test``: `MITStatesQueries`.

    Test queries are every photo of a test noun with every other adjective of the noun; right are all photos of noun and
    adjective. Of the published 10,546 photos these are 82,732 queries with 26.7 right answers on average.

    ``size``: (height, width) of the pictures, decoded when asked for: scaled to fill it, and the middle cut out.
    ``release``: as `MITStatesDraws` has it. ``root``: a folder to look in instead of ``$COMMONSPACE_DATA`` and the
    cache; the owners' own folder, with images/ in it, will do.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data or a bad size.
    """

    def __init__(self, root: str | Path | None = None, size: tuple[int, int] = (224, 224), release: bool = False):
        size = check_size(size)
        folder = _folder(root)
        made = {}
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            where, sides = listing(folder)
            for side, places in sides.items():
                if not places:
                    raise ValueError(f"no photo of a {side} noun is here")
                made[side] = MITStatesDraws(Pictures(where, places, size), [caption_of(p) for p in places], release)
        self.train, self.test = made["train"], made["test"].queries()
        counts = [f"{len(places):,} {side}" for side, places in sides.items()]
        print(
            f"MIT-States: {' and '.join(counts)} photos, {size[0]}x{size[1]}, {len(self.test):,} test queries, from "
            f"{files.shown(folder)}"
        )
