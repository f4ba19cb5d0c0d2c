"""What is seen of a data set, and what is said of it: every kind of broken input is a row, none is the end."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest
import rasterio
from PIL import Image

from jaxseg.data import create_dataset, places, readers, report, verdict
from jaxseg.data.bands import Bands
from jaxseg.data.check import Facts, Look, look
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.readers.geo import Georeference
from jaxseg.data.resize import Resize
from jaxseg.data.statistics import fit_mean_and_std, fit_window, spread
from jaxseg.data.suggest import inverse_frequency, median_frequency, suggest_sizes, suggest_values

TWO = ["background", "square"]


def image(seed=0, size=(24, 32), dtype=np.uint8, high=200):
    return np.random.default_rng(seed).integers(20, high, (*size, 3), dtype)


def mask(size=(24, 32), value=1):
    label = np.zeros(size, np.uint8)
    label[4:12, 8:16] = value
    return label


def write(root, classes=TWO, *, train=3, val=2, label=mask, picture=image):
    (root / "classes.json").write_text(json.dumps({"classes": classes} if isinstance(classes, list) else classes))
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            save(root / split / "images" / f"p{i}.png", picture(i + 100 * (split == "val")))
            save(root / split / "labels" / f"p{i}.png", label())
    return root


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def judged(root, setting=None, **options):
    dataset = create_dataset("folder", str(root), **options)
    return verdict.judge(dataset, [look(dataset, split, threads=2) for split in ("train", "val")], setting)


def test_a_right_data_set_has_numbers_and_nothing_to_mend(tmp_path):
    found = judged(write(tmp_path))
    train = found.looks[0]
    assert not found.errors
    assert not found.warnings
    assert train.sizes == {(24, 32): 3}
    assert train.counts.tolist() == [3 * (24 * 32 - 64), 3 * 64, 0]
    assert train.images_with.tolist() == [3, 3, 0]
    stored = np.stack([image(i) for i in range(3)])
    assert (train.used[0].min(), train.used[1].max()) == (stored.min(), stored.max())
    text = report.text(found)
    assert "train: 3 images\n" in text
    assert "sizes   24x32 (height x width)" in text
    assert "square        8.3 %  3" in text
    assert text.endswith("0 errors, 0 warnings")


def test_files_that_do_not_read_or_pair_are_rows_and_the_rest_is_read(tmp_path):
    write(tmp_path, train=5)
    images, labels = tmp_path / "train" / "images", tmp_path / "train" / "labels"
    (images / "p0.png").write_bytes((images / "p0.png").read_bytes()[:300])  # cut short
    save(labels / "p1.png", mask(value=7))
    save(labels / "p2.png", mask((24, 31)))
    save(images / "alone.png", image(9))
    save(labels / "lonely.png", mask())
    save(images / "p3.bmp", image(3))  # doubled
    os.symlink(tmp_path / "gone.png", images / "p5.png")
    save(labels / "p5.png", mask())
    found = judged(tmp_path)
    train = found.looks[0]
    assert [fact.name for fact in train.facts] == ["p4"]
    sentences = [problem.sentence for problem in found.errors]
    for words in (
        "1 images have no label: " + str(images / "alone.png"),
        f"1 labels have no image: {labels / 'lonely.png'}.",
        f"Several images have one name: {images / 'p3.bmp'}, {images / 'p3.png'}",
        "p0.png does not read",
        "p1.png: expected class ids 0 to 1 or 255 (ignored), got 7",
        "p2.png is 31x24 (width x height) but its image",
        "p5.png is a link to",
    ):
        assert any(words in sentence for sentence in sentences), words
    assert len(sentences) == 7
    assert not any("/val/" in sentence for sentence in sentences)
    assert len(found.looks[1].facts) == 2


def test_a_suffix_is_named_and_the_files_are_read_with_it(tmp_path):
    write(tmp_path, train=2)
    for file in (tmp_path / "train" / "labels").iterdir():
        file.rename(file.with_stem(file.stem + "_mask"))
    found = judged(tmp_path)
    (error,) = found.errors
    assert 'data.options.label_suffix="_mask"' in error.sentence
    assert len(found.looks[0].facts) == 2


def test_files_that_fail_alike_are_said_once(tmp_path):
    found = judged(write(tmp_path, train=3, label=lambda: mask(value=9)))
    assert len(found.errors) == 5
    assert [count for _, count in verdict.grouped(found.errors)] == [5]
    assert "(and 4 more like it)" in report.text(found)
    assert "unread  images whose pixels or labels do not read: 3 of 24x32, uint8, 3 bands" in report.text(found)


def test_masks_of_0_and_255_and_a_class_that_is_never_seen(tmp_path):
    found = judged(write(tmp_path, label=lambda: mask(value=255)))
    assert [e.where for e in found.errors] == ["train", "val"]
    assert '"values": [255]' in found.errors[0].sentence
    assert "loss.options" not in found.suggestions  # a weight of 0 would hide what is missing
    document = suggest_values(found.dataset)
    assert [(e["name"], e["values"]) for e in document["classes"]] == [("background", [0]), ("square", [255])]
    (tmp_path / "classes.json").write_text(json.dumps(document))
    assert not judged(tmp_path).errors
    assert suggest_values(judged(tmp_path).dataset) == document


def test_labels_that_are_ignored_as_a_whole_and_classes_that_nobody_has(tmp_path):
    write(tmp_path, ["a", "b", "c"])
    for file in (tmp_path / "val" / "labels").iterdir():
        save(file, np.full((24, 32), 255, np.uint8))
    save(tmp_path / "train" / "labels" / "p0.png", np.full((24, 32), 255, np.uint8))
    said = judged(tmp_path).warnings
    assert any("split 'val'" in s and "nothing is learned or scored there" in s for s in said)
    assert any("train: no pixel is of the class c." in s for s in said)
    assert any("train: 1 labels are ignored as a whole: p0" in s for s in said)


def test_exif_turns_and_dark_images_and_repeated_ones(tmp_path):
    write(tmp_path, picture=lambda seed: image(seed, high=25))
    exif = Image.Exif()
    exif[0x0112] = 3
    save(tmp_path / "train" / "images" / "p0.png", image(0, high=25), exif=exif)
    save(tmp_path / "val" / "images" / "p0.png", image(1, high=25))
    found = judged(tmp_path)
    assert found.looks[0].facts[0].turned == (True, False)
    said = "\n".join(found.warnings)
    assert "train: 1 of 3 images are turned by EXIF and their labels are not" in said
    assert "the greatest value of the images is 24 of 255" in said
    assert "1 images of 'val' are in 'train' too, pixel by pixel: p0 = p1." in said
    assert "EXIF    1 images and 0 labels are turned" in report.text(found)


def test_both_turned_is_told_and_is_no_mistake(tmp_path):
    write(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    for kind, array in (("images", image(0)), ("labels", mask())):
        save(tmp_path / "train" / kind / "p0.png", array, exif=exif)
    found = judged(tmp_path)
    assert not found.warnings
    assert "EXIF    1 images and 1 labels are turned, each as its own EXIF says" in report.text(found)


def test_interpolated_ids_that_are_classes_are_noticed(tmp_path):
    label = np.zeros((24, 32), np.uint8)
    label[4:20, 8:24] = 2
    blurred = label.copy()
    blurred[3, 8:24] = blurred[20, 8:24] = blurred[4:20, 7] = blurred[4:20, 24] = 1
    found = judged(write(tmp_path, ["a", "b", "c"], label=lambda: blurred))
    assert any("the class b is only in lines of one pixel: are the labels interpolated?" in s for s in found.warnings)
    wide = blurred.copy()
    wide[:, :4] = 1
    (tmp_path / "wide").mkdir()
    assert not judged(write(tmp_path / "wide", ["a", "b", "c"], label=lambda: wide)).warnings


def test_16_bits_have_the_window_that_a_run_fits(tmp_path):
    write(tmp_path, picture=lambda seed: image(seed, dtype=np.uint16, high=1400)[..., 0])
    found = judged(tmp_path)
    dataset, train = found.dataset, found.looks[0]
    window = fit_window(spread(dataset.splits["train"]), dataset.bands)
    np.testing.assert_allclose(verdict.fitted(train), window, rtol=1e-5)
    assert found.suggestions["data.options"] == {"window": verdict.fitted(train)[0]}
    text = report.text(found)
    assert "uint16 of 1 band (gray); 20 to 1399 of 0 to 65535 used (2.1 %)" in text
    assert "fitted: percentiles 0.1 and 99.9" in text
    given = judged(tmp_path, window=(0, 4095))
    assert "window  0..4095, given" in report.text(given)
    assert "data.options" not in given.suggestions


def test_statistics_are_those_that_a_run_fits(tmp_path):
    found = judged(write(tmp_path))
    told = json.loads(json.dumps(verdict.statistics(found.dataset, found.looks[0])))
    mean, std = fit_mean_and_std(spread(found.dataset.splits["train"]), found.dataset.bands)
    np.testing.assert_allclose(told["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(told["std"], std, rtol=1e-5)
    assert told["share"]["square"] == pytest.approx(64 / 768, rel=1e-4)
    assert told["config"] == {"loss.options": {"cross_entropy": {"class_weights": [0.54545, 6.0]}}}


def test_weights_by_hand(tmp_path):
    write(tmp_path, ["a", "b", "c"], train=2)
    save(tmp_path / "train" / "labels" / "p1.png", np.zeros((24, 32), np.uint8))
    train = judged(tmp_path).looks[0]
    # a: 704 + 768 of 1536 pixels of the images that have it; b: 64 of 768; the median of the two is 0.5208
    shares = np.array([1472 / 1536, 64 / 768])
    np.testing.assert_allclose(median_frequency(train), [*(np.median(shares) / shares), 0])
    np.testing.assert_allclose(inverse_frequency(train.counts[:-1]), [1536 / (2 * 1472), 1536 / (2 * 64), 0])


def test_windows_are_told_with_what_they_show(tmp_path):
    found = judged(write(tmp_path), verdict.Setting(Resize(factor=2.0), (12, 16), (8, 8), 16))
    text = report.text(found)
    assert "seen    resized by 2; in windows of 12x16, 6.2 % of an image at a time; crops of 8x8" in text
    assert any("3 of 3 images are larger than data.canvas=(12, 16)" in s for s in found.warnings)
    assert "fewer than config.data.batch_size=16" in found.errors[0].sentence


def test_suggested_sizes_are_filled_by_most_images(tmp_path):
    write(tmp_path, train=4, picture=lambda seed: image(seed, (70, 200)), label=lambda: mask((70, 200)))
    train = judged(tmp_path).looks[0]
    assert suggest_sizes(train) == {"data.canvas": (70, 200), "data.crop": (64, 192), "data.batch_size": 4}
    assert suggest_sizes(train, Resize(factor=0.5))["data.crop"] == (32, 96)


def test_stacks_of_pages_and_one_class(tmp_path):
    write(tmp_path, {"ignore": 254, "classes": [{"name": "cell", "values": [255]}]}, label=lambda: mask(value=255))
    pages = [Image.fromarray(image(i)) for i in range(3)], [Image.fromarray(mask(value=255)) for _ in range(3)]
    for kind, several in zip(("images", "labels"), pages, strict=True):
        several[0].save(tmp_path / "train" / kind / "stack.tif", save_all=True, append_images=several[1:])
    found = judged(tmp_path)
    assert found.looks[0].records == 6
    assert list(found.looks[0].stacks.values()) == [3]
    text = report.text(found)
    assert "1 files of several pages are 3 of the images" in text
    assert "not of the class   91.7 %  6" in text
    assert "cell                8.3 %  6" in text


def test_the_lines_that_a_run_begins_with(tmp_path):
    dataset = create_dataset("folder", str(write(tmp_path, ["a", "b", "c"])))
    from jaxseg.data import check_dataset

    looks = [check_dataset(dataset, split) for split in ("train", "val")]
    seen = Preprocessing((127,) * 3, (50,) * 3, fill="gray", phase=(1, 1))
    lines, said = report.startup(dataset, looks, verdict.Setting(Resize(), (24, 32), (24, 24)), seen)
    assert lines[0].startswith(
        "images: 3, 24x32 (height x width); uint8 RGB; 20 to 199 of 0 to 255 used (70.2 %); seen at"
    )
    assert lines[1] == "labels: 3 classes, 0.0 % ignored; rarest: b 8.3 %; absent: c"
    assert lines[2] == "evaluation: padded with gray to multiples of 32 and 1x1 (height x width) more"
    assert any("train: no pixel is of the class c." in sentence for sentence in said)
    part = dataclasses.replace(looks[0], records=900, whole=False)  # where reading is slow
    _, said = report.startup(dataset, [part, looks[1]], verdict.Setting(Resize(), (24, 32), (24, 24)), seen)
    assert any(
        "train: none of the 3 of 900 images that were looked at has the class c;" in sentence for sentence in said
    )
    assert not any("train: no pixel" in sentence for sentence in said)


def test_pixels_that_hold_nothing_are_ignored_and_have_no_range(tmp_path):
    write(tmp_path, train=1, val=1)
    for split in ("train", "val"):
        (tmp_path / split / "images" / "p0.png").unlink()
        values = np.random.default_rng(split == "val").uniform(0, 50, (24, 32, 2)).astype(np.float32)
        values[:2] = -9999
        values[2, 0] = np.nan
        values[5, 10, 0] = -9999  # inside the square, of one band alone: it counts
        np.save(tmp_path / split / "images" / "p0.npy", values)
    found = judged(tmp_path, nodata=-9999.0)
    train = found.looks[0]
    assert train.counts.tolist() == [24 * 32 - 64 - 65, 64, 65]
    assert 0 <= train.used[0].min() < train.used[1].max() <= 50
    assert "float32 of 2 bands" in report.text(found)
    assert "8.5 % ignored" in report.text(found)


def test_a_value_far_from_all_others_is_said_to_stand_for_nothing(tmp_path):
    import tifffile

    write(tmp_path)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            stored = image(i).astype(np.uint16) * 10
            stored[:2] = 65535
            (tmp_path / split / "images" / f"p{i}.png").unlink()
            tifffile.imwrite(tmp_path / split / "images" / f"p{i}.tif", stored, photometric="rgb")
    said = judged(tmp_path).warnings[0]
    assert "8.3 % of the values are 65535, far from all others" in said and "data.options.nodata=65535" in said
    assert not any("65535" in line for line in judged(tmp_path, nodata=65535).warnings)
    assert not any("65535" in line for line in judged(tmp_path, window=(0, 2000)).warnings)


def test_a_band_without_a_number_is_said_to_hold_nothing(tmp_path):
    write(tmp_path)
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            (tmp_path / split / "images" / f"p{i}.png").unlink()
            np.save(tmp_path / split / "images" / f"p{i}.npy", np.full((24, 32), np.nan, np.float32))
    found = judged(tmp_path, window=(0, 1))
    assert "train: the band gray holds nothing in any image." in found.warnings
    assert not any("one value in all" in line for line in found.warnings)
    assert "values  float32 of 1 band (gray); none that counts" in report.text(found)


def test_transparency_is_said_to_be_dropped_where_it_is(tmp_path):
    def clear(seed):
        return np.dstack([image(seed), image(seed)[..., 0]])

    (tmp_path / "rgba").mkdir()
    (tmp_path / "key").mkdir()
    write(tmp_path / "rgba", picture=clear)
    dropped = "train: the transparency of 3 images is dropped; the colors beneath are used."
    assert dropped in judged(tmp_path / "rgba").warnings
    assert dropped not in judged(tmp_path / "rgba", bands=("red", "alpha")).warnings
    write(tmp_path / "key")
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            file = tmp_path / "key" / split / "images" / f"p{i}.png"
            Image.open(file).quantize(16).save(file, transparency=3)
    assert dropped in judged(tmp_path / "key").warnings
    alpha = create_dataset("folder", str(tmp_path / "key"), bands=("alpha",)).splits["train"][0]["image"]
    assert np.unique(alpha).tolist() == [0, 255]


def test_files_that_name_several_values_for_nothing_are_told(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    write(tmp_path, train=2)
    for i, nodata in enumerate((-9999.0, -1.0)):
        file = tmp_path / "train" / "images" / f"p{i}.tif"
        file.with_suffix(".png").unlink()
        with rasterio.open(file, "w", "GTiff", 32, 24, 1, dtype="float32", nodata=nodata) as out:
            out.write(image(i)[..., :1].transpose(2, 0, 1).astype(np.float32))
    dataset = create_dataset("folder", str(tmp_path))
    said = verdict.judge(dataset, [look(dataset, "train", threads=2)]).warnings
    assert any(
        "train: by what files say, -1 holds nothing in some, but -9999 is taken for that in all" in s for s in said
    )


def scene(path, array, *, at=(0, 0), names=None, crs="EPSG:32633", **profile):
    """Writes a GeoTIFF of pixels of 10 m whose corner is `at` (column, row) of the whole scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array[..., None] if array.ndim == 2 else array
    place = rasterio.Affine(10, 0, 500_000 + 10 * at[0], 0, -10, 5_400_000 - 10 * at[1])
    height, width, count = array.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, count, dtype=array.dtype, transform=place, crs=crs, **profile
    ) as file:
        file.write(np.moveaxis(array, -1, 0))
        if names:
            file.descriptions = names


