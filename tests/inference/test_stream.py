"""Images larger than the memory: strip by strip, stopped and gone on with, shared by processes: always the same."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.data.bands import Bands
from jaxseg.data.resize import Resize
from jaxseg.inference import Predictor, stream
from jaxseg.inference.files import Outputs
from jaxseg.inference.image_list import ImagePage
from jaxseg.inference.raw_rows import Share
from jaxseg.inference.stream import predict_stream, streamed
from jaxseg.inference.tiling import make_tiling
from jaxseg.models import create_model, init
from jaxseg.trained import TrainedModel
from tests.inference.strided import image, model


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "scene.tif"
    tifffile.imwrite(file, image(300, 210), tile=(64, 64), photometric="rgb")
    return ImagePage(file, None, tmp_path / "out" / "scene")


def label_of(page):
    return tifffile.imread(f"{page.stem}_label.tif")


def leftovers(page):
    return sorted(path.name for path in page.stem.parent.iterdir() if path.name.startswith("."))


class Stopped(Exception):
    pass


def stop_after(count):
    def progress(strips, rows):
        for n, strip in enumerate(strips):
            if n == count:
                raise Stopped
            yield strip

    return progress


def test_the_labels_are_those_of_the_image_in_memory(page):
    predictor = Predictor(model(), tile=32)
    tiling = streamed(predictor, page, least=1)
    notes = predict_stream(predictor, page, tiling, Outputs(geojson=True, probabilities=True))
    label, p = predictor.label_and_probabilities(image(300, 210))
    np.testing.assert_array_equal(label_of(page), label)
    np.testing.assert_array_equal(label, predictor(image(300, 210)))
    np.testing.assert_array_equal(tifffile.imread(f"{page.stem}_probabilities.tif"), p)
    np.testing.assert_allclose(p, 255 * predictor.probabilities(image(300, 210)), atol=0.51)
    assert notes[0].endswith("is predicted in tiles of 32x32 every 24x24 pixels, strip by strip")
    assert leftovers(page) == []
    with rasterio.open(f"{page.stem}_label.tif") as file:
        assert file.block_shapes == [(256, 256)]
        assert file.nodata == 255
        assert file.colormap(1)[1][:3] == (0, 1, 0)
    assert Image.open(f"{page.stem}_overlay.png").size[1] >= 300
    found = json.loads((page.stem.parent / "scene.geojson").read_text())
    assert {feature["properties"]["class"] for feature in found["features"]} == {"a", "b", "c"}


def test_a_model_that_sees_images_smaller(page):
    predictor = Predictor(model(resize=Resize(factor=0.5)), tile=32)
    tiling = streamed(predictor, page, least=1)
    for index in range(3):
        notes = predict_stream(predictor, page, tiling, share=Share(index, 3))
    assert leftovers(page) == [] and "strip by strip" in notes[0]
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))


def test_values_are_those_of_the_data_set(page):
    trained = dataclasses.replace(model(), values=(7, 11, 26))
    predictor = Predictor(trained, tile=32)
    predict_stream(predictor, page, streamed(predictor, page, least=1), Outputs(values=True, geojson=True))
    expected = np.array([7, 11, 26])[predictor(image(300, 210))]
    np.testing.assert_array_equal(tifffile.imread(f"{page.stem}.tif"), expected)
    found = json.loads((page.stem.parent / "scene.geojson").read_text())["features"]
    assert {(f["properties"]["label"], f["properties"]["class"]) for f in found} == {(0, "a"), (1, "b"), (2, "c")}
    assert sorted(path.name for path in page.stem.parent.iterdir()) == ["scene.geojson", "scene.tif"]


def test_a_disk_without_links(page, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)
    predictor = Predictor(model(), tile=32)
    predict_stream(predictor, page, streamed(predictor, page, least=1))
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))
    assert leftovers(page) == []


def test_what_decides_the_labels_is_in_the_identity(page):
    net = create_model("deeplabv3plus", "resnet18", num_classes=3)
    variables = init(net, jax.random.key(0))
    fields = dict(classes=("a", "b", "c"), palette=((1, 0, 0),) * 3, ignore=255, preprocessing=model().preprocessing)
    trained = TrainedModel(net, variables, **fields)
    others = [
        dataclasses.replace(trained, model=create_model("deeplabv3plus", "resnet18", num_classes=3, output_stride=8)),
        dataclasses.replace(trained, model=create_model("deeplabv3plus", "resnet18", num_classes=3, dtype="bfloat16")),
        dataclasses.replace(trained, activation="sigmoid"),
        dataclasses.replace(trained, values=(3, 4, 5)),
        dataclasses.replace(trained, variables=jax.tree.map(lambda x: -x, variables)),
    ]
    tiling = make_tiling(trained.preprocessing, 32)
    seen = {stream._identity(Predictor(one), page, tiling, [False]) for one in (trained, trained, *others)}
    assert len(seen) == 1 + len(others)


def test_a_large_file_has_reduced_versions(page, tmp_path):
    from jaxseg.inference.large_tiff import write_tiff

    label = np.random.default_rng(0).integers(0, 3, (2100, 700)).astype(np.uint8)
    write_tiff(tmp_path / "a.tif", lambda a, b: label[a:b, :, None], label.shape, label.dtype, None)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(file.read(1), label)


def test_without_rasterio_it_is_a_tiff_all_the_same(page, monkeypatch):
    monkeypatch.setattr("jaxseg.data.readers.geo.is_installed", lambda: False)
    predictor = Predictor(model(), tile=32)
    predict_stream(predictor, page, streamed(predictor, page, least=1))
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))
    with tifffile.TiffFile(f"{page.stem}_label.tif") as file:
        assert file.pages[0].photometric.name == "PALETTE"
        assert (file.pages[0].colormap[:, 1] // 257).tolist() == [0, 1, 0]


def test_what_was_stopped_goes_on(page):
    predictor = Predictor(model(), tile=32)
    tiling = streamed(predictor, page, least=1)
    with pytest.raises(Stopped):
        predict_stream(predictor, page, tiling, progress=stop_after(5))
    raw, note = leftovers(page)
    assert raw.startswith(".scene.") and note == f"{raw}.0-1.json"
    done = []
    predict_stream(predictor, page, tiling, progress=lambda strips, rows: (done.append(rows), strips)[1])
    assert done == [300 - 5 * 24]
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))


def test_rows_of_another_model_are_not_gone_on_with(page):
    predictor, other = Predictor(model(), tile=32), Predictor(model(fill="reflect"), tile=32)
    with pytest.raises(Stopped):
        predict_stream(other, page, streamed(other, page, least=1), progress=stop_after(5))
    predict_stream(predictor, page, streamed(predictor, page, least=1))
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))


def test_rows_that_were_cut_off_are_made_again(page):
    predictor = Predictor(model(), tile=32)
    tiling = streamed(predictor, page, least=1)
    with pytest.raises(Stopped):
        predict_stream(predictor, page, tiling, progress=stop_after(5))
    raw = page.stem.parent / leftovers(page)[0]
    raw.write_bytes(raw.read_bytes()[:1000])
    predict_stream(predictor, page, tiling)
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))


def test_processes_share_an_image(page):
    predictor = Predictor(model(), tile=32)
    tiling = streamed(predictor, page, least=1)
    for index in (2, 0):
        notes = predict_stream(predictor, page, tiling, share=Share(index, 3))
        assert "the process that ends last writes the file" in notes[-1]
        assert not (page.stem.parent / "scene_label.tif").exists()
    predict_stream(predictor, page, tiling, share=Share(1, 3))
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))
    assert leftovers(page) == []


def test_notes_of_rows_that_are_gone_count_for_nothing(page):
    """Half of the rows done, then the whole image, or the raw file removed; then the other half: no row is blank."""
    predictor = Predictor(model(), tile=32)
    tiling = streamed(predictor, page, least=1)
    for between in ("whole", "removed"):
        predict_stream(predictor, page, tiling, share=Share(0, 2))
        note = page.stem.parent / leftovers(page)[1]
        kept = note.read_text()
        if between == "whole":
            predict_stream(predictor, page, tiling)
            assert leftovers(page) == []
        else:
            (page.stem.parent / leftovers(page)[0]).unlink()
        note.write_text(kept)
        notes = predict_stream(predictor, page, tiling, share=Share(1, 2))
        assert "the process that ends last writes the file" in notes[-1]
        predict_stream(predictor, page, tiling, share=Share(0, 2))
        np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))
        assert leftovers(page) == []


def test_rows_of_another_model_stay_out(page):
    """A second model that fails amid an image of the first leaves the first one's rows as they are."""
    first, second = Predictor(model(), tile=32), Predictor(model(fill="reflect"), tile=32)
    tiling = streamed(first, page, least=1)
    for predictor, count in ((first, 5), (second, 2)):
        with pytest.raises(Stopped):
            predict_stream(predictor, page, tiling, progress=stop_after(count))
    predict_stream(first, page, tiling)
    np.testing.assert_array_equal(label_of(page), first(image(300, 210)))


