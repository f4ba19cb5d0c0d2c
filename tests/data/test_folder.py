"""Every kind of file that a folder may hold, and every way in which it may be wrong."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data import check_dataset, create_dataset

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (6, 8), np.uint8)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
LABEL = RNG.integers(0, 3, (6, 8), np.uint8)
COLORS = [[128, 64, 128], [0, 200, 0], [10, 20, 30]]
CLASSES = [{"id": i, "name": n, "color": c} for i, (n, c) in enumerate(zip("abc", COLORS, strict=True))]


def put(root, image, label, *, split="train", name="p", sample=".png", suffix=".png"):
    for kind, what, end in (("images", image, sample), ("labels", label, suffix)):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
        what = what if isinstance(what, Image.Image) else Image.fromarray(what)
        what.save(root / split / kind / f"{name}{end}")


def legend(root, classes=CLASSES, **fields):
    (root / "classes.json").write_text(json.dumps({"classes": classes, **fields}))


def only(root, **options):
    return create_dataset("folder", str(root), **options).splits["train"][0]


def palette_image():
    image = Image.fromarray(GRAY % 4).convert("P")
    image.putpalette([5, 6, 7, 50, 60, 70, 250, 0, 0, 1, 2, 3])
    return image, np.array([[5, 6, 7], [50, 60, 70], [250, 0, 0], [1, 2, 3]], np.uint8)[GRAY % 4]


def samples():
    yield "gray.png", Image.fromarray(GRAY), np.repeat(GRAY[..., None], 3, 2)
    yield "rgb.png", Image.fromarray(RGB), RGB
    yield "rgb.tif", Image.fromarray(RGB), RGB
    yield "rgb.TIFF", Image.fromarray(RGB), RGB
    yield "rgb.bmp", Image.fromarray(RGB), RGB
    yield "rgba.png", Image.fromarray(np.dstack([RGB, GRAY])), RGB
    yield "gray_alpha.png", Image.fromarray(np.dstack([GRAY, GRAY])), np.repeat(GRAY[..., None], 3, 2)
    yield "bits.png", Image.fromarray(GRAY > 99), np.repeat(np.uint8(255) * (GRAY > 99)[..., None], 3, 2)
    yield "palette.png", *palette_image()
    yield "palette.gif", *palette_image()
    wide = GRAY.astype(np.uint16) * 16  # what is not of 8 bits stays as it is stored, in all its bands
    yield "wide.png", Image.fromarray(wide), wide[..., None]
    yield "wide.tif", Image.fromarray(wide), wide[..., None]
    yield "float.tif", Image.fromarray(GRAY.astype(np.float32)), GRAY.astype(np.float32)[..., None]


@pytest.mark.parametrize("name,image,expected", list(samples()), ids=lambda v: v if isinstance(v, str) else "")
def test_images(tmp_path, name, image, expected):
    stem, _, end = name.partition(".")
    put(tmp_path, image, LABEL, name=stem, sample=f".{end}")
    legend(tmp_path)
    record = only(tmp_path)
    assert record["image"].dtype == expected.dtype == create_dataset("folder", str(tmp_path)).bands.dtype
    np.testing.assert_array_equal(record["image"], expected)
    np.testing.assert_array_equal(record["label"], LABEL)
    assert record["name"] == stem


@pytest.mark.parametrize("end", [".jpg", ".jpeg", ".webp"])
def test_lossy_images(tmp_path, end):
    smooth = np.broadcast_to(np.arange(0, 160, 20, dtype=np.uint8)[None, :, None], (6, 8, 3))
    put(tmp_path, smooth, LABEL, sample=end)
    legend(tmp_path)
    assert np.abs(only(tmp_path)["image"].astype(int) - smooth).max() < 16


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    turned = Image.fromarray(np.rot90(RGB))
    put(tmp_path, RGB, LABEL)
    turned.save(tmp_path / "train" / "images" / "p.png", exif=exif)
    legend(tmp_path)
    np.testing.assert_array_equal(only(tmp_path)["image"], RGB)


@pytest.mark.parametrize("orientation,times", [(3, 2), (6, 1), (8, 3)])
def test_a_label_is_turned_by_its_own_exif(tmp_path, orientation, times):
    exif = Image.Exif()
    exif[0x0112] = orientation
    put(tmp_path, RGB, LABEL)
    for kind, upright in (("images", RGB), ("labels", LABEL)):
        Image.fromarray(np.ascontiguousarray(np.rot90(upright, times))).save(
            tmp_path / "train" / kind / "p.png", exif=exif
        )
    legend(tmp_path)
    np.testing.assert_array_equal(only(tmp_path)["image"], RGB)
    np.testing.assert_array_equal(only(tmp_path)["label"], LABEL)
    Image.fromarray(np.rot90(LABEL)).save(tmp_path / "train" / "labels" / "p.png")  # of the label, nothing is said
    if times % 2:
        with pytest.raises(UserError, match="The EXIF data of one of the two turn it"):
            only(tmp_path)


def labels():
    indexed = Image.fromarray(LABEL).convert("P")
    indexed.putpalette([v for color in COLORS for v in color])
    colored = np.array(COLORS, np.uint8)[LABEL]
    yield "index.png", Image.fromarray(LABEL)
    yield "index.bmp", Image.fromarray(LABEL)
    yield "index.tif", Image.fromarray(LABEL)
    yield "wide.png", Image.fromarray(LABEL.astype(np.uint16))
    yield "palette.png", indexed
    yield "palette.gif", indexed
    yield "gray.gif", Image.fromarray(LABEL)
    yield "float.tif", Image.fromarray(LABEL.astype(np.float32))
    yield "color.png", Image.fromarray(colored)
    yield "color_alpha.png", Image.fromarray(np.dstack([colored, np.full_like(LABEL, 255)]))
    yield "gray_alpha.png", Image.fromarray(np.dstack([LABEL, np.full_like(LABEL, 255)]))


@pytest.mark.parametrize("name,label", list(labels()), ids=lambda v: v if isinstance(v, str) else "")
def test_labels(tmp_path, name, label):
    stem, _, end = name.partition(".")
    put(tmp_path, RGB, label, name=stem, suffix=f".{end}")
    legend(tmp_path)
    record = only(tmp_path)
    np.testing.assert_array_equal(record["label"], LABEL)
    assert record["label"].dtype == np.uint8


def test_bilevel_labels_are_zero_and_one(tmp_path):
    put(tmp_path, RGB, LABEL > 0)
    np.testing.assert_array_equal(only(tmp_path, num_classes=2)["label"], LABEL > 0)


def test_the_legend_is_read(tmp_path):
    put(tmp_path, RGB, LABEL)
    legend(tmp_path, ignore=200)
    dataset = create_dataset("folder", str(tmp_path))
    assert dataset.classes == ("a", "b", "c")
    assert dataset.palette == tuple(map(tuple, COLORS))
    assert dataset.ignore == 200
    legend(tmp_path, ["a", "b", "c"])  # names alone
    assert create_dataset("folder", str(tmp_path)).classes == ("a", "b", "c")


def test_values_and_ignored_entries(tmp_path):
    """Stored values that are not ids, among them the usual 0 and 255 of a binary mask."""
    put(tmp_path, RGB[:2, :3], np.array([[0, 255, 7], [8, 9, 250]], np.uint8))
    classes = [{"id": 0, "name": "a", "values": [0, 7]}, {"id": 1, "name": "b", "values": [255]}]
    legend(tmp_path, [*classes, {"id": 250, "name": "void", "values": [8, 9]}], ignore=250)
    record = only(tmp_path)
    assert record["label"].tolist() == [[0, 1, 0], [250, 250, 250]]
    legend(tmp_path, classes, ignore=250)
    with pytest.raises(UserError, match='value 8, 9 is in no "values" of classes.json'):
        only(tmp_path)


def test_ignored_colors(tmp_path):
    colored = np.array([*COLORS, [0, 0, 0]], np.uint8)[GRAY % 4]
    put(tmp_path, RGB, colored)
    legend(tmp_path, [*CLASSES, {"id": 255, "name": "void", "color": [0, 0, 0]}])
    np.testing.assert_array_equal(only(tmp_path)["label"], np.where(GRAY % 4 == 3, 255, GRAY % 4))
    legend(tmp_path)
    with pytest.raises(UserError, match=r"color \(0, 0, 0\) is not in classes.json"):
        only(tmp_path)


def test_number_of_classes_without_a_legend(tmp_path):
    put(tmp_path, RGB, LABEL)
    with pytest.raises(UserError, match=r"classes.json does not exist.*num_classes=N.*hold the values 0, 1, 2\."):
        create_dataset("folder", str(tmp_path))
    dataset = create_dataset("folder", str(tmp_path), num_classes=3)
    assert (dataset.num_classes, dataset.ignore) == (3, 255)


@pytest.fixture
def root(tmp_path):
    for i in range(8):
        put(tmp_path, RGB, LABEL, name=f"p{i}", sample=".jpg")
    put(tmp_path, RGB, LABEL, split="val")
    legend(tmp_path)
    return tmp_path


def refusal(root, split="train", **options):
    with pytest.raises(UserError) as caught:
        check_dataset(create_dataset("folder", str(root), **options), split)
    message = str(caught.value)
    assert len(message) < 700
    return message


def test_a_good_folder_passes(root):
    dataset = create_dataset("folder", str(root))
    check_dataset(dataset, "train")
    check_dataset(dataset, "val")
    assert list(dataset.splits) == ["train", "val"]
    assert [dataset.splits["train"][i]["name"] for i in range(8)] == [f"p{i}" for i in range(8)]


def test_missing_folders(root):
    assert "does not exist" in refusal(root / "nowhere")
    assert "Did you mean 'val'" in refusal(root, "vall")
    (root / "val" / "labels" / "p.png").unlink()
    (root / "val" / "labels").rmdir()
    assert f"has no folder {root / 'val' / 'labels'}" in refusal(root, "val")
    check_dataset(create_dataset("folder", str(root)), "train")  # which is none the worse for it
    assert "holds no split" in refusal(root / "train" / "images")


def test_empty_split(root):
    (root / "val" / "labels" / "p.png").unlink()
    (root / "val" / "images" / "p.png").rename(root / "val" / "images" / "p.txt")
    message = refusal(root, "val")
    assert "No images in" in message
    assert "found p.txt" in message


def test_images_and_labels_without_counterpart(root):
    for i in range(7):
        (root / "train" / "labels" / f"p{i}.png").unlink()
    message = refusal(root)
    assert "7 images have no label" in message
    assert "p0.jpg" in message
    assert "and 2 more" in message
    (root / "train" / "labels" / "q.png").write_bytes((root / "train" / "labels" / "p7.png").read_bytes())
    for i in range(7):
        (root / "train" / "images" / f"p{i}.jpg").unlink()
    assert "1 labels have no image" in refusal(root)


def test_two_files_of_one_name(root):
    Image.fromarray(RGB).save(root / "train" / "images" / "p3.png")
    assert "Two images have one name" in refusal(root)


@pytest.mark.parametrize(
    "label,words",
    [
        (LABEL[:4], "is 8x4 (width x height) but its image"),
        (LABEL.T, "is 6x8"),
        (LABEL + np.uint8(1), "got 3"),
        (np.full((6, 8, 3), 7, np.uint8), "saved as RGB"),
        (np.dstack([LABEL, 0 * LABEL, 0 * LABEL]), "in the red channel"),
    ],
)
def test_bad_labels_are_named(root, label, words):
    put(root, RGB, label, name="p5", sample=".jpg")
    message = refusal(root)
    assert words in message
    assert "p5.png" in message


def test_jpeg_labels_are_refused(root):
    Image.fromarray(LABEL).save(root / "train" / "labels" / "p1.png", format="JPEG")
    assert "Save labels as PNG" in refusal(root)
    (root / "train" / "labels" / "p1.png").rename(root / "train" / "labels" / "p1.jpg")
    assert "Save labels as PNG" in refusal(root)


@pytest.mark.parametrize("kind,name", [("images", "p2.jpg"), ("labels", "p2.png")])
@pytest.mark.parametrize("keep", [0.6, 0.0])
def test_damaged_files_are_named(root, kind, name, keep):
    file = root / "train" / kind / name
    data = file.read_bytes()
    file.write_bytes(data[: int(keep * len(data))])
    message = refusal(root)
    assert f"{file} does not read" in message


def test_images_of_another_kind_than_the_first_are_refused(root):
    put(root, GRAY.astype(np.float32), LABEL, name="p4", sample=".tif")
    (root / "train" / "images" / "p4.jpg").unlink()
    message = refusal(root)
    assert "p4.tif: expected an image of 3 bands (red, green, blue) of uint8" in message
    assert "got float32 of shape (6, 8, 1)" in message


@pytest.mark.parametrize(
    "text,words",
    [
        ("{", "does not read"),
        ('{"classes": [{"id": 0}]}', "does not read"),
        ('{"classes": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}', "expected the ids 0 to 1"),
        ('{"classes": [{"id": 0, "name": "a", "color": [1, 2]}]}', "three numbers"),
        ('{"classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [1, 2, 3]}]}', "one color"),
        ('{"classes": ["a", "b", "c"], "ignore": 999}', "ignore label 999"),
        ('{"classes": ["a", "b", "a"]}', "several classes of the name a"),
    ],
)
def test_bad_legends(root, text, words):
    (root / "classes.json").write_text(text)
    assert words in refusal(root)


def test_legend_and_number_that_disagree(root):
    assert "names 3 classes but num_classes is 4" in refusal(root, num_classes=4)


@pytest.mark.parametrize("nodata", [70000, -1, 1.5])
def test_a_value_that_no_pixel_can_have_stands_for_nothing_in_vain(root, nodata):
    with pytest.raises(UserError, match="is no value of uint8 images, which hold whole numbers from 0 to 255"):
        create_dataset("folder", str(root), nodata=nodata)


def test_bands_that_come_first_are_named(tmp_path):
    legend(tmp_path)
    put(tmp_path, np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.uint8))
    (tmp_path / "train" / "images" / "p.png").unlink()
    np.save(tmp_path / "train" / "images" / "p.npy", np.zeros((3, 6, 8), np.uint8))
    with pytest.raises(UserError, match=r"Its bands come first: save it as \[height, width, bands\]"):
        create_dataset("folder", str(tmp_path)).splits["train"][0]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_labels_whose_tiff_is_white_at_zero_keep_their_ids(tmp_path, dtype):
    """As tifffile writes masks of True and False."""
    legend(tmp_path, ["ground", "house"])
    label = np.zeros((6, 8), np.uint8)
    label[:2, :3] = 1
    put(tmp_path, np.zeros((6, 8, 3), np.uint8), label, suffix=".tif")
    (tmp_path / "train" / "labels" / "p.tif").unlink()
    tifffile.imwrite(tmp_path / "train" / "labels" / "p.tif", label.astype(dtype), photometric="miniswhite")
    source = create_dataset("folder", str(tmp_path)).splits["train"]
    np.testing.assert_array_equal(source[0]["label"], label)
    np.testing.assert_array_equal(source.source.read(0, (1, 1, 4, 5))["label"], label[1:5, 1:6])


def test_a_byte_order_mark_before_the_legend_is_none_of_it(root):
    text = (root / "classes.json").read_text()
    (root / "classes.json").write_text(text, encoding="utf-8-sig")
    check_dataset(create_dataset("folder", str(root)), "train")


def test_labels_of_nan_are_told_what_to_store(tmp_path):
    legend(tmp_path)
    put(tmp_path, np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.uint8))
    (tmp_path / "train" / "labels" / "p.png").unlink()
    tifffile.imwrite(tmp_path / "train" / "labels" / "p.tif", np.full((6, 8), np.nan, np.float32))
    with pytest.raises(UserError, match="holds nan, which is no label. Where pixels have none, store the ignore label"):
        create_dataset("folder", str(tmp_path)).splits["train"][0]
