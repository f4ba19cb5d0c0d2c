"""`cityscapes`: streets of 50 cities, 19 of 35 classes count (Cordts et al., 2016, CVPR, arXiv:1604.01685).

Names, ids, colors and which classes count are those of cityscapesscripts/helpers/labels.py of the set's own scripts,
mcordts/cityscapesScripts: "trainId" is the class id here, "id" the stored value.
"""

from typing import Literal

from jaxseg.checks import UserError
from jaxseg.data import listed
from jaxseg.data.dataset import Dataset
from jaxseg.data.pairs import Layout

_CLASSES = """
road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, rider, car,
truck, bus, train, motorcycle, bicycle
"""
_COLORS = """
804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64 005064
0000e6 770b20
"""
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def cityscapes(root: str, *, annotations: Literal["gtFine", "gtCoarse"] = "gtFine") -> Dataset:
    """Cityscapes, 19 classes, 1024 x 2048 pixels; reads the files *_labelIds.png, whose other ids are ignored.

    Splits: train and val; train_extra with gtCoarse; test, whose labels are withheld and all ignored, to predict.

    Args:
      root: the folder that holds leftImg8bit and gtFine.
      annotations: fine or coarse ones.
    """
    path = listed.locate(root, "Cityscapes", ("leftImg8bit", annotations))
    classes = listed.names_of(_CLASSES)
    others = tuple(i for i in range(-1, 34) if i not in _IDS)
    values = tuple((i,) for i in _IDS)
    table = listed.Table("Cityscapes", classes, listed.colors_of(_COLORS), values, ignored=(*others, 255))
    names = {"images": "leftImg8bit/{split}", "labels": f"{annotations}/{{split}}"}
    files = Layout(path, **names, image_suffix="_leftImg8bit", label_suffix=f"_{annotations}_labelIds")
    known = ("train", "train_extra", "val", "test")
    splits = {name: (files, name) for name in known if all(folder.is_dir() for folder in files.folders(name))}
    if not splits:
        raise UserError(
            f"'{root}' holds no split of Cityscapes: expected leftImg8bit/train and {annotations}/train, or val. Unpack"
            f" leftImg8bit_trainvaltest.zip and {annotations}.zip into one folder."
        )
    return listed.dataset("cityscapes", table, splits)
