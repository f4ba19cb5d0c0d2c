import dataclasses
import threading

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.files import Predicted, open_page, write_page
from jaxseg.inference.image_list import ImagePage, find_below, name_outputs
from jaxseg.inference.predict import Predictor
from jaxseg.inference.uncertainty import Ensemble
from jaxseg.trained import TrainedModel

PALETTE = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


class Brightest:
    def apply(self, variables, images, *, train):
        return {"logits": images * variables["sign"] / 10.0}


MODEL = Brightest()


def brightest(sign=1.0):
    fields = dict(
        preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3),
        classes=("red", "green", "blue"),
        palette=PALETTE,
        ignore=255,
    )
    return TrainedModel(MODEL, {"sign": np.float32(sign)}, **fields)


@pytest.fixture
def workdir(monkeypatch):
    """A workdir whose model predicts the brightest channel."""
    monkeypatch.setattr("jaxseg.trained.load", lambda source, checkpoint: brightest())
    return "a workdir"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a.jpg", (20, 31, 3)), ("b.png", (9, 14, 3)), ("c.tif", (8, 8))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def predict(*arguments):
    return call("predict", *map(str, arguments))


def test_an_image_is_written_while_the_next_is_predicted(folder, tmp_path, monkeypatch):
    from jaxseg.inference import folder as module

    predicted, seen = threading.Event(), []
    label, write = module.label_page, module.write_page

    def watched(*args):
        result, page = label(*args), args[1]
        seen.append(page.file.name)
        if len(seen) == 2:
            predicted.set()
        return result

    monkeypatch.setattr(module, "label_page", watched)
    monkeypatch.setattr(module, "write_page", lambda *args, **more: predicted.wait(20) and write(*args, **more))
    found, _ = find_below([str(folder)], tmp_path)
    pages = name_outputs(found, tmp_path)
    results = list(module.predict_pages(Predictor(brightest()), pages))
    assert [page for page, _ in results] == pages and all(result == [] for _, result in results)
    assert len(list(tmp_path.glob("*_label.png"))) == 3


