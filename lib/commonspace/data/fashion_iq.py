"""FashionIQ: pictures of dresses, shirts and tops of a shop, and what two people said that leads from one to another.

H. Wu et al., Fashion IQ, arXiv:1905.12794. Captions and lists are under the Community Data License Agreement; the
pictures are the shop's. ``python data_scripts/get_fashion_iq.py`` prepares it. Evaluation is on the validation queries,
under a protocol that must be named: see `fashion_iq_queries`. The "VAL split" of some papers is not here: no definition
of it was found that could be checked.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from commonspace.data import files
from commonspace.data.composed import ComposedQueries, DrawnQueries
from commonspace.data.download import mendable
from commonspace.data.fashion_iq_files import (
    CATEGORIES,
    PARTS,
    captions_file,
    list_file,
    picture_places,
    read_captions,
    read_list,
)
from commonspace.data.fashion_iq_queries import (
    FORMS,
    PROTOCOLS,
    FashionIQQueries,
    FashionIQTraining,
    Triplet,
    fashion_iq_queries,
    joined,
)
from commonspace.data.pictures import Pictures, check_size

COMMAND = "python data_scripts/get_fashion_iq.py"


class FashionIQ:
    """``FashionIQ().training()``, and ``FashionIQ().evaluations(protocol="original")["dress"]`` and so on.

    ``images``: `Pictures` of ``size`` = (height, width) pixels, decoded when asked for: all pictures of the lists,
    whether a query names them or not. Train has 11,452 dresses, 19,036 shirts and 16,121 tops, of which 1,180 are on
    both lists; validation 3,817, 6,346 and 5,373. ``categories``: those to take. ``root``: a folder to look in instead
    of ``$COMMONSPACE_DATA`` and the cache.

    Many pictures are gone from the shop. Those that are not there are left out, and the queries that need one; so is a
    query without a word. Numbers of all are printed; ``missing["train"]`` and ``missing["val"]`` are the names.

    Raises FileNotFoundError that names the command when the data is missing, ValueError for damaged data, a bad size or
    an unknown category.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        size: tuple[int, int] = (128, 128),
        categories: Sequence[str] = CATEGORIES,
    ):
        self.size, self.categories = check_size(size), tuple(categories)
        if not self.categories or not {*self.categories} <= {*CATEGORIES}:
            raise ValueError(f"categories are some of {', '.join(map(repr, CATEGORIES))}; got {categories!r}")
        folder = files.find("fashion-iq", captions_file(self.categories[0], "train"), COMMAND, root).parent.parent
        self._names: dict[tuple[str, str], list[str]] = {}
        self._triplets: dict[tuple[str, str], list[Triplet]] = {}
        self.missing: dict[str, list[str]] = {part: [] for part in PARTS}
        print(f"FashionIQ: pictures {size[0]}x{size[1]}, from {files.shown(folder)}")
        with mendable(folder, COMMAND, by_size=("images.zip",)):
            self._where, self._places = picture_places(folder)
            for category, part in product(self.categories, PARTS):
                names = read_list(folder / list_file(category, part))
                triplets = read_captions(folder / captions_file(category, part), category, set(names))
                here = [name for name in names if name in self._places]
                kept = [t for t in triplets if {t.candidate, t.target} <= self._places.keys() and joined(t, "and")]
                self._names[part, category], self._triplets[part, category] = here, kept
                gone = [name for name in names if name not in self._places]
                self.missing[part] = list(dict.fromkeys([*self.missing[part], *gone]))
                print(
                    f"  {category} {part}: {len(here):,} of {len(names):,} pictures are here; "
                    f"{len(kept):,} of {len(triplets):,} queries"
                )
            if not any(self._names.values()):
                raise ValueError("no picture of the lists is in images/ or images.zip")

    def _of(self, part: str, categories: Sequence[str]) -> tuple[Pictures, list[str], list[Triplet]]:
        """Pictures, each once, their names, and queries of some categories of a part."""
        names = list(dict.fromkeys(name for category in categories for name in self._names[part, category]))
        pictures = Pictures(self._where, [self._places[name] for name in names], self.size)
        return pictures, names, [triplet for category in categories for triplet in self._triplets[part, category]]

    def training(self, form: str = "both") -> ComposedQueries | DrawnQueries:
        """The training queries of all categories over their pictures together.

        ``form``: "both", `FashionIQTraining`, which draws the captions' order every epoch; or one for all, `joined`'s
        "and", "reversed" or "release": `FashionIQQueries`.
        """
        if form not in ("both", *FORMS):
            raise ValueError(f"form must be one of 'both', {', '.join(map(repr, FORMS))}; got {form!r}")
        of = self._of("train", self.categories)
        return FashionIQTraining(*of) if form == "both" else fashion_iq_queries(*of, forms=[form])

    def evaluations(self, *, protocol: str) -> dict[str, FashionIQQueries]:
        """What to evaluate on, by name; papers give the mean over the names. ``protocol``: a key of `PROTOCOLS`.

        "original", "original-excluded" and "cosmo" have an entry a category, each over its own pictures; "union" has
        one, "union", and a query's category in its ``category``. Raises ValueError for another protocol.
        """
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(map(repr, PROTOCOLS))}; got {protocol!r}")
        galleries = {"union": self.categories} if protocol == "union" else {name: [name] for name in self.categories}
        return {
            name: fashion_iq_queries(*self._of("val", categories), PROTOCOLS[protocol])
            for name, categories in galleries.items()
        }
