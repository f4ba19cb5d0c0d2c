"""Folders as people have them: stacks, sub-folders, suffixes, lists, no splits; and the bands that are asked for."""

import json
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data import check_dataset, create_dataset
from jaxseg.data.pairs import suggest_suffixes

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
LABEL = RNG.integers(0, 3, (6, 8), np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


def fill(root, names, image="{}.png", label="{}.png", number=lambda name: 0):
    """Writes an image and a label a name; the label's pixel [0, 0] is `number(name)` + 1, for telling them apart."""
    for name in names:
        mask = LABEL.copy()
        mask[0, 0] = number(name) % 3
        save(root / image.format(name), RGB)
        save(root / label.format(name), mask)


def folder(root, **options):
    return create_dataset("folder", str(root), **{"num_classes": 3, **options})


def names(dataset, split):
    return [dataset.splits[split][i]["name"] for i in range(len(dataset.splits[split]))]


def look(root, **options):
    dataset = folder(root, **options)
    for split in dataset.splits:
        check_dataset(dataset, split)


def advice(root, **options):
    with pytest.raises(UserError) as caught:
        look(root, **options)
    return str(caught.value)


def suggested(root):
    """The options that the error for an unknown layout tells to set."""
    return eval(re.search(r"data\.options = (\{.*\})", advice(root))[1])


def test_a_stack_is_as_many_records(tmp_path):
    images = RNG.integers(0, 4000, (30, 6, 8)).astype(np.uint16)
    labels = RNG.integers(0, 3, (30, 6, 8)).astype(np.uint8)
    save(tmp_path / "train/images/cell.tif", images)
    save(tmp_path / "train/labels/cell.tif", labels)
    save(tmp_path / "train/images/more.npy", images[:4, ..., None])
    save(tmp_path / "train/labels/more.npy", labels[:4])
    save(tmp_path / "train/images/one.tif", images[0])
    save(tmp_path / "train/labels/one.png", labels[0])
    dataset = folder(tmp_path)
    assert len(dataset.splits["train"]) == 35
    found = names(dataset, "train")
    assert found[7] == "cell[07]"
    assert found[30:] == ["more[0]", "more[1]", "more[2]", "more[3]", "one"]
    record = dataset.splits["train"][29]
    np.testing.assert_array_equal(record["image"][..., 0], images[29])
    np.testing.assert_array_equal(record["label"], labels[29])
    assert (dataset.bands.names, dataset.bands.dtype) == (("gray",), "uint16")
    save(tmp_path / "train/labels/cell.tif", labels[:1, :, :])
    assert "cell.tif holds 30 pages, but its label" in advice(tmp_path)


def test_windows_of_records(tmp_path):
    big = RNG.integers(0, 255, (60, 80, 3)).astype(np.uint8)
    labels = RNG.integers(0, 3, (60, 80)).astype(np.uint8)
    for name in ("a.tif", "b.png"):
        save(tmp_path / "train/images" / name, big)
        save(tmp_path / "train/labels" / name, labels)
    source = folder(tmp_path).splits["train"]
    for i in range(2):
        assert source.size(i) == (60, 80)
        part = source.read(i, window=(10, 20, 30, 40))
        np.testing.assert_array_equal(part["image"], big[10:40, 20:60])
        np.testing.assert_array_equal(part["label"], labels[10:40, 20:60])
        assert part["name"] == "ab"[i]
    save(tmp_path / "train/labels/b.png", np.zeros((61, 80), np.uint8))
    with pytest.raises(UserError, match="is 80x61"):
        folder(tmp_path).splits["train"].read(1, window=(10, 20, 30, 40))


@pytest.mark.parametrize(
    "pixels,names,dtype",
    [
        (RNG.integers(0, 4000, (6, 8, 13)).astype(np.uint16), tuple(f"band{i}" for i in range(13)), "uint16"),
        (RNG.normal(size=(6, 8, 5)).astype(np.float32), tuple(f"band{i}" for i in range(5)), "float32"),
        (RNG.integers(-1000, 1000, (6, 8)).astype(np.int16), ("gray",), "int16"),
    ],
)
def test_many_bands(tmp_path, pixels, names, dtype):
    (tmp_path / "train/images").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "train/images/a.tif", pixels, photometric="minisblack", planarconfig="contig")
    save(tmp_path / "train/labels/a.png", LABEL)
    dataset = folder(tmp_path)
    assert (dataset.bands.names, dataset.bands.dtype, dataset.bands.window) == (names, dtype, None)
    check_dataset(dataset, "train")
    np.testing.assert_array_equal(dataset.splits["train"][0]["image"], pixels.reshape(6, 8, -1))
    chosen = folder(tmp_path, bands=(0, names[-1]), window=(10, 500), nodata=7)
    assert chosen.bands.names == (names[0], names[-1])
    assert chosen.bands.window == ((10, 500), (10, 500))
    assert chosen.bands.nodata == 7
    np.testing.assert_array_equal(chosen.splits["train"][0]["image"], pixels.reshape(6, 8, -1)[..., [0, -1]])
    assert folder(tmp_path, percentiles=(1, 99)).bands.percentiles == (1, 99)