def tiles(
    root, *, train=(0, 0), val=(100, 0), label_at=(0, 0), label=mask, crs="EPSG:32633", image_profile=None, **labels
):
    """A data set of one georeferenced tile a split."""
    root.mkdir(exist_ok=True)
    (root / "classes.json").write_text(json.dumps({"classes": TWO}))
    for i, (split, at) in enumerate((("train", (0, 0)), ("val", val))):
        scene(root / split / "images" / f"{split}.tif", image(i, dtype=np.uint16), at=at, **(image_profile or {}))
        shifted = (at[0] + label_at[0], at[1] + label_at[1])
        scene(root / split / "labels" / f"{split}.tif", label(), at=shifted, crs=crs, **labels)
    return root


def test_tiles_that_fit_their_labels_are_not_warned_of(tmp_path):
    assert judged(tiles(tmp_path, label_at=(0.3, 0))).warnings == []


def test_a_label_that_lies_elsewhere_is_told(tmp_path):
    said = judged(tiles(tmp_path / "a", label_at=(3, 4))).warnings
    assert ["labels lie elsewhere than their images, up to 5 pixels away" in line for line in said] == [True, True]
    assert "train: 1 labels" in said[0] and "rio warp" in said[0]
    said = judged(tiles(tmp_path / "far", label_at=(542_000, 0))).warnings
    assert "up to 542000 pixels away" in said[0]
    said = judged(tiles(tmp_path / "b", crs="EPSG:32632")).warnings
    assert ["in another coordinate system" in line for line in said] == [True, True]


