"""Flips and tiles inside exported functions: what `Predictor` says with the same ones."""

import jax
import numpy as np
import pytest

import jaxseg
from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.export import Form, export_onnx
from jaxseg.export.function import create_function
from jaxseg.inference.predict import Predictor
from jaxseg.inference.tta import TTA
from tests.export.models import MEAN, STD, random_image, small

IMAGE = random_image(37, 50, 3)
CASES = {
    "mirrored padding": (dict(phase=(1, 3), fill="reflect"), dict(tta="d4")),
    "scales": (dict(fill="mean"), dict(tta="flip,0.5")),
    "tiles": (dict(), dict(tile=16)),
    "tiles of a phase": (dict(phase=(1, 3), fill="reflect"), dict(tile=16, blend="center", overlap=0.5)),
    "tiles and flips": (dict(fill="mean"), dict(tile=24, blend="constant", tta="flip")),
    "tiles of half the size": (dict(resize=Resize(factor=0.5)), dict(tile=16)),
}


def form_of(output, ways, **more):
    return Form((37, 50), output, **more, **{k: TTA.parse(v) if k == "tta" else v for k, v in ways.items()})


@pytest.mark.parametrize("case", CASES)
def test_the_function_says_what_the_predictor_says(case):
    rule, ways = CASES[case]
    trained = small(preprocessing=Preprocessing(MEAN, STD, bucket=8, **rule))
    function = jax.jit(create_function(trained, form_of("probabilities", ways)))
    found = np.asarray(function(trained.variables, IMAGE[None]))[0]
    wanted = Predictor(trained, **ways).probabilities(IMAGE)
    np.testing.assert_allclose(found, wanted, atol=1e-3 if "resize" in rule else 2e-6)
    plain = Predictor(trained, tile="none").probabilities(IMAGE)
    assert np.abs(found - plain).max() > 1e-4


ONNX = {
    "flips of any size": (dict(), dict(tta="flip"), ("batch", "size")),
    "flips and scales": (dict(phase=(1, 3)), dict(tta="flip,0.5"), ()),
    "tiles and flips": (dict(fill="reflect"), dict(tta="flip", tile=24), ("batch",)),
}


@pytest.mark.parametrize("case", ONNX)
def test_onnxruntime_says_what_the_predictor_says(case, tmp_path):
    rule, ways, dynamic = ONNX[case]
    trained = small(preprocessing=Preprocessing(MEAN, STD, bucket=8, **rule))
    agreement = export_onnx(trained, tmp_path / "a.onnx", form_of("probabilities", ways, dynamic=dynamic))
    assert agreement.difference < 1e-5
    exported = jaxseg.load_exported(tmp_path / "a.onnx")
    np.testing.assert_allclose(exported(IMAGE), Predictor(trained, **ways).probabilities(IMAGE), atol=1e-5)
    assert exported.description["tta"] == ways["tta"]


def test_a_stablehlo_file_has_flips_and_tiles_of_any_number_of_images(tmp_path):
    words = ["export", str(tmp_path / "bundle"), "--out", str(tmp_path / "a.stablehlo"), "--size", "37", "50"]
    words += ["--dynamic", "batch", "--tile", "24", "--overlap", "0.5", "--tta", "flip", "--output", "probabilities"]
    small().save(tmp_path / "bundle", with_golden=False)
    assert main(words) == 0
    exported = jaxseg.load_exported(tmp_path / "a.stablehlo")
    wanted = Predictor(small(), tile=24, overlap=0.5, tta="flip").probabilities(IMAGE)
    np.testing.assert_allclose(exported(np.stack([IMAGE, IMAGE]))[1], wanted, atol=1e-5)
    assert exported.description["tiles"] == {"tile": [24, 24], "step": [8, 8], "blend": "gaussian"}
    assert "It cuts them into tiles of 24x24 every 8x8 pixels." in exported.description["use"]
    assert "It averages the probabilities of 2 variants of them (flip)." in exported.description["use"]


HOLES = small(preprocessing=Preprocessing((9, 9), (1, 1), Bands(("a", "b"), "uint16", (0, 99), nodata=0), bucket=8))


@pytest.mark.parametrize(
    "trained,form,said",
    [
        (small(), Form((40, 40), tile=16, dynamic=("size",)), "one file a size"),
        (HOLES, Form((40, 40), tile=16), "Tiles that hold nothing do not count"),
        (small(), Form((40, 40), tile=4), "Tiles that overlap by 0.25 have from 11 to"),
        (small(), Form((160, 160), tile=16, overlap=0.5), "has 361 tiles, each of which"),
    ],
)
def test_tiles_that_a_file_cannot_have_are_refused(trained, form, said, tmp_path):
    with pytest.raises(UserError, match=said):
        export_onnx(trained, tmp_path / "a.onnx", form)
    assert list(tmp_path.iterdir()) == []
