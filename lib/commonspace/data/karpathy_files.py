"""What the scripts for Flickr30k and COCO share: from the owners' archives to a prepared folder."""

import contextlib
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from commonspace.data.download import DataError, extract, new_file, new_folder, read_manifest, write_manifest
from commonspace.data.karpathy import PARTS, Karpathy, read_captions
from commonspace.data.pictures import names_in_zip
from commonspace.data.script import below, facts_size, pictures_below, unpacked, zip_pictures

# The JSON files of three sets in one archive. Not reached when this was written.
CAPTIONS = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
LARGEST = 16 << 30  # bytes that an archive of photos may unpack to


def prepare(kind: type[Karpathy], archives: tuple[str, ...], path: Path, folder: Path, work: Path) -> None:
    """Check and write, all or nothing, ``kind``'s captions and one images.zip. Raises DataError, ValueError.

    ``path``: a folder with the captions, or their archive, and the photos, in folders or the ``archives`` so named.
    Photos are taken out of a zip one by one, so that a large one is never unpacked.
    """
    top = unpacked(path, work)
    inside = (unpacked(found, work, {kind.captions}) for found in sorted(top.rglob(CAPTIONS.rpartition("/")[2])))
    captions = below([top, *inside], kind.captions)
    wanted = {photo.name for photo in read_captions(captions)}
    found, folders = {}, [top]
    with contextlib.ExitStack() as stack:
        for archive in sorted(packed for name in (*archives, "images.zip") for packed in top.rglob(name)):
            if zipfile.is_zipfile(archive):
                places = {PurePosixPath(place).name: place for place in reversed(names_in_zip(archive))}
                file = stack.enter_context(zipfile.ZipFile(archive))
                found |= {name: _Packed(file, places[name]) for name in wanted & places.keys()}
            else:
                folders.append(work / archive.name.partition(".")[0])
                print(f"  unpacking {archive.name}", flush=True)
                extract(archive, folders[-1], LARGEST, wanted)
        found |= {name: photo for name, photo in pictures_below(folders).items() if name in wanted}
        if not found:
            raise DataError(f"none of the {len(wanted):,} photos that have captions was found")
        with new_folder(folder) as new:
            with new_file(new / kind.captions) as file:
                file.write(captions.read_bytes())
            zip_pictures(found, new / "images.zip")
            write_manifest(new, dataset=kind.dataset)


class _Packed(NamedTuple):
    """A photo inside a zip, read as a file is."""

    archive: zipfile.ZipFile
    place: str

    def read_bytes(self) -> bytes:
        """Its content. Raises DataError that names the zip."""
        try:
            return self.archive.read(self.place)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise DataError(f"{Path(self.archive.filename).name} is damaged ({error}); fetch it again") from None


def statistics(kind: type[Karpathy], folder: Path) -> list[tuple[str, str]]:
    """Numbers of the prepared data."""
    photos, places = read_captions(folder / kind.captions), kind.places(folder)[1]
    rows = [
        ("photos with captions", f"{len(photos):,}"),
        ("captions", f"{sum(len(photo.captions) for photo in photos):,}"),
    ]
    for part in PARTS:
        names = [photo.name for photo in photos if photo.part == part]
        if names:
            rows.append((f"photos of {part} here", f"{sum(n in places for n in names):,} of {len(names):,}"))
    return [*rows, facts_size(read_manifest(folder))]
