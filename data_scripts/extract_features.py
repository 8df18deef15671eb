"""Compute what a frozen network makes of a data set's photos, once, for training to read.

    python data_scripts/extract_features.py --data flickr8k --network resnet152
    python data_scripts/extract_features.py --data coco --network vgg19 --crops 10 --device cuda --workers 8
    python data_scripts/extract_features.py --data flickr8k --network resnet18 --weights none     to try the way offline

The photos must have been prepared (data_scripts/get_*.py). The features of each part go, with a manifest, to
$COMMONSPACE_CACHE/features/<data>-<network>-<1crop or 10crop>. A run that was stopped goes on where it was; run twice,
it does nothing.
"""

import argparse
import sys
from pathlib import Path

import torch

from commonspace.data import Coco, FashionProducts, Flickr8k, Flickr30k, Pictures, fashion_products, files
from commonspace.data.pictures import listing
from commonspace.encoders import FeatureRows, extract_features, features_of, image_network
from commonspace.encoders.extract import NETWORKS, is_made
from commonspace.encoders.features import about_pictures, features_folder
from commonspace.encoders.image import torchvision_weights
from commonspace.training.distributed import pick_device
from commonspace.training.log import bar_wanted

PARTS = ("train", "validation", "test")
TERMS = """\
  terms    torchvision: the weights may have terms of their own, derived from what they were trained on, here ImageNet,
           which is for research that is not commercial. The features are derived from the photos, whose terms the
           script that gets them names"""


def captioned(kind: type[Flickr8k | Flickr30k | Coco], root: Path | None) -> dict[str, Pictures]:
    """The photos of a set of photos and captions, by part."""
    data = kind(root)
    return {part: getattr(data, part).images for part in PARTS}


def articles(root: Path | None) -> dict[str, Pictures]:
    """The photos of FashionProducts, by part, still in their files."""
    parts = FashionProducts(root).split()
    where, places = listing(files.find("fashion-products", "styles.csv", fashion_products.COMMAND, root).parent)
    return {
        part: Pictures(where, [places[f"{i}.jpg"] for i in samples.ids.tolist()], (64, 48))
        for part, samples in zip(PARTS, parts, strict=True)
    }


DATA = {
    "flickr8k": lambda root: captioned(Flickr8k, root),
    "flickr30k": lambda root: captioned(Flickr30k, root),
    "coco": lambda root: captioned(Coco, root),
    "fashion-products": articles,
}


def about(options: argparse.Namespace, pictures: dict[str, Pictures], device: torch.device) -> str:
    """What will be done, its size, source and terms. Raises ValueError for unknown weights."""
    n, crops = sum(map(len, pictures.values())), f"{options.crops} crop{'s' * (options.crops > 1)} of each"
    entry = torchvision_weights(options.network, options.weights)
    weights = [f"none: random numbers, the same every time, of no use but to try the way ({options.network})"]
    if entry is not None:
        weights = [f"{options.network} {entry.name}, {entry.meta['_file_size']:.0f} MB, from {entry.url}", TERMS]
    lines = [
        f"Features of {options.data} by {options.network}, on {device}",
        f"  photos   {', '.join(f'{len(images):,} {part}' for part, images in pictures.items())}; {crops}",
        f"  size     {n * 4 * NETWORKS[options.network] / 1e6:.1f} MB",
        f"  weights  {weights[0]}",
        *weights[1:],
    ]
    return "\n".join(lines)


def statistics(rows: FeatureRows) -> str:
    """Rows, mean norm and share of zeros, to compare."""
    norms = zeros = 0.0
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096].double()
        norms += float(block.norm(dim=1).sum())
        zeros += float((block == 0).double().mean(dim=1).sum())
    n = max(1, len(rows))
    return f"{len(rows):,} rows of {rows.shape[1]:,}, mean norm {norms / n:.4f}, {zeros / n:.1%} zeros"


def run(options: argparse.Namespace) -> None:
    """Make what is missing. Raises ValueError, OSError."""
    device = pick_device(options.device)
    pictures = {part: images for part, images in DATA[options.data](options.root).items() if part in options.parts}
    print(about(options, pictures, device), flush=True)
    setting = {key: getattr(options, key) for key in ("data", "network", "weights", "crops")}
    folder = features_folder(**setting)
    entry = torchvision_weights(options.network, options.weights)
    missing = {}
    for part, images in pictures.items():
        facts = setting | {"part": part, "weights_file": entry and entry.url.rpartition("/")[2]}
        if not is_made(folder / f"{part}.npy", facts | about_pictures(images)):
            missing[part] = facts
    encoder = image_network(options.network, options.weights) if missing else None
    for part, facts in missing.items():
        extract_features(
            pictures[part],
            encoder,
            folder / f"{part}.npy",
            crops=options.crops,
            batch_size=options.batch_size,
            device=device,
            workers=options.workers,
            progress=bar_wanted(),
            facts=facts,
        )
    made = features_of(parts=pictures, **setting)
    print(f"In {files.shown(folder)}:" if missing else f"Already in {files.shown(folder)}; nothing to do.")
    for part, rows in made.items():
        print(f"  {part:<12}{statistics(rows)}")


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="extract_features.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, choices=DATA)
    parser.add_argument("--network", required=True, choices=NETWORKS)
    parser.add_argument(
        "--weights",
        default="DEFAULT",
        type=lambda name: None if name == "none" else name,
        help="DEFAULT (torchvision's best), one of its names such as IMAGENET1K_V1, or none",
    )
    parser.add_argument("--crops", type=int, default=1, choices=(1, 10), help="10: the mean over ten crops")
    parser.add_argument("--batch-size", type=int, default=64, help="fewer where the device's memory is too small")
    parser.add_argument("--workers", type=int, default=1, help="threads that decode photos")
    parser.add_argument("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    parser.add_argument("--root", type=Path, help="where the data set is, if not in $COMMONSPACE_DATA or the cache")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="default: all")
    try:
        run(parser.parse_args(argv))
    except (ValueError, OSError) as error:
        print(f"extract_features: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
