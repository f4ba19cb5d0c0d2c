"""Bands: stored values become 0 to 255 as their window says, in training and ever after, and nothing is dropped."""

import json

import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.augment import augment
from jaxseg.data.bands import RGB, Bands, empty_pixels, resize_bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.data.statistics import fit_mean_and_std, fit_window, spread


def test_a_window_is_linear_clipped_and_of_each_band():
    bands = Bands(("vv", "vh"), "int16", ((-200, 310), (0, 51)))
    values = np.array([[-300, -200, 55, 310, 999], [-5, 0, 10, 51, 60]], np.int16).T[None]
    expected = [[[0, 0], [0, 0], [127.5, 50], [255, 255], [255, 255]]]
    np.testing.assert_allclose(jax.jit(bands.scale)(values), expected, rtol=1e-6)
    np.testing.assert_array_equal(bands.stored((127.5, 50)), np.array([55, 10], np.int16))
    assert Bands(("a", "b"), "uint16", (0, 9)).window == ((0, 9), (0, 9))


def test_8_bit_rgb_is_left_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    np.testing.assert_array_equal(RGB.scale(image), image.astype(np.float32))
    assert RGB.is_rgb and not Bands(window=((0, 200),) * 3).is_rgb and not Bands(("r", "g", "b")).is_rgb


def test_what_holds_nothing_is_gray_and_known():
    bands = Bands(("a", "b"), "float32", ((0, 1), (0, 1)), nodata=-9999)
    image = np.array([[[0.5, np.nan], [-9999, np.inf], [1, 0]]], np.float32)
    np.testing.assert_allclose(bands.scale(image)[0], [[127.5, 127], [127, 127], [255, 0]])
    np.testing.assert_array_equal(empty_pixels(bands, image), [[False, True, False]])
    assert empty_pixels(RGB, np.zeros((1, 1, 3), np.uint8)) is None


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"names": ()}, "at least one band"),
        ({"dtype": "uint32"}, "Unknown type of images 'uint32'"),
        ({"window": (5, 5)}, r"low < high.*got \(5, 5\)"),
        ({"window": ((0, 1), (0, 1))}, "each of the 3 bands"),
        ({"window": "0-255"}, "window must be"),
        ({"percentiles": (99, 1)}, "percentiles must be"),
    ],
)
def test_mistakes_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Bands(**fields)
    with pytest.raises(UserError, match=r"range of the uint16 images is not known. Give data.options.window"):
        Bands(("a",), "uint16").scale(np.zeros((1, 1, 1), np.uint16))


def test_figures_show_red_green_and_blue_where_they_are_named():
    bands = Bands(("Blue", "Green", "Red", "NIR"), "uint16", ((0, 2550),) * 4)
    assert bands.shown == (2, 1, 0)
    np.testing.assert_array_equal(bands.to_show(np.array([[[10, 20, 30, 990]]], np.uint16)), [[[3, 2, 1]]])
    assert (Bands(("gray",)).shown, Bands(tuple("abcd")).shown) == ((0, 0, 0), (0, 1, 2))
    unknown = Bands(("gray",), "uint16").to_show(np.arange(1001, dtype=np.uint16).reshape(-1, 1, 1))
    assert (unknown.min(), unknown.max()) == (0, 255)  # as much as the image tells


def test_windows_and_statistics_are_fitted_band_by_band_without_what_holds_nothing():
    rng = np.random.default_rng(1)
    values = rng.normal((400, 3000), (50, 10), (20, 50, 60, 2))
    images = [{"image": np.round(x).astype(np.uint16)} for x in values]
    for record in images:
        record["image"][:10] = 0  # nodata, far from the values
    bands = Bands(("a", "b"), "uint16", percentiles=(1, 99), nodata=0)
    window = fit_window(spread(images, 100), bands)
    flat = np.concatenate([r["image"][10:].reshape(-1, 2) for r in images]).astype(float)
    np.testing.assert_allclose(window, np.percentile(flat, (1, 99), axis=0).T, rtol=2e-3)
    fitted = Bands(("a", "b"), "uint16", window, nodata=0)
    scaled = np.asarray(fitted.scale(flat.astype(np.uint16)[None]))[0].astype(float)
    mean, std = fit_mean_and_std(spread(images, 100), fitted)
    np.testing.assert_allclose(mean, scaled.mean(0), rtol=5e-3)
    np.testing.assert_allclose(std, scaled.std(0), rtol=5e-3)
    (flat_window,) = fit_window([np.full((2, 2, 1), 7, np.int16)], Bands(("flat",), "int16"))
    assert flat_window == (7, 8)
    with pytest.raises(UserError, match="'a' holds no number"):
        fit_window([np.zeros((2, 2, 2), np.uint16)], bands)


def test_the_record_survives_json():
    bands = Bands(("a", "b"), "float32", ((0, 1), (-1, 1)), (2, 98), nodata=float("nan"))
    seen = Preprocessing((1, 2), (3, 4), bands, Resize(size=(5, 6)), "reflect", (33, 7), bucket=16)
    again = Preprocessing.from_json(json.loads(json.dumps(seen.to_json(), allow_nan=False)))
    assert repr(again) == repr(seen) and again.phase == (1, 7)
    assert Preprocessing.from_json({"mean": [1, 2, 3], "std": [1, 1, 1]}) == Preprocessing((1, 2, 3), (1, 1, 1))
    assert Preprocessing.from_json({"mean": [1], "std": [1]}).bands.count == 1


def test_what_holds_nothing_is_not_mixed_into_what_is_resized():
    bands = Bands(("height",), "int16", ((0, 100),), nodata=-9999)
    image = np.full((40, 40, 1), 50, np.int16)
    image[:, 23:] = -9999
    resized = resize_bands(image, (17, 13), bands)
    assert set(np.unique(resized)) == {-9999, 50} and resized.dtype == np.int16
    assert np.flatnonzero(resized[0, :, 0] == -9999).min() == 7  # 23 of 40 columns are 7.5 of 13


def test_training_and_prediction_show_what_holds_nothing_alike():
    """Also where images are RGB of 8 bits: 0 stands for nothing, and both show gray."""
    bands, mean, std = Bands(nodata=0), (100.0,) * 3, (50.0,) * 3
    image = np.full((1, 8, 8, 3), 200, np.uint8)
    image[0, 2:4] = 0
    batch = {"image": image, "label": np.zeros((1, 8, 8), np.uint8)}
    still = {"flip": 0.0}
    shown = augment(jax.random.key(0), batch, still, crop=(8, 8), ignore=255, mean=mean, std=std, bands=bands)
    np.testing.assert_allclose(shown["image"], Preprocessing(mean, std, bands).normalize(image), atol=1e-6)
