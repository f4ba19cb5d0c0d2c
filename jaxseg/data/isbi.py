"""`isbi`: neurons under the electron microscope, ISBI 2012 (Arganda-Carreras et al., 2015, Front. Neuroanat. 9:142).

The challenge's own files are stacks of 30 slices of 512 x 512; labels hold 255 inside of cells and 0 on membranes.
"""

import functools
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.data import listed, readers
from jaxseg.data.dataset import Dataset
from jaxseg.data.pairs import Pair

_COLORS = ((230, 230, 225), (64, 64, 72))


def isbi(root: str, *, val: int = 6) -> Dataset:
    """ISBI 2012, classes cell and membrane: 30 slices of a volume, each a record.

    Splits: train and val, the first and the last slices; all. The slices of test-volume.tif have no labels: predict
    the file.

    Args:
      root: the folder that holds train-volume.tif and train-labels.tif.
      val: number of slices at the end of the volume that are kept for validation.
    """
    if val < 1:
        raise UserError(f"val must be at least one slice, got {val}.")
    path = listed.locate(root, "ISBI 2012", ("train-volume.tif", "train-labels.tif"))
    table = listed.Table("ISBI 2012", ("cell", "membrane"), _COLORS, ((255,), (0,)))
    files = listed.Listing(functools.partial(_slices, path, int(val)))
    return listed.dataset("isbi", table, {name: (files, name) for name in ("train", "val", "all")})


def _slices(path: Path, val: int, split: str) -> list[Pair]:
    image, label = str(path / "train-volume.tif"), str(path / "train-labels.tif")
    count, labels = readers.pages(image), readers.pages(label, label=True)
    if count != labels:
        raise UserError(f"{image} holds {count} slices, but {label} {labels}. Expected as many: download both again.")
    if count <= val:
        raise UserError(f"{image} holds {count} slices: val={val} leaves none to train on. Expected 30 slices.")
    first, last = {"train": (0, count - val), "val": (count - val, count), "all": (0, count)}[split]
    return [Pair(readers.page_name("train", page, count), image, label, page) for page in range(first, last)]