def test_bands_that_files_do_not_have(tmp_path):
    fill(tmp_path / "train", ["a"], "images/{}.png", "labels/{}.png")
    assert "has no band 'rde'. Did you mean 'red'?" in advice(tmp_path, bands=("rde",))
    assert "has 3 bands (red, green, blue), counted from 0; there is no band 3" in advice(tmp_path, bands=(0, 3))
    assert "not both" in advice(tmp_path, window=(0, 1), percentiles=(1, 99))
    assert folder(tmp_path, bands=("green",)).splits["train"][0]["image"].shape == (6, 8, 1)


def test_suffixes(tmp_path):
    fill(tmp_path / "train", ["p0", "p1"], "images/{}.png", "labels/{}_mask.png")
    message = advice(tmp_path)
    assert "2 images have no label" in message
    assert 'would pair with data.options.label_suffix="_mask"' in message
    assert names(folder(tmp_path, label_suffix="_mask"), "train") == ["p0", "p1"]


@pytest.mark.parametrize(
    "images,labels,options",
    [
        (["a", "b"], ["a", "b"], {}),
        (["a_x", "b_x"], ["a", "b"], {"image_suffix": "_x"}),
        (["c_0_leftImg8bit", "d_1_leftImg8bit"], ["c_0_gt_ids", "d_1_gt_ids"],
         {"image_suffix": "_leftImg8bit", "label_suffix": "_gt_ids"}),
        (["a", "b"], ["c_mask", "d_mask"], {}),
        (["p1"], ["p1_mask"], {"label_suffix": "_mask"}),
    ],
)  # fmt: skip
def test_suffixes_are_found(images, labels, options):
    assert suggest_suffixes(images, labels) == options


def test_sub_folders(tmp_path):
    for city in ("aachen", "bochum"):
        fill(tmp_path / "train", [f"{city}/x", f"{city}/{city}_1"], "images/{}.png", "labels/{}.png", len)
    dataset = folder(tmp_path)
    assert names(dataset, "train") == ["aachen_aachen_1", "aachen_x", "bochum_bochum_1", "bochum_x"]
    (tmp_path / "train/images/.cache").mkdir()
    save(tmp_path / "train/images/.cache/y.png", RGB)
    for city in ("aachen", "bochum"):
        for kind in ("images", "labels"):
            (tmp_path / "train" / kind / city / "x.png").unlink()
    assert names(folder(tmp_path), "train") == ["aachen_1", "bochum_1"]
    # The same names without the folders pair too.
    (tmp_path / "train/labels/aachen/aachen_1.png").rename(tmp_path / "train/labels/aachen_1.png")
    (tmp_path / "train/labels/bochum/bochum_1.png").rename(tmp_path / "train/labels/bochum_1.png")
    assert names(folder(tmp_path), "train") == ["aachen_1", "bochum_1"]


def test_cityscapes_as_downloaded(tmp_path):
    for split in ("train", "val"):
        for city in ("aachen", "bochum"):
            image = f"leftImg8bit/{split}/{city}/{{}}_leftImg8bit.png"
            fill(tmp_path, [f"{city}_0_1", f"{city}_2_3"], image, f"gtFine/{split}/{city}/{{}}_gtFine_labelIds.png")
    options = suggested(tmp_path)
    assert options == {
        "images": "leftImg8bit/{split}",
        "labels": "gtFine/{split}",
        "image_suffix": "_leftImg8bit",
        "label_suffix": "_gtFine_labelIds",
    }
    save(tmp_path / "gtFine/val/aachen/aachen_0_1_gtFine_color.png", RGB)  # files without the suffix do not matter
    dataset = folder(tmp_path, **options)
    assert list(dataset.splits) == ["train", "val"]
    assert names(dataset, "val") == ["aachen_0_1", "aachen_2_3", "bochum_0_1", "bochum_2_3"]
    check_dataset(dataset, "val")