def test_folder(workdir, folder, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert predict(workdir, folder, "--out", out) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(
        f"{stem}_{kind}.png" for stem in "abc" for kind in ("label", "overlay")
    )
    image = np.asarray(Image.open(folder / "b.png"))
    with Image.open(out / "b_label.png") as label:
        assert label.mode == "P"
        np.testing.assert_array_equal(np.asarray(label), image.argmax(-1))
    overlay = np.asarray(Image.open(out / "b_overlay.png"))
    assert overlay.shape[0] > 9, "the legend is beneath"
    mixed = np.round(0.5 * image + 0.5 * np.array(PALETTE)[image.argmax(-1)])
    np.testing.assert_array_equal(overlay[:9, :14], mixed)
    assert "3 of 3 images predicted" in capsys.readouterr().out


def test_several_checkpoints_are_an_ensemble(workdir, folder, tmp_path, monkeypatch):
    asked = []

    def load(source, checkpoint):
        asked.append((source, checkpoint))
        return brightest(-1.0 if checkpoint == "10" else 0.5)

    monkeypatch.setattr("jaxseg.trained.load", load)
    out = tmp_path / "out"
    assert predict(workdir, folder / "b.png", "--checkpoint", 10, "latest", "--out", out) == 0
    assert asked == [(workdir, "10"), (workdir, "latest")]
    image = np.asarray(Image.open(folder / "b.png"))
    expected = Ensemble([brightest(-1.0), brightest(0.5)])(image)
    assert (expected == image.argmin(-1)).mean() > 0.5  # the surer of the two
    np.testing.assert_array_equal(np.asarray(Image.open(out / "b_label.png")), expected)
    assert {p.name for p in out.iterdir()} == {"b_label.png", "b_overlay.png", "b_uncertainty.png"}
    assert np.asarray(Image.open(out / "b_uncertainty.png").convert("RGB")).std() > 20  # not blank


def test_a_bad_file_stops_nothing_but_the_exit_code_tells(workdir, folder, tmp_path, capsys):
    (folder / "aa.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    assert predict(workdir, folder, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert len([line for line in printed.err.splitlines() if "error:" in line and "aa.jpg" in line]) == 1
    assert "3 of 4 images predicted" in printed.out
    assert not list((tmp_path / "out").glob("aa_*"))


def test_files_and_alpha(workdir, folder, tmp_path):
    out = tmp_path / "out"
    assert predict(workdir, folder / "b.png", folder / "b.png", "--out", out, "--alpha", 0) == 0
    overlay = np.asarray(Image.open(out / "b_overlay.png"))
    np.testing.assert_array_equal(overlay[:9, :14], np.asarray(Image.open(folder / "b.png")))
    assert len(list(out.iterdir())) == 2


def test_wrong_arguments_are_named(workdir, folder, tmp_path):
    def fails(match, *arguments):
        with pytest.raises(UserError, match=match):
            predict(workdir, *arguments)

    out = ("--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    fails(r"missing does not exist", tmp_path / "missing", *out)
    fails(r"The folder .*empty holds no image \(\.jpg", tmp_path / "empty", *out)
    for several in (["--crf", "--dropout", 2], ["--checkpoint", 1, 2, "--crf"], ["--checkpoint", 1, 2, "--dropout", 2]):
        fails("An ensemble is of models or checkpoints, or of --dropout samples", folder, *several, *out)
    fails("--alpha must be from 0 to 1, got 2.0", folder, "--alpha", 2, *out)
    fails("b.png is a file, expected a folder", folder, "--out", folder / "b.png")
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_overwritten(workdir, folder):
    assert predict(workdir, folder, "--out", folder) == 0
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(UserError, match="is one of the images and would be overwritten"):
        predict(workdir, folder, "--out", folder)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_a_place_in_no_coordinate_system_is_said_to_be_lost(workdir, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.full((3, 6, 5), 90, np.uint8)
    for name, where in (("there", rasterio.Affine(2, 0, 600_000, 0, -2, 5_000_000)), ("nowhere", None)):
        file = str(tmp_path / f"{name}.tif")
        fields = {"transform": where} if where else {}
        with rasterio.open(file, "w", "GTiff", 5, 6, 3, dtype="uint8", **fields) as out:
            out.write(pixels)
    assert predict(workdir, tmp_path / "there.tif", tmp_path / "nowhere.tif", "--out", tmp_path / "out") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(said) == 1 and "there.tif lies somewhere, but its coordinate system is not in it" in said[0]
    assert (tmp_path / "out" / "there_label.png").exists()


def test_an_image_with_ground_control_points_is_said_to_need_warping(workdir, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    points = [rasterio.control.GroundControlPoint(r, c, 15 + c, 48 - r) for r, c in ((0, 0), (0, 5), (6, 0), (6, 5))]
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 5, 6, 3, dtype="uint8") as file:
        file.write(np.full((3, 6, 5), 90, np.uint8))
        file.gcps = points, rasterio.crs.CRS.from_epsg(4326)
    assert predict(workdir, tmp_path / "a.tif", "--out", tmp_path / "out") == 0
    assert "lies by ground control points: its label is not georeferenced. Warp the image" in capsys.readouterr().err


def test_transparency_that_is_dropped_is_said_once_for_a_folder(workdir, tmp_path, capsys):
    for name, bands in (("a/1", 4), ("a/2", 4), ("a/3", 3), ("b/1", 4), ("c/1", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 5, bands), 90, np.uint8)).save(tmp_path / f"{name}.png")
    assert predict(workdir, *(tmp_path / name for name in "abc"), "--out", tmp_path / "out") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert [f"{tmp_path / name}: the transparency of images is dropped" in "".join(said) for name in "abc"] == [1, 1, 0]
    assert len(said) == 2


def geotiff(path, image, names=(), **profile):
    rasterio = pytest.importorskip("rasterio")
    height, width, count = image.shape
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 600_000, 0, -10, 5_000_000)}
    with rasterio.open(path, "w", "GTiff", width, height, count, dtype=image.dtype, **place, **profile) as file:
        file.write(np.moveaxis(image, -1, 0))
        if names:
            file.descriptions = names
    return path


@pytest.fixture
def sixteen(monkeypatch):
    """A workdir whose model, of 16 bits, predicts the brightest of blue, green and red, and takes 0 for nothing."""
    bands = Bands(("blue", "green", "red"), "uint16", (0, 1000), nodata=0)
    trained = dataclasses.replace(brightest(), preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3, bands=bands))
    monkeypatch.setattr("jaxseg.trained.load", lambda source, checkpoint: trained)
    return "a workdir"


def labels(workdir, file):
    rasterio = pytest.importorskip("rasterio")
    assert predict(workdir, file, "--out", file.parent / "out") == 0
    with rasterio.open(file.parent / "out" / f"{file.stem}_label.tif") as written:
        return written.read(1), written.nodata


