"""`voc`: PASCAL VOC 2012, 20 classes and the background (Everingham et al., 2010, IJCV 88), and SBD's further labels.

Names, their order and the colors, whose bits are those of the id spread over red, green and blue, are those of the
development kit (VOCcode/VOCinit.m, VOClabelcolormap.m). SBD: Hariharan et al., 2011, ICCV.
"""

import functools
from pathlib import Path

from jaxseg.checks import UserError, listing
from jaxseg.data import listed
from jaxseg.data.dataset import Dataset
from jaxseg.data.pairs import Layout, Pair

_CLASSES = """
background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike,
person, pottedplant, sheep, sofa, train, tvmonitor
"""
_LISTS = "ImageSets/Segmentation/{split}.txt"
_AUGMENTED = ("trainaug", "train_aug")  # the names under which SBD's list for VOC is passed around


def voc(root: str, *, sbd: str = "") -> Dataset:
    """PASCAL VOC 2012, 21 classes; 255, the border of objects, is ignored.

    Splits: train, val and trainval, by the lists in ImageSets/Segmentation. train_aug, the 10 582 images of train and
    of SBD that are not in val: where `sbd` is given, or where root has SegmentationClassAug, a folder of PNG, and
    ImageSets/Segmentation/trainaug.txt (or train_aug.txt).

    Args:
      root: VOC2012, VOCdevkit, or the folder that holds it.
      sbd: benchmark_RELEASE/dataset of SBD, with img and cls, whose labels are .mat.
    """
    parts = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    path = listed.locate(root, "PASCAL VOC 2012", parts, inside=("VOC2012", "VOCdevkit/VOC2012"))
    classes = listed.names_of(_CLASSES)
    colors = tuple(color(i) for i in range(len(classes)))
    values = tuple((i,) for i in range(len(classes)))
    table = listed.Table("PASCAL VOC", classes, colors, values, ignored=(255,))
    files = Layout(path, "JPEGImages", "SegmentationClass", lists=_LISTS)
    names = ("train", "val", "trainval")
    splits = {name: (files, name) for name in names if (path / _LISTS.replace("{split}", name)).is_file()}
    if not splits:
        raise UserError(f"{path} has no list {_LISTS.replace('{split}', 'train')}. Unpack the whole archive again.")
    augmented = next((name for name in _AUGMENTED if (path / _LISTS.replace("{split}", name)).is_file()), None)
    if sbd:
        parts = ("img", "cls", "train.txt", "val.txt")
        folder = listed.locate(sbd, "SBD", parts, inside=("dataset", "benchmark_RELEASE/dataset"))
        splits["train_aug"] = (listed.Listing(functools.partial(_with_sbd, path, folder)), "train_aug")
    elif augmented and (path / "SegmentationClassAug").is_dir():
        splits["train_aug"] = (Layout(path, "JPEGImages", "SegmentationClassAug", lists=_LISTS), augmented)
    return listed.dataset("voc", table, splits)


def color(label: int) -> tuple[int, int, int]:
    """Returns the color of a label in the palette of VOC's files.

    >>> color(1), color(15)
    ((128, 0, 0), (192, 128, 128))
    """
    bits = [[label >> (3 * place + channel) & 1 for place in range(8)] for channel in range(3)]
    return tuple(sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits)


def _with_sbd(path: Path, sbd: Path, split: str) -> list[Pair]:
    """VOC's own train images and labels, and SBD's of all others that are not in VOC's val."""
    lists = {name: listed.names_in(path / _LISTS.replace("{split}", name)) for name in ("train", "val")}
    others = {*listed.names_in(sbd / "train.txt"), *listed.names_in(sbd / "val.txt")}
    others -= {*lists["train"], *lists["val"]}
    pairs = [(n, path / f"JPEGImages/{n}.jpg", path / f"SegmentationClass/{n}.png") for n in lists["train"]]
    pairs += [(n, sbd / f"img/{n}.jpg", sbd / f"cls/{n}.mat") for n in others]
    lacking = [str(file) for _, *files in pairs for file in files if not file.is_file()]
    if lacking:
        raise UserError(f"{len(lacking)} files of the split '{split}' do not exist: {listing(lacking)}.")
    return sorted((Pair(name, str(image), str(label)) for name, image, label in pairs), key=lambda pair: pair.name)