def test_validation_tiles_over_training_tiles_are_told(tmp_path):
    said = judged(tiles(tmp_path / "a", val=(8, 12))).warnings
    assert len(said) == 1 and "1 images of 'val' lie over images of 'train', val by 38 % over train" in said[0]
    assert judged(tiles(tmp_path / "b", val=(32, 0))).warnings == []
    assert judged(tiles(tmp_path / "c", val=(0, -24))).warnings == []


def placed(split, count, words, *, east=0.0, side=256):
    """A look at `count` tiles of pixels of 10 m in a square, of which only the places are known."""
    facts, row, none = [], math.isqrt(count) + 1, (np.zeros(3), np.zeros(3))
    for i in range(count):
        x, y = 500_000 + east + 10 * side * (i % row), 5_400_000 - 10 * side * (i // row)
        place = Georeference(words, (10, 0, x, 0, -10, y))
        facts.append(Facts(i, f"{split}{i}", (side, side), *none, np.zeros(3, int), places=(place, place)))
    return Look(split, count, Bands(), facts)


def test_overlaps_are_found_whatever_the_words_of_the_coordinate_system():
    words = rasterio.CRS.from_epsg(32633).to_wkt()
    other = words.replace("WGS 84 / UTM zone 33N", "UTM33")
    looks = [placed("train", 4, words), placed("val", 1, other, east=10 * 64)]
    assert "1 images of 'val' lie over images of 'train', val0 by 75 % over train0" in places.overlap_warnings(looks)[0]
    looks[1] = placed("val", 1, rasterio.CRS.from_epsg(32632).to_wkt())
    assert places.overlap_warnings(looks) == []


def test_of_thousands_of_tiles_those_near_one_are_compared_with_it(monkeypatch):
    compared, shares = [], places._shares
    monkeypatch.setattr(places, "_shares", lambda *given: compared.append(len(given[2])) or shares(*given))
    words = rasterio.CRS.from_epsg(32633).to_wkt()
    looks = [placed("train", 2500, words), placed("val", 100, words, east=10 * 128)]
    assert "100 images of 'val' lie over images of 'train'" in places.overlap_warnings(looks)[0]
    assert len(compared) == 100 and max(compared) <= 4


@pytest.mark.parametrize("transform", [None, (0, 0, 5, 0, 0, 6)], ids=["pixels of nothing known", "of no size"])
def test_tiles_that_name_a_system_and_no_place_in_it_are_not_compared(tmp_path, transform):
    tiles(tmp_path)
    for split in ("train", "val"):
        with rasterio.open(tmp_path / split / f"images/{split}.tif") as file:
            profile = {key: file.profile[key] for key in ("driver", "width", "height", "count", "dtype", "crs")}
            pixels = file.read()
        where = {} if transform is None else {"transform": rasterio.Affine(*transform)}
        with rasterio.open(tmp_path / split / f"images/{split}.tif", "w", **profile, **where) as file:
            file.write(pixels)
    assert judged(tmp_path).warnings == []


def test_a_label_that_says_what_holds_nothing_and_counts_it_is_told(tmp_path):
    said = judged(tiles(tmp_path / "a", nodata=1)).warnings
    assert (
        len(said) == 2 and "say (GDAL's nodata) that 8.3 % of the pixels hold nothing, which count as square" in said[0]
    )
    few = np.zeros((24, 32), np.uint8)
    few[0, :2] = 1
    said = judged(tiles(tmp_path / "most", nodata=0, label=lambda: few)).warnings  # as masks of buildings are stored
    assert any("that 99.7 % of the pixels hold nothing, which count as background" in line for line in said)
    said = judged(tiles(tmp_path / "b", nodata=255, label=lambda: mask(value=255))).warnings
    assert not any("GDAL" in line for line in said)
    tiles(tmp_path / "c", nodata=1)
    for split, at in (("train", (0, 0)), ("val", (100, 0))):  # what the image says to hold nothing is ignored anyway
        picture = np.where(mask()[..., None] == 1, 7, image(1, dtype=np.uint16)).astype(np.uint16)
        scene(tmp_path / "c" / split / "images" / f"{split}.tif", picture, at=at, nodata=7)
    assert not any("GDAL" in line for line in judged(tmp_path / "c").warnings)


def test_bands_in_another_order_are_told(tmp_path):
    tiles(tmp_path, image_profile={"names": ("red", "green", "blue")})
    assert judged(tmp_path).warnings == []
    scene(tmp_path / "val/images/val.tif", image(1, dtype=np.uint16), at=(100, 0), names=("blue", "green", "red"))
    said = judged(tmp_path).warnings
    assert (
        len(said) == 1 and "val: 1 images name their bands blue, green, red, the data set red, green, blue" in said[0]
    )


def test_bands_that_are_chosen_have_the_order_of_the_choice(tmp_path):
    tiles(tmp_path, image_profile={"names": ("red", "green", "blue")})
    for bands in ((2, 1, 0), ("green", "blue")):
        assert judged(tmp_path, bands=bands).warnings == []
    scene(tmp_path / "val/images/val.tif", image(1, dtype=np.uint16), at=(100, 0), names=("blue", "green", "red"))
    said = judged(tmp_path, bands=("green", "blue")).warnings
    assert len(said) == 1 and "val: 1 images name their bands green, red, the data set green, blue" in said[0]


def test_nan_for_nothing_in_all_files_is_one_value(tmp_path):
    tiles(tmp_path, image_profile={"nodata": 1})
    for split, at in (("train", 0), ("val", 100)):
        for i in range(2):
            picture = image(i, dtype=np.uint16).astype(np.float32)
            scene(tmp_path / split / f"images/{split}{'_' * i}.tif", picture, at=(at, 40 * i), nodata=np.nan)
            scene(tmp_path / split / f"labels/{split}{'_' * i}.tif", mask(), at=(at, 40 * i))
    assert not any("holds nothing in some" in line for line in judged(tmp_path).warnings)


def test_a_mask_inside_an_image_is_said_to_be_unused(tmp_path):
    tiles(tmp_path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(tmp_path / "val/images/val.tif", "r+") as file:
            file.write_mask(mask() == 0)
    assert judged(tmp_path).warnings == ["val: the masks inside 1 images are not used: what they hide is learned, too."]


def test_numbers_that_are_to_be_scaled_are_told(tmp_path):
    tiles(tmp_path)

    def written(split, name, at, scales, offsets):
        path = tmp_path / split / f"images/{name}.tif"
        scene(path, image(at[1], dtype=np.uint16), at=at)
        scene(tmp_path / split / f"labels/{name}.tif", mask(), at=at)
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = scales, offsets
        assert readers.header(str(path)).scaling == tuple(zip(scales, offsets, strict=True))

    written("train", "train", (0, 0), (1e-4,) * 3, (0.0,) * 3)
    said = "train: 1 images say (GDAL) that their numbers are to be scaled, which is not done: times 0.0001 plus 0."
    assert judged(tmp_path).warnings == [f"{said} Predict on images that say the same."]
    written("train", "train2", (0, 40), (1e-4,) * 3, (-0.1, 0.0, -0.1))
    (said,) = judged(tmp_path).warnings
    assert "train: 2 images say" in said and "gdal_translate -unscale" in said
    assert "train times 0.0001 plus 0, train2 times 0.0001 plus -0.1 and times 0.0001 plus 0" in said
    dataset = create_dataset("folder", str(tmp_path), bands=(1,))  # whose scaling is one
    (said,) = verdict.judge(dataset, [look(dataset, "train", threads=2)]).warnings
    assert "2 images say" in said and "is not done: times 0.0001 plus 0. Predict" in said
    (tmp_path / "train/images/train.tif").unlink()
    scene(tmp_path / "train/images/train.tif", image(0, dtype=np.uint16))
    assert "train times 1 plus 0, train2 times" in judged(tmp_path).warnings[0]