def test_pixels_without_data_are_ignored(tmp_path):
    bands = Bands(("r", "g", "b"), "uint16", (0, 255), nodata=999)
    x = image(150, 100).astype(np.uint16)
    x[60:90, 20:70] = 999
    np.save(tmp_path / "scene.npy", x)
    page = ImagePage(tmp_path / "scene.npy", None, tmp_path / "scene")
    predictor = Predictor(model(bands=bands), tile=32)
    # The names of the bands of a .npy are not known: they are taken in their order.
    predict_stream(predictor, page, streamed(predictor, page, least=1), Outputs(probabilities=True))
    label, p = label_of(page), tifffile.imread(f"{page.stem}_probabilities.tif")
    np.testing.assert_array_equal(label == 255, (x == 999).all(-1))
    np.testing.assert_array_equal(p.sum(-1) == 0, label == 255)
    np.testing.assert_array_equal(label[:60], predictor(x)[:60])


def test_what_holds_nothing_by_the_file_is_nothing_in_every_strip(tmp_path):
    """The model takes 999 for nothing, and the file 7."""
    bands = Bands(("r", "g", "b"), "uint16", (0, 255), nodata=999)
    x = np.maximum(image(150, 100).astype(np.uint16), 8)
    x[60:90, 20:70] = 7
    with rasterio.open(tmp_path / "scene.tif", "w", "GTiff", 100, 150, 3, dtype="uint16", nodata=7) as file:
        file.write(np.moveaxis(x, -1, 0))
        file.descriptions = ("R", "G", "B")
    page, predictor = (
        ImagePage(tmp_path / "scene.tif", None, tmp_path / "scene"),
        Predictor(model(bands=bands), tile=32),
    )
    predict_stream(predictor, page, streamed(predictor, page, least=1))
    np.testing.assert_array_equal(label_of(page) == 255, (x == 7).all(-1))
    expected = predictor(np.where(x == 7, np.uint16(999), x))
    np.testing.assert_array_equal(label_of(page)[:60], expected[:60])