def test_voc_as_downloaded(tmp_path):
    fill(tmp_path, ["2007_1", "2007_2", "2007_3", "2007_4"], "JPEGImages/{}.png", "SegmentationClass/{}.png")
    save(tmp_path / "JPEGImages/2007_5.png", RGB)  # most images of VOC have no label
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_2\r\n2007_1\r\n")
    (lists / "val.txt").write_text("/JPEGImages/2007_4.png /SegmentationClass/2007_4.png\n\n")
    options = suggested(tmp_path)
    assert options["lists"] == "ImageSets/Segmentation/{split}.txt"
    dataset = folder(tmp_path, **options)
    assert {split: names(dataset, split) for split in dataset.splits} == {
        "train": ["2007_1", "2007_2"],
        "val": ["2007_4"],
    }
    only = folder(tmp_path, **{**options, "lists": {"fit": "ImageSets/Segmentation/train.txt"}})
    assert {split: names(only, split) for split in only.splits} == {"fit": ["2007_1", "2007_2"]}
    (lists / "val.txt").write_text("2007_9\n2007_5\n")
    assert "1 names of the list of split 'val' have no file" in advice(tmp_path, **options)


def test_folders_in_lists_are_those_of_the_files(tmp_path):
    """Each sequence has a 0001: that of one in the list of another split would be scored on what was trained on."""
    fill(tmp_path, ["seq1/0001", "seq1/0002", "seq2/0001"], "images/{}.png", "labels/{}.png")
    (tmp_path / "train.txt").write_text("seq1/0001\nimages/seq1/0002.png\n")
    (tmp_path / "val.txt").write_text("seq3/0001\n")
    options = {"lists": "{split}.txt"}
    assert "1 names of the list of split 'val' have no file" in advice(tmp_path, **options)
    (tmp_path / "val.txt").write_text("0001\n")
    assert "names '0001', and there are 2 such files" in advice(tmp_path, **options)
    (tmp_path / "val.txt").write_text("seq2/0001\n")
    dataset = folder(tmp_path, **options)
    assert [pair.image[-13:] for pair in dataset.splits["val"].source.pairs] == ["seq2/0001.png"]
    (tmp_path / "train.txt").write_text("seq1/0002\n")
    (tmp_path / "val.txt").write_text("seq1/0001\n")
    (tmp_path / "labels/seq1/0001.png").unlink()  # that of seq2/0001 is no stand-in
    assert "1 names of the list of split 'val' have no file" in advice(tmp_path, **options)


def test_labels_of_a_list_may_lie_in_folders_of_their_own(tmp_path):
    fill(tmp_path, ["0001", "0002"], "images/rgb/{}.png", "labels/gt/{}.png")
    (tmp_path / "val.txt").write_text("rgb/0001\n")
    assert names(folder(tmp_path, lists="{split}.txt"), "val") == ["0001"]


def test_images_and_masks_without_splits(tmp_path):
    people = [f"p{i:02d}_{eye}" for i in range(20) for eye in ("l", "r")]
    fill(tmp_path, people, "images/{}.png", "masks/{}_mask.png")
    options = suggested(tmp_path)
    assert options == {"labels": "masks", "label_suffix": "_mask", "split": (0.8, 0.2)}
    dataset = folder(tmp_path, **options)
    train, val = names(dataset, "train"), names(dataset, "val")
    assert sorted(train + val) == people
    assert (len(train), len(val)) == (32, 8)
    assert val != people[-8:]
    assert names(folder(tmp_path, **options, seed=1), "val") != val
    grouped = folder(tmp_path, **options, group=r"^(p\d+)_")
    sides = [{name[:3] for name in names(grouped, split)} for split in ("train", "val")]
    assert not sides[0] & sides[1]
    assert len(sides[0]) == 16
    three = folder(tmp_path, **{**options, "split": {"fit": 2, "look": 1, "end": 1}})
    assert {split: len(source) for split, source in three.splits.items()} == {"fit": 20, "look": 10, "end": 10}
    assert "does not match the name 'p00_l'" in advice(tmp_path, **options, group="x(.)")
    assert "in 1 group cannot be divided into 2 splits" in advice(tmp_path, **options, group="p")
    assert "is no division" in advice(tmp_path, **{**options, "split": (0.8, 0.0)})


