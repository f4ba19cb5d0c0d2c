"""Guessing the options that a folder of an unknown layout needs, for the error that says so."""

from collections.abc import Iterable
from pathlib import Path

from jaxseg.checks import UserError, listing
from jaxseg.data import pairs
from jaxseg.data.readers import opening

_IMAGES = (
    "images", "image", "imgs", "img", "img_dir", "JPEGImages", "leftImg8bit", "imagesTr", "photos",
    "input", "data",
)  # fmt: skip
_LABELS = (
    "labels", "label", "masks", "mask", "ann_dir", "annotations", "annotation",
    "SegmentationClassAug", "SegmentationClass", "gtFine", "labelsTr", "gt", "groundtruth",
    "ground_truth", "targets", "segmentations",
)  # fmt: skip
_LISTS = ("ImageSets/Segmentation/{split}.txt", "ImageSets/{split}.txt", "splits/{split}.txt", "{split}.txt")


def suggest_options(root: Path) -> dict[str, object] | None:
    """Returns options with which the images and labels under `root` pair; None if none are found.

    Args:
      root: the folder that holds no split named as `folder` expects it.
    """
    below = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    image, label = _named(below, _IMAGES), _named(below, _LABELS)
    if image and label:
        lists = next((pattern for pattern in _LISTS if list(root.glob(pattern.replace("{split}", "*")))), None)
        if lists:
            return {"images": image, "labels": label, "lists": lists}
        shared = {p.name for p in (root / image).iterdir() if p.is_dir()}
        shared &= {p.name for p in (root / label).iterdir() if p.is_dir()}
        if shared & {"train", "training", "val", "validation", "test"}:
            options = {"images": f"{image}/{{split}}", "labels": f"{label}/{{split}}"}
            return {**options, **_suffixes(root / image, root / label)}
        flat = {"images": image, "labels": label, **_suffixes(root / image, root / label)}
        return {**{k: v for k, v in flat.items() if v not in ("images", "labels")}, "split": (0.8, 0.2)}
    for split in below:
        inside = [p for p in split.iterdir() if p.is_dir()]
        image, label = _named(inside, _IMAGES), _named(inside, _LABELS)
        if image and label:
            return {"images": image, "labels": label, **_suffixes(split / image, split / label)}
    return None


def _named(folders: Iterable[Path], names: Iterable[str]) -> str | None:
    """The first of the names, whatever their case, that a folder has."""
    lower = {folder.name.lower(): folder.name for folder in folders}
    return next((lower[name.lower()] for name in names if name.lower() in lower), None)


def _suffixes(images: Path, labels: Path) -> dict[str, str]:
    """The suffixes with which the names in two folders pair, trying each ending that labels have."""
    names = [
        [opening.stem(f) for f in pairs.walk(where) if opening.suffix(f) in known]
        for where, known in ((images, pairs.IMAGES), (labels, pairs.LABELS))
    ]
    if not all(names):
        return {}
    return pairs.suggest_suffixes(*names)


def no_split(root: Path) -> UserError:
    """Returns the error to raise where `root` holds no split: it names the options, where they can be guessed."""
    found = listing([p.name for p in sorted(root.iterdir())]) or "nothing"
    what = f"Data folder '{root}' holds no split: expected {root}/train/images and {root}/train/labels, found {found}."
    options = suggest_options(root)
    if options is None:
        return UserError(f"{what} docs/data.md lists the options for other layouts: images, labels, lists, split …")
    return UserError(f"{what} To read it as it is, set data.options = {options!r}.")
