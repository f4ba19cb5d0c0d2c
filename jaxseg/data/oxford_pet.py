"""`oxford_pet`: cats and dogs of 37 breeds and their outlines (Parkhi et al., 2012, Cats and dogs, CVPR).

Values and lists are as annotations/README of the set says: trimaps hold 1 for the animal, 2 for the background and 3
for the outline, which is a band between them.
"""

import functools
from pathlib import Path
from typing import Literal

from jaxseg.checks import UserError, listing
from jaxseg.data import listed
from jaxseg.data.dataset import Dataset
from jaxseg.data.pairs import Pair

_COLORS = ((230, 89, 80), (64, 64, 72), (250, 220, 120))


def oxford_pet(root: str, *, outline: Literal["class", "ignored", "pet"] = "class") -> Dataset:
    """Oxford-IIIT Pet, classes pet, background and outline: about 7 400 photographs, one animal each.

    Splits: train and val, nine and one of every ten images of the list trainval; trainval; test.

    Args:
      root: the folder that holds images and annotations.
      outline: whether the outline is a class of its own, ignored, or of the pet; there are then two classes.
    """
    path = listed.locate(root, "Oxford-IIIT Pet", ("images", "annotations/trimaps", "annotations/trainval.txt"))
    values = {"class": ((1,), (2,), (3,)), "ignored": ((1,), (2,)), "pet": ((1, 3), (2,))}[outline]
    ignored = (3,) if outline == "ignored" else ()
    names = ("pet", "background", "outline")[: len(values)]
    table = listed.Table("Oxford-IIIT Pet", names, _COLORS[: len(values)], values, ignored)
    files = listed.Listing(functools.partial(_photographs, path))
    splits = ("train", "val", "trainval", "test")
    return listed.dataset("oxford_pet", table, {name: (files, name) for name in splits})


def _photographs(path: Path, split: str) -> list[Pair]:
    names = listed.names_in(path / "annotations" / ("test.txt" if split == "test" else "trainval.txt"))
    if split in ("train", "val"):
        names = [name for i, name in enumerate(names) if (i % 10 == 0) == (split == "val")]
    pairs = [Pair(n, str(path / f"images/{n}.jpg"), str(path / f"annotations/trimaps/{n}.png")) for n in names]
    lacking = [file for pair in pairs for file in (pair.image, pair.label) if not Path(file).is_file()]
    if lacking:
        raise UserError(f"{len(lacking)} files of the split '{split}' do not exist: {listing(lacking)}.")
    return sorted(pairs, key=lambda pair: pair.name)