def test_bands_are_found_by_their_names_whatever_the_case(sixteen, tmp_path, capsys):
    image = np.random.default_rng(0).integers(100, 900, (12, 17, 3), np.uint16)
    expected, _ = labels(sixteen, geotiff(tmp_path / "a.tif", image, ("blue", "green", "red")))
    for name, names in (("b", ("Red", "Green", "Blue")), ("c", ("red", "green", "blue"))):
        found, _ = labels(sixteen, geotiff(tmp_path / f"{name}.tif", image[..., ::-1], names))
        np.testing.assert_array_equal(found, expected)
    unnamed, _ = labels(sixteen, geotiff(tmp_path / "d.tif", image, photometric="minisblack"))
    np.testing.assert_array_equal(unnamed, expected)
    assert "note:" not in capsys.readouterr().err
    labels(sixteen, geotiff(tmp_path / "e.tif", image, ("B2", "B3", "B4")))
    assert (
        "its bands are called B2, B3, B4, the model's blue, green, red: they are taken in this"
        in capsys.readouterr().err
    )


def test_what_holds_nothing_by_the_file_is_labeled_as_nothing(sixteen, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    image = np.random.default_rng(0).integers(100, 900, (12, 17, 3), np.uint16)
    image[:4], image[4, :5] = 65535, 0
    label, nodata = labels(sixteen, geotiff(tmp_path / "a.tif", image, nodata=65535))
    assert (label[:4] == 255).all() and (label[4, :5] == 255).all() and (label[5:] < 3).all() and nodata == 255
    assert "note:" not in capsys.readouterr().err
    label, nodata = labels(sixteen, geotiff(tmp_path / "b.tif", image[5:], nodata=65535))
    assert (label < 3).all() and nodata == 255
    predict(sixteen, tmp_path / "a.tif", "--out", tmp_path / "p", "--probabilities")
    p = rasterio.open(tmp_path / "p" / "a_probabilities.tif").read()
    assert (p.sum(0) == 0)[:4].all() and (p.sum(0) > 0)[5:].all()


def test_a_value_for_nothing_that_the_model_does_not_know_is_said(workdir, tmp_path, capsys):
    labels(workdir, geotiff(tmp_path / "a.tif", np.full((6, 5, 3), 90, np.uint8), nodata=0))
    assert "0 holds nothing by what files say; the model knows no such value" in capsys.readouterr().err


@pytest.mark.parametrize("nodata", [-9999.0, np.nan, 300.5])
def test_a_value_for_nothing_that_no_pixel_can_have_is_none(monkeypatch, tmp_path, capsys, nodata):
    """GDAL lets files of 8 bits declare -9999, and a model of them has it."""
    trained = dataclasses.replace(
        brightest(), preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3, bands=Bands(nodata=nodata))
    )
    monkeypatch.setattr("jaxseg.trained.load", lambda source, checkpoint: trained)
    labels("a workdir", geotiff(tmp_path / "a.tif", np.full((6, 5, 3), 90, np.uint8), nodata=0))
    assert "0 holds nothing by what files say; the model knows no such value" in capsys.readouterr().err


def test_a_mask_inside_a_file_is_said_to_be_unused(sixteen, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    image = np.random.default_rng(0).integers(100, 900, (12, 17, 3), np.uint16)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(geotiff(tmp_path / "a.tif", image), "r+") as file:
            file.write_mask(image[..., 0] > 200)
    labels(sixteen, tmp_path / "a.tif")
    assert "the mask that files have inside is not used" in capsys.readouterr().err


@pytest.mark.parametrize("count,ignore,kind,nodata", [(3, -100, "uint8", None), (256, 65535, "uint16", 65535)])
def test_maps_declare_the_ignore_label_where_their_type_holds_it(tmp_path, count, ignore, kind, nodata):
    """A bundle may have a negative one, and of 256 classes 255 is one: no label of this image is above 255."""
    rasterio = pytest.importorskip("rasterio")
    names = tuple(f"class {i}" for i in range(count))
    trained = dataclasses.replace(brightest(), classes=names, palette=((9, 8, 7),) * count, ignore=ignore)
    page = ImagePage(geotiff(tmp_path / "a.tif", np.full((6, 5, 3), 90, np.uint8)), None, tmp_path / "a")
    write_page(trained, page, open_page(trained, page), Predicted(np.full((6, 5), 2, np.int32), {}))
    with rasterio.open(tmp_path / "a_label.tif") as written:
        assert (written.dtypes, written.nodata, written.read().max()) == ((kind,), nodata, 2)