def test_what_is_not_streamed(tmp_path, page):
    predictor = Predictor(model(), tile=32)
    assert streamed(predictor, page) is None  # it is small
    Image.fromarray(image(300, 210)).save(tmp_path / "a.png")
    assert streamed(predictor, ImagePage(tmp_path / "a.png", None, tmp_path / "a"), least=1) is None
    (tmp_path / "b.tif").write_bytes(b"II*\0broken")
    assert streamed(predictor, ImagePage(tmp_path / "b.tif", None, tmp_path / "b"), least=1) is None


def test_shares():
    rows = [Share(i, 7).rows(100) for i in range(7)]
    assert rows[0][0] == 0
    assert rows[-1][1] == 100
    assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))
    for text in ("1", "3/3", "-1/2", "a/b"):
        with pytest.raises(UserError, match="--process is I/N"):
            Share.parse(text)


def test_the_command(tmp_path, page, monkeypatch, capsys):
    """`jaxseg predict` streams large files, predicts small ones in memory, and says how."""
    encoder = {"widths": (4, 6), "convs": 1}
    net = create_model("unet", "plain", num_classes=3, encoder_options=encoder, decoder_channels=(6, 4))
    fields = dict(classes=("a", "b", "c"), palette=((1, 0, 0), (0, 1, 0), (0, 0, 1)), ignore=255)
    trained = TrainedModel(net, init(net, jax.random.key(0)), **fields, preprocessing=model().preprocessing)
    trained.save(tmp_path / "bundle")
    monkeypatch.setattr(stream, "LEAST", 300 * 210)
    Image.fromarray(image(80, 50)).save(tmp_path / "small.png")
    command = ["predict", str(tmp_path / "bundle"), str(page.file), str(tmp_path / "small.png"), "--out"]
    command += [str(tmp_path / "out"), "--tile", "32", "--tta", "flip", "--probabilities"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "2 of 2 images predicted" in said.out
    assert "strip by strip" in said.err
    assert "images of 80x50 are predicted in tiles of 32x32 every 24x24 pixels" in said.err
    predictor = Predictor(trained, tile=32, tta="flip")
    np.testing.assert_array_equal(label_of(page), predictor(image(300, 210)))
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out" / "small_label.png")), predictor(image(80, 50))
    )
