"""Tiny trees in the layouts in which the published data sets are downloaded, and what their labels mean.

Each function of `TREES` makes a tree and returns {split: [names]}; `label(i, values)` is what the i-th label file of a
split stores, for the values that the set has.
"""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SIZE = (6, 8)
CITY = [(0, None), (1, None), (6, None), (7, 0), (8, 1), (11, 2), (24, 11), (29, None), (33, 18), (4, None)]
"""Stored ids of Cityscapes, and the train id of each; None if it is ignored."""


def label(i: int, values: list[int]) -> np.ndarray:
    """Stored values, uint8[6, 8]: all of them occur, in an order that depends on `i`."""
    return np.resize(np.roll(np.array(values, np.uint8), i), SIZE)


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(1, 256, (*SIZE, 3), np.uint8)


def write(path: Path, array: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette([255 - i % 256 for i in range(768)])
    picture.save(path)


def cityscapes(root: Path) -> dict[str, list[str]]:
    names = {"train": [], "val": [], "test": []}
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau"), ("test", "berlin")):
        for i in range(2):
            name = f"{city}_00000{i}_000019"
            values = [v for v, _ in CITY] if split != "test" else [0, 3]
            write(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", image(i))
            folder = root / f"gtFine/{split}/{city}"
            write(folder / f"{name}_gtFine_labelIds.png", label(i, values))
            write(folder / f"{name}_gtFine_color.png", image(i))
            write(folder / f"{name}_gtFine_instanceIds.png", label(i, values))
            (folder / f"{name}_gtFine_polygons.json").write_text("{}")
            names[split].append(name)
    return names


def voc(root: Path) -> dict[str, list[str]]:
    names = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033", "2007_000042"]}
    names["trainval"] = sorted(names["train"] + names["val"])
    folder = root / "VOCdevkit/VOC2012"
    for i, name in enumerate(names["trainval"]):
        write(folder / f"JPEGImages/{name}.jpg", image(i))
        write(folder / f"SegmentationClass/{name}.png", label(i, [0, 1, 15, 20, 255]), palette=True)
    write(folder / "JPEGImages/2008_000001.jpg", image(9))  # without a label, as most
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    for split, listed in names.items():
        (folder / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in listed))
    return names


def ade20k(root: Path) -> dict[str, list[str]]:
    names = {}
    for split, called in (("train", "training"), ("val", "validation")):
        names[split] = [f"ADE_{split}_0000000{i}" for i in (1, 2)]
        for i, name in enumerate(names[split]):
            write(root / f"ADEChallengeData2016/images/{called}/{name}.jpg", image(i))
            write(root / f"ADEChallengeData2016/annotations/{called}/{name}.png", label(i, [0, 1, 2, 149, 150]))
    return names


def coco_stuff(root: Path) -> dict[str, list[str]]:
    names = {}
    for split in ("train", "val"):
        names[split] = ["000000000139", "000000000285"]
        for i, name in enumerate(names[split]):
            write(root / f"images/{split}2017/{name}.jpg", image(i))
            write(root / f"stuffthingmaps/{split}2017/{name}.png", label(i, [0, 10, 12, 91, 181, 255]))
    return names


def camvid(root: Path) -> dict[str, list[str]]:
    names = {"train": ["0001TP_006690", "0006R0_f00930"], "val": ["0016E5_07959", "0016E5_07961"]}
    names["test"] = ["0001TP_008550", "Seq05VD_f00000"]
    for split, listed in names.items():
        for i, name in enumerate(listed):
            write(root / split / f"{name}.png", image(i))
            write(root / f"{split}annot" / f"{name}.png", label(i, [0, 3, 10, 11]))
        (root / f"{split}.txt").write_text("")
    return names


def oxford_pet(root: Path) -> dict[str, list[str]]:
    trainval = [f"Abyssinian_{i}" for i in range(100, 112)]
    names = {"train": [n for i, n in enumerate(trainval) if i % 10], "val": [trainval[0], trainval[10]]}
    names |= {"trainval": trainval, "test": ["Bengal_1", "Bengal_2"]}
    for i, name in enumerate(trainval + names["test"]):
        write(root / f"images/{name}.jpg", image(i))
        write(root / f"annotations/trimaps/{name}.png", label(i, [1, 2, 3]))
    (root / "images/Abyssinian_100.mat").write_bytes(b"MATLAB")
    (root / "annotations/trimaps/._Abyssinian_100.png").write_bytes(b"Mac")
    for split in ("trainval", "test"):
        text = "".join(f"{name} 1 1 1\n" for name in names[split])
        (root / f"annotations/{split}.txt").write_text(text)
    return names


def isbi(root: Path) -> dict[str, list[str]]:
    root.mkdir(parents=True, exist_ok=True)
    volume = np.stack([image(i)[..., 0] for i in range(30)])
    tifffile.imwrite(root / "train-volume.tif", volume, photometric="minisblack")
    tifffile.imwrite(root / "test-volume.tif", volume, photometric="minisblack")
    labels = np.stack([label(i, [0, 255]) for i in range(30)])
    tifffile.imwrite(root / "train-labels.tif", labels, photometric="minisblack")
    names = [f"train[{i:02d}]" for i in range(30)]
    return {"train": names[:24], "val": names[24:], "all": names}


# name of the set -> what makes its tree; {stored value: class id}, 255 where ignored
TREES = {
    "ade20k": (ade20k, {0: 255, 1: 0, 2: 1, 149: 148, 150: 149}),
    "camvid": (camvid, {0: 0, 3: 3, 10: 10, 11: 255}),
    "cityscapes": (cityscapes, {v: 255 if t is None else t for v, t in CITY}),
    "coco_stuff": (coco_stuff, {0: 0, 10: 10, 12: 11, 91: 80, 181: 170, 255: 255}),
    "isbi": (isbi, {255: 0, 0: 1}),
    "oxford_pet": (oxford_pet, {1: 0, 2: 1, 3: 2}),
    "voc": (voc, {0: 0, 1: 1, 15: 15, 20: 20, 255: 255}),
}