def test_the_pages_of_a_stack_stay_on_one_side(tmp_path):
    for i in range(4):
        save(tmp_path / f"images/v{i}.tif", RNG.integers(0, 400, (5, 6, 8)).astype(np.uint16))
        save(tmp_path / f"labels/v{i}.tif", RNG.integers(0, 3, (5, 6, 8)).astype(np.uint8))
    dataset = folder(tmp_path, split=(0.5, 0.5))
    sides = [{name[:2] for name in names(dataset, split)} for split in ("train", "val")]
    assert not sides[0] & sides[1]
    assert [len(dataset.splits[s]) for s in ("train", "val")] == [10, 10]


def test_other_names_of_the_two_folders(tmp_path):
    fill(tmp_path / "train", ["a", "b"], "imgs/{}.png", "masks/{}.png")
    assert suggested(tmp_path) == {"images": "imgs", "labels": "masks"}
    dataset = folder(tmp_path, images="imgs", labels="masks")
    assert names(dataset, "train") == ["a", "b"]


def test_images_and_labels_in_one_folder(tmp_path):
    fill(tmp_path / "train", ["a", "b"], "{}.png", "{}_mask.png")
    dataset = folder(tmp_path, images=".", labels=".", label_suffix="_mask")
    assert names(dataset, "train") == ["a", "b"]
    check_dataset(dataset, "train")


def test_a_layout_that_nobody_knows(tmp_path):
    (tmp_path / "stuff").mkdir()
    message = advice(tmp_path)
    assert "holds no split" in message
    assert "found stuff" in message
    assert "docs/data.md lists the options for other layouts" in message


def test_one_class_of_stored_values(tmp_path):
    for name in "ab":
        save(tmp_path / f"train/images/{name}.png", RGB)
        save(tmp_path / f"train/labels/{name}.png", 255 * (LABEL > 0).astype(np.uint8))
    (tmp_path / "classes.json").write_text(json.dumps({"ignore": 254, "classes": [{"name": "cell", "values": [255]}]}))
    dataset = create_dataset("folder", str(tmp_path))
    assert (dataset.classes, dataset.values, dataset.ignore) == (("cell",), ((255,),), 254)
    check_dataset(dataset, "train")
    np.testing.assert_array_equal(dataset.splits["train"][0]["label"], LABEL > 0)


def test_a_patient_on_both_sides_is_noticed(tmp_path):
    """Where the splits are given, `group` says whose images must not be in two of them."""
    for split, patients in (("train", "12"), ("val", "34")):
        fill(
            tmp_path,
            [f"p{p}_s{i}" for p in patients for i in range(3)],
            f"{split}/images/{{}}.png",
            f"{split}/labels/{{}}.png",
        )
    group = {"group": r"^(p\d+)_"}
    look(tmp_path, **group)
    fill(tmp_path, ["p2_s7"], "val/images/{}.png", "val/labels/{}.png")
    look(tmp_path)
    assert "The splits 'train' and 'val' both have images of p2, which group=" in advice(tmp_path, **group)
    (tmp_path / "train.txt").write_text("p1_s0\np2_s0\n")
    (tmp_path / "val.txt").write_text("p1_s1\n")
    fill(tmp_path, ["p1_s0", "p1_s1", "p2_s0"], "images/{}.png", "labels/{}.png")
    assert "both have images of p1" in advice(tmp_path, **group, lists="{split}.txt")


def test_what_is_no_list_and_no_group_is_said(tmp_path):
    fill(tmp_path, ["a_1", "2"], "images/{}.png", "labels/{}.png")
    (tmp_path / "val.txt").write_bytes("straße\n".encode("latin-1"))
    assert "val.txt does not read: 'utf-8' codec can't decode" in advice(tmp_path, lists="{split}.txt")
    assert "group='(' is no regular expression: missing )" in advice(tmp_path, split=(0.5, 0.5), group="(")
    assert "does not match the name '2'" in advice(tmp_path, split=(0.5, 0.5), group="([a-z])?")
