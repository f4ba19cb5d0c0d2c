"""The published data sets, from tiny trees in their own layouts."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data import create_dataset
from tests.data import trees
from tests.data.trees import TREES

FACTS = {  # classes, and the stored value of some: (name, class id, value)
    "ade20k": (150, [("wall", 0, 1), ("person", 12, 13), ("flag", 149, 150)]),
    "camvid": (11, [("sky", 0, 0), ("bicyclist", 10, 10)]),
    "cityscapes": (19, [("road", 0, 7), ("person", 11, 24), ("train", 16, 31), ("bicycle", 18, 33)]),
    "coco_stuff": (171, [("person", 0, 0), ("stop sign", 11, 12), ("toothbrush", 79, 89), ("wood", 170, 181)]),
    "isbi": (2, [("cell", 0, 255), ("membrane", 1, 0)]),
    "oxford_pet": (3, [("pet", 0, 1), ("outline", 2, 3)]),
    "voc": (21, [("background", 0, 0), ("person", 15, 15), ("tvmonitor", 20, 20)]),
}


@pytest.mark.parametrize("name", TREES)
def test_stored_values_become_class_ids_and_back(name, tmp_path):
    make, meaning = TREES[name]
    names = make(tmp_path)
    data = create_dataset(name, str(tmp_path))
    assert {split: [data.splits[split][i]["name"].removesuffix("_leftImg8bit") for i in range(len(listed))]
            for split, listed in names.items()} == names  # fmt: skip
    assert all(len(data.splits[split]) == len(listed) for split, listed in names.items())
    seen = set()
    for split in ("train", "val"):
        record = data.splits[split][1]
        found = record["label"]
        stored = trees.label({"oxford_pet": 2, "isbi": 1}.get(name, 1), list(meaning))
        assert found.shape == trees.SIZE
        assert set(np.unique(found)) == {*meaning.values()}
        if name in ("ade20k", "camvid", "coco_stuff", "cityscapes"):
            np.testing.assert_array_equal(found, np.vectorize(meaning.get)(stored))
            kept = found != 255
            first = np.array([of_class[0] for of_class in data.values])
            np.testing.assert_array_equal(first[found[kept]], stored[kept])  # what `predict --values` writes
        part = data.splits[split].read(1, (1, 2, 3, 4))
        np.testing.assert_array_equal(part["label"], found[1:4, 2:6])
        np.testing.assert_array_equal(part["image"], record["image"][1:4, 2:6])
        seen.update(np.unique(found).tolist())
    count, known = FACTS[name]
    assert data.num_classes == count == len(data.values)
    for called, label, value in known:
        assert (data.classes[label], data.values[label][0]) == (called, value)


def test_cityscapes_of_the_test_split_is_all_ignored(tmp_path):
    trees.cityscapes(tmp_path)
    test = create_dataset("cityscapes", str(tmp_path)).splits["test"]
    assert len(test) == 2 and (test[0]["label"] == 255).all()


def test_cityscapes_coarse(tmp_path):
    for split in ("train", "train_extra"):
        trees.write(tmp_path / f"leftImg8bit/{split}/ulm/ulm_0_leftImg8bit.png", trees.image(0))
        trees.write(tmp_path / f"gtCoarse/{split}/ulm/ulm_0_gtCoarse_labelIds.png", trees.label(0, [7, 26]))
    data = create_dataset("cityscapes", str(tmp_path), annotations="gtCoarse")
    assert set(data.splits) == {"train", "train_extra"}
    np.testing.assert_array_equal(data.splits["train_extra"][0]["label"], trees.label(0, [0, 13]))


def test_camvid_in_colors(tmp_path):
    void, child, car, wall = (0, 0, 0), (192, 128, 64), (64, 0, 128), (64, 192, 0)
    frames = {"0001TP_008520": "train", "0001TP_008550": "test", "0016E5_07959": "val", "0016E5_07960": "train"}
    for name in frames:
        trees.write(tmp_path / f"701_StillsRaw_full/{name}.png", trees.image(0)[:2, :2])
        colors = np.array([[void, child], [car, wall]], np.uint8)
        trees.write(tmp_path / f"LabeledApproved_full/{name}_L.png", colors)
    data = create_dataset("camvid", str(tmp_path))
    for split in ("train", "val", "test"):
        source = data.splits[split]
        assert [source[i]["name"] for i in range(len(source))] == [n for n, s in frames.items() if s == split]
    np.testing.assert_array_equal(data.splits["val"][0]["label"], [[255, 9], [8, 1]])
    assert data.values is None
    trees.write(tmp_path / "LabeledApproved_full/0016E5_07959_L.png", np.full((2, 2, 3), 7, np.uint8))
    with pytest.raises(UserError, match=r"holds the colors \(7, 7, 7\), which mean nothing in CamVid"):
        create_dataset("camvid", str(tmp_path)).splits["val"][0]


def test_voc_with_sbd_as_it_is_published(tmp_path):
    trees.voc(tmp_path)
    sbd = tmp_path / "benchmark_RELEASE/dataset"
    (sbd / "cls").mkdir(parents=True)
    for i, name in enumerate(("2008_000001", "2007_000033", "2007_000032", "2010_000002")):
        trees.write(sbd / f"img/{name}.jpg", trees.image(i))
        scipy.io.savemat(sbd / f"cls/{name}.mat", {"GTcls": {"Segmentation": trees.label(i, [0, 20, 255])}})
    (sbd / "train.txt").write_text("2008_000001\n2007_000033\n")
    (sbd / "val.txt").write_text("2007_000032\n2010_000002\n")
    source = create_dataset("voc", str(tmp_path), sbd=str(tmp_path)).splits["train_aug"]
    names = [source[i]["name"] for i in range(len(source))]
    assert names == ["2007_000032", "2007_000039", "2008_000001", "2010_000002"]  # none of val, VOC's own labels first
    assert set(np.unique(source[0]["label"])) == {0, 1, 15, 20, 255}
    np.testing.assert_array_equal(source[2]["label"], trees.label(0, [0, 20, 255]))
    np.testing.assert_array_equal(source.read(3, (1, 2, 3, 4))["label"], trees.label(3, [0, 20, 255])[1:4, 2:6])
    (sbd / "cls/2008_000001.mat").write_bytes(b"MATLAB 5.0 cut")
    with pytest.raises(UserError, match=r"2008_000001\.mat does not read"):
        source[2]


def test_voc_with_sbd_as_png(tmp_path):
    trees.voc(tmp_path)
    folder = tmp_path / "VOCdevkit/VOC2012"
    for i, name in enumerate(("2007_000032", "2008_000001")):
        trees.write(folder / f"SegmentationClassAug/{name}.png", trees.label(i, [0, 7, 255]))
    lines = [f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png\n" for n in ("2007_000032", "2008_000001")]
    (folder / "ImageSets/Segmentation/train_aug.txt").write_text("".join(lines))
    source = create_dataset("voc", str(folder)).splits["train_aug"]
    assert [source[i]["name"] for i in range(len(source))] == ["2007_000032", "2008_000001"]
    np.testing.assert_array_equal(source[1]["label"], trees.label(1, [0, 7, 255]))


@pytest.mark.parametrize("outline, labels", [("class", [0, 1, 2]), ("ignored", [0, 1, 255]), ("pet", [0, 1, 0])])
def test_the_outline_of_pets(outline, labels, tmp_path):
    trees.oxford_pet(tmp_path)
    data = create_dataset("oxford_pet", str(tmp_path), outline=outline)
    np.testing.assert_array_equal(data.splits["test"][0]["label"], trees.label(12, labels))
    assert data.num_classes == (3 if outline == "class" else 2)


def test_slices_of_isbi(tmp_path):
    trees.isbi(tmp_path)
    data = create_dataset("isbi", str(tmp_path), val=10)
    assert [len(data.splits[s]) for s in ("train", "val", "all")] == [20, 10, 30]
    record = data.splits["val"][3]
    np.testing.assert_array_equal(record["image"], np.repeat(trees.image(23)[..., :1], 3, axis=2))
    np.testing.assert_array_equal(record["label"], trees.label(23, [1, 0]))
    with pytest.raises(UserError, match="val=30 leaves none to train on"):
        len(create_dataset("isbi", str(tmp_path), val=30).splits["train"])


@pytest.mark.parametrize(
    "name, gone, message",
    [
        (
            "cityscapes",
            "gtFine",
            r"is not Cityscapes as it is downloaded: it has no gtFine; it holds leftImg8bit\. Exp",
        ),
        ("voc", "VOCdevkit/VOC2012/SegmentationClass", "is not PASCAL VOC 2012 .* Expected JPEGImages, Segmentation"),
        ("ade20k", "ADEChallengeData2016/annotations/training", r"it has no .*annotations/training.* ADEChallengeData"),
        ("coco_stuff", "stuffthingmaps", r"it has no stuffthingmaps/val2017 \(or annotations/val2017\)\. Unpack"),
        ("camvid", "trainannot", "it has no trainannot; it holds test, test.txt, testannot, train"),
        ("oxford_pet", "annotations/trimaps", "is not Oxford-IIIT Pet .* it has no annotations/trimaps"),
        ("isbi", "train-labels.tif", "it has no train-labels.tif; it holds test-volume.tif, train-volume.tif"),
    ],
)
def test_a_tree_that_is_not_as_downloaded(name, gone, message, tmp_path):
    TREES[name][0](tmp_path)
    (tmp_path / gone).rename(tmp_path.parent / f"{tmp_path.name} gone")
    with pytest.raises(UserError, match=message):
        create_dataset(name, str(tmp_path))
    with pytest.raises(UserError, match="does not exist. Set data.root"):
        create_dataset(name, str(tmp_path / "nowhere"))


def test_labels_of_another_set_are_an_error(tmp_path):
    trees.ade20k(tmp_path)
    file = tmp_path / "ADEChallengeData2016/annotations/training/ADE_train_00000001.png"
    Image.fromarray(np.full(trees.SIZE, 151, np.uint8)).save(file)
    with pytest.raises(UserError, match=r"ADE_train_00000001\.png holds the values 151, which mean nothing in ADE20K"):
        create_dataset("ade20k", str(tmp_path)).splits["train"][0]
    trees.write(file, trees.image(0))
    with pytest.raises(UserError, match="is coded in colors. The labels of ADE20K are one band of numbers"):
        create_dataset("ade20k", str(tmp_path)).splits["train"][0]
