"""`jaxseg predict` on what is no photograph: sets whose files store other values, stacks, maps, and other bands."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.data import create_dataset, readers
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.readers import geo
from jaxseg.trained import TrainedModel
from tests.data import trees

PALETTE = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
PLACE_NUMBERS = (0.5, 0.0, 400_000.0, 0.0, -0.5, 5_600_000.0)  # pixels of half a meter


class Nearest:
    """Stands for a network: the class is the value of the first band."""

    def __init__(self, num_classes):
        self.num_classes = num_classes

    def apply(self, variables, images, *, train):
        return {"logits": -jnp.abs(images[..., :1] - jnp.arange(self.num_classes, dtype=float)[None, None, None])}


class Brightest:
    def apply(self, variables, images, *, train):
        return {"logits": images}


def trained(model, classes, bands=None, **fields):
    count = len(classes)
    fields = {"palette": PALETTE[:count], "ignore": 255, **fields}
    plain = Preprocessing((0.0,) * 3, (1.0,) * 3)
    if bands is not None:
        plain = Preprocessing((0.0,) * bands.count, (1.0,) * bands.count, bands=bands)
    return TrainedModel(model, {"unused": np.float32(1)}, tuple(classes), preprocessing=plain, **fields)


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """Runs the command with a model, and returns the folder that it wrote to."""

    def run(model, *arguments, code=0):
        monkeypatch.setattr("jaxseg.trained.load", lambda source, checkpoint: model)
        assert call("predict", "a workdir", *map(str, arguments), "--out", str(tmp_path / "out")) == code
        return tmp_path / "out"

    return run


def show(label_file, image_file, meaning):
    """Makes an image of what a stored label means, in blocks of 8 pixels that JPEG keeps exactly."""
    stored = np.array(Image.open(label_file)).repeat(8, 0).repeat(8, 1)
    ids = np.vectorize(meaning.get)(stored).astype(np.uint8)
    trees.write(label_file, stored)
    Image.fromarray(np.where(ids == 255, 3, ids).astype(np.uint8)).save(image_file, quality=100)


@pytest.mark.parametrize(
    "name, images, labels, ending",
    [
        ("cityscapes", "leftImg8bit/val/lindau", "gtFine/val/lindau", "_gtFine_labelIds.png"),
        ("ade20k", "ADEChallengeData2016/images/validation", "ADEChallengeData2016/annotations/validation", ".png"),
    ],
)
def test_stored_values_go_round(name, images, labels, ending, predict, tmp_path):
    root = tmp_path / "data"
    make, meaning = trees.TREES[name]
    make(root)
    files = {}
    for image in sorted((root / images).iterdir()):
        label = root / labels / (image.stem.removesuffix("_leftImg8bit") + ending)
        show(label, image, meaning)
        files[image.stem] = label
    data = create_dataset(name, str(root))
    values = tuple(of_class[0] for of_class in data.values)
    model = trained(Nearest(data.num_classes), data.classes, palette=data.palette, values=values)
    out = predict(model, root / images, "--values")
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{stem}.png" for stem in files), "and nothing else"
    truth = [data.splits["val"][i]["label"] for i in range(2)]
    for (stem, label), ids in zip(sorted(files.items()), truth, strict=True):
        with Image.open(out / f"{stem}.png") as image:
            assert image.mode == "L"
            written = np.array(image)
        stored, counted = np.array(Image.open(label)), ids != 255
        np.testing.assert_array_equal(written[counted], stored[counted])
        assert 0 < counted.mean() < 1
        trees.write(label, written)  # the server reads it as it reads a label
    again = create_dataset(name, str(root)).splits["val"]
    for i, ids in enumerate(truth):
        np.testing.assert_array_equal(again[i]["label"][ids != 255], ids[ids != 255])


def test_values_of_16_bits_and_none(predict, tmp_path):
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "a.png")
    model = trained(Nearest(2), "ab", values=(7, 300))
    out = predict(model, tmp_path / "a.png", "--values")
    np.testing.assert_array_equal(readers.read_label(out / "a.png"), [[7, 300]])
    with pytest.raises(UserError, match="does not know other values than its class ids"):
        predict(dataclasses.replace(model, values=None), tmp_path / "a.png", "--values")
    with pytest.raises(UserError, match="stores values up to 70000"):
        predict(dataclasses.replace(model, values=(7, 70000)), tmp_path / "a.png", "--values")
    with pytest.raises(UserError, match=r"a\.png is one of the images and would be overwritten"):
        call("predict", "a workdir", str(tmp_path / "a.png"), "--values", "--out", str(tmp_path))


def test_every_page_of_a_stack(predict, tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (12, 8, 9, 3), np.uint8)
    tifffile.imwrite(tmp_path / "cell.tif", pages, photometric="rgb")
    out = predict(trained(Brightest(), "rgb"), tmp_path / "cell.tif")
    names = [f"cell[{page:02d}]" for page in range(12)]
    assert sorted(p.name for p in out.glob("*_label.png")) == [f"{name}_label.png" for name in names]
    for name, page in zip(names, pages, strict=True):
        np.testing.assert_array_equal(readers.read_label(out / f"{name}_label.png"), page.argmax(-1))
        assert (out / f"{name}_overlay.png").exists()


@pytest.fixture
def place():
    rasterio = pytest.importorskip("rasterio")
    return geo.Georeference(rasterio.crs.CRS.from_epsg(32633).to_wkt(), PLACE_NUMBERS)


def test_a_map_stays_where_it_is(place, predict, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (9, 14, 3), np.uint8)
    geo.write_geotiff(str(tmp_path / "map.tif"), image, place)
    out = predict(trained(Brightest(), "rgb"), tmp_path / "map.tif", "--geojson")
    assert sorted(p.name for p in out.iterdir()) == ["map.geojson", "map_label.tif", "map_overlay.png"]
    label = readers.read_stored_label(out / "map_label.tif")
    np.testing.assert_array_equal(label.values, image.argmax(-1))
    np.testing.assert_array_equal(label.palette[:3], PALETTE)
    written = geo.georeference(str(out / "map_label.tif"))
    assert written.transform == PLACE_NUMBERS and "UTM zone 33N" in written.crs
    document = json.loads((out / "map.geojson").read_text())
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    areas = dict.fromkeys("rgb", 0.0)
    for feature in document["features"]:
        assert feature["properties"]["class"] == "rgb"[feature["properties"]["label"]]
        for ring in feature["geometry"]["coordinates"]:  # holes turn the other way round
            x, y = np.array(ring).T
            areas[feature["properties"]["class"]] += ((x[:-1] * y[1:] - x[1:] * y[:-1]) / 2).sum()
            assert 400_000 <= x.min() <= x.max() <= 400_007 and 5_599_995.5 <= y.min() <= y.max() <= 5_600_000
    counts = np.bincount(image.argmax(-1).ravel(), minlength=3)
    np.testing.assert_allclose(np.abs(list(areas.values())), counts * 0.25, atol=0.02)


def test_a_map_with_the_values_of_its_set_and_without_rasterio(place, predict, tmp_path, monkeypatch, capsys):
    image = np.random.default_rng(0).integers(0, 255, (9, 14, 3), np.uint8)
    geo.write_geotiff(str(tmp_path / "map.tif"), image, place)
    model = trained(Brightest(), "rgb", values=(10, 20, 30))
    out = predict(model, tmp_path / "map.tif", "--values")
    assert [p.name for p in out.iterdir()] == ["map.tif"]
    np.testing.assert_array_equal(readers.read_label(out / "map.tif"), 10 + 10 * image.argmax(-1))
    assert geo.georeference(str(out / "map.tif")).transform == PLACE_NUMBERS
    monkeypatch.setattr(geo, "is_installed", lambda: False)
    predict(model, tmp_path / "map.tif")
    np.testing.assert_array_equal(readers.read_label(out / "map_label.png"), image.argmax(-1))
    assert "its label is not, since rasterio is missing: pip install 'jaxseg[geo]'" in capsys.readouterr().err
    with pytest.raises(UserError, match="--geojson needs rasterio"):
        predict(model, tmp_path / "map.tif", "--geojson")


def test_outlines_of_a_photograph_are_in_pixels(place, predict, tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, :, 0], image[1:3, 2:5, 1] = 9, 99
    Image.fromarray(image).save(tmp_path / "a.png")
    out = predict(trained(Brightest(), "rgb"), tmp_path / "a.png", "--geojson")
    document = json.loads((out / "a.geojson").read_text())
    assert "crs" not in document
    (green,) = [f for f in document["features"] if f["properties"] == {"label": 1, "class": "g"}]
    assert sorted(map(tuple, green["geometry"]["coordinates"][0][:-1])) == [(2, 1), (2, 3), (5, 1), (5, 3)]


def test_bands_are_found_by_name_and_what_is_empty_is_ignored(place, predict, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    bands = Bands(("nir", "red"), "uint16", (0, 4000), nodata=0)
    stored = np.random.default_rng(0).integers(1, 4000, (6, 8, 4)).astype(np.uint16)
    stored[0, :3] = 0
    geo.write_geotiff(str(tmp_path / "map.tif"), stored, place)
    with rasterio.open(tmp_path / "map.tif", "r+") as file:
        file.descriptions = ("blue", "red", "swir", "nir")
    model = trained(Brightest(), ("water", "land"), bands)
    out = predict(model, tmp_path / "map.tif")
    expected = (stored[..., 1] > stored[..., 3]).astype(int)
    expected[0, :3] = 255
    np.testing.assert_array_equal(readers.read_label(out / "map_label.tif"), expected)
    with rasterio.open(out / "map_label.tif") as file:
        assert file.nodata == 255
    assert "map.tif: the model sees nir, red; not blue, swir." in capsys.readouterr().err


def test_other_bands_than_the_models_are_said(predict, tmp_path, capsys):
    tifffile.imwrite(
        tmp_path / "deep.tif", np.ones((6, 8, 5), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    predict(trained(Brightest(), "rgb"), tmp_path / "deep.tif", code=1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "deep.tif: expected an image of 3 bands (red, green, blue) of uint8" in line
    assert "got uint16 of shape (6, 8, 5)" in line


class Reddish:
    """Stands for a network of one class: its logit."""

    num_classes = 1

    def apply(self, variables, images, *, train):
        return {"logits": images[..., :1] / 100 - 1}


def test_an_ensemble_of_one_class_keeps_its_threshold(predict, tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, :, 0] = (90, 110, 190, 255)  # probabilities 0.48, 0.52, 0.71, 0.82
    Image.fromarray(image).save(tmp_path / "a.png")
    model = trained(Reddish(), ("not red", "red"), threshold=0.6, activation="sigmoid", values=(0, 255))
    out = predict(model, tmp_path / "a.png", "--checkpoint", "1", "2")
    np.testing.assert_array_equal(readers.read_label(out / "a_label.png")[0], [0, 0, 1, 1])
    out = predict(model, tmp_path / "a.png", "--values")
    np.testing.assert_array_equal(readers.read_label(out / "a.png")[0], [0, 0, 255, 255])
