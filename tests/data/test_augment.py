"""Every option by what it does to images and labels, and what none of them may do."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data.augment import LUMA, TO_YIQ, Augment, _recolor, augment, prepare
from jaxseg.ops.normalize import normalize

IGNORE = 255
PLAIN = {"ignore": IGNORE, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
OFF = Augment(flip=0.0)
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def batch():
    """Two images of 20x24 whose labels are 4x4 blocks, and whose red channel is 20 times the label."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.repeat(rng.integers(0, 11, (2, 5, 6)), 4, 1), 4, 2).astype(np.uint8)
    image = rng.integers(0, 256, (2, 20, 24, 3), np.uint8)
    image[..., 0] = 20 * label
    return {"image": image, "label": label}


def run(batch, options, crop=(20, 24), key=KEY):
    return jax.tree.map(np.asarray, jax.jit(partial(augment, options=options, crop=crop, **PLAIN))(key, batch))


def test_defaults_are_the_configs():
    assert Augment(**default_config().augment) == Augment()
    assert {f.name for f in dataclasses.fields(Augment)} == set(default_config().augment)


def test_without_options_nothing_changes(batch):
    out = run(batch, OFF)
    np.testing.assert_array_equal(out["image"], batch["image"])
    np.testing.assert_array_equal(out["label"], batch["label"])
    assert out["where"].all()
    assert out["image"].dtype == np.float32
    assert out["label"].dtype == np.int32
    assert out["where"].dtype == bool


def test_prepare_is_augment_without_options(batch):
    batch = {**batch, "label": np.where(batch["label"] == 3, IGNORE, batch["label"]).astype(np.uint8)}
    statistics = {"ignore": IGNORE, "mean": (127.0, 120.0, 100.0), "std": (60.0, 50.0, 40.0)}
    plain, same = prepare(batch, **statistics), augment(KEY, batch, OFF, crop=(20, 24), **statistics)
    chex.assert_trees_all_equal(plain, same)
    np.testing.assert_array_equal(plain["where"], batch["label"] != IGNORE)
    assert (np.asarray(plain["label"])[batch["label"] == IGNORE] == 0).all()
    expected = (batch["image"][0, 0, 0] - np.array([127, 120, 100])) / np.array([60, 50, 40])
    np.testing.assert_allclose(plain["image"][0, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(normalize(batch["image"], (0,) * 3, (255,) * 3), batch["image"] / 255, rtol=1e-6)


def test_crops_are_exact_anywhere_within(batch):
    seen = set()
    step = jax.jit(partial(augment, options=OFF, crop=(17, 22), **PLAIN))
    for i in range(40):
        out = step(jax.random.key(i), batch)
        found = [
            (t, left)
            for t in range(4)
            for left in range(3)
            if np.array_equal(out["image"][0], batch["image"][0, t : t + 17, left : left + 22])
            and np.array_equal(out["label"][0], batch["label"][0, t : t + 17, left : left + 22])
        ]
        assert len(found) == 1
        seen.update(found)
    assert {t for t, _ in seen} == set(range(4))
    assert {left for _, left in seen} == set(range(3))


def test_a_image_smaller_than_the_crop_lies_within_gray(batch):
    places = set()
    step = jax.jit(partial(augment, options=OFF, crop=(23, 30), **PLAIN))
    for i in range(20):
        out = jax.tree.map(lambda v: np.asarray(v)[0], step(jax.random.key(i), batch))
        rows, columns = np.flatnonzero(out["where"].any(1)), np.flatnonzero(out["where"].any(0))
        assert (len(rows), len(columns), out["where"].sum()) == (20, 24, 480)
        np.testing.assert_array_equal(out["image"][out["where"]].reshape(20, 24, 3), batch["image"][0])
        assert (out["image"][~out["where"]] == 127).all()
        assert (out["label"][~out["where"]] == 0).all()
        places.add((rows[0], columns[0]))
    assert len(places) > 8


def test_flips_are_exact_and_as_frequent_as_asked(batch):
    both = run(batch, Augment(flip=1.0, flip_vertical=1.0))
    np.testing.assert_array_equal(both["image"], batch["image"][:, ::-1, ::-1])
    np.testing.assert_array_equal(both["label"], batch["label"][:, ::-1, ::-1])
    many = {k: np.repeat(v[:1, :4, :4], 400, 0) for k, v in batch.items()}
    many["image"][:] = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    flipped = run(many, Augment(flip=0.25), crop=(4, 4))["image"][:, 0, 0, 0] == 3
    assert 70 < flipped.sum() < 130


def test_scale_is_log_uniform():
    """Ramps whose slope after zooming is one over the zoom."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (300, 64, 8, 3))
    batch = {"image": ramp, "label": np.zeros(ramp.shape[:3], np.uint8)}
    out = run(batch, Augment(scale=(0.5, 2.0), flip=0.0), crop=(32, 1))["image"]
    zoom = np.log2(1 / (out[:, 16, 0, 0] - out[:, 15, 0, 0]))
    assert zoom.min() > -1.01
    assert zoom.max() < 1.01
    quarters = np.histogram(zoom, bins=4, range=(-1.01, 1.01))[0]
    assert quarters.min() > 45


GEOMETRY = {
    "scale": {"scale": (0.5, 2.0)},
    "aspect": {"aspect": 2.0},
    "flip": {"flip": 1.0},
    "flip_vertical": {"flip_vertical": 1.0},
    "rotate": {"rotate": 45.0},
    "elastic": {"elastic": 3.0},
}
COLOR = {
    "brightness": {"brightness": 0.5},
    "contrast": {"contrast": 0.5},
    "saturation": {"saturation": 0.8},
    "hue": {"hue": 0.3},
    "blur": {"blur": 1.0, "blur_sigma": (1.0, 1.5)},
    "noise": {"noise": 20.0},
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry_moves_image_and_label_together(name, batch):
    out = run(batch, Augment(**{"flip": 0.0, **GEOMETRY[name]}))
    assert (out["label"] != batch["label"]).any()
    # Red is 20 times the label: where it is not interpolated between classes the two must agree.
    red = out["image"][..., 0] / 20
    pure = (red == np.round(red)) & out["where"]
    assert pure.mean() > 0.15
    np.testing.assert_array_equal(out["label"][pure], red[pure])
    assert np.abs(red - out["label"])[out["where"]].mean() < 0.8  # and nearly elsewhere: at most half a step off
    assert (out["image"][~out["where"]] == 127).all()


@pytest.mark.parametrize("name", COLOR)
def test_color_changes_the_image_alone(name, batch):
    out = run(batch, Augment(**{"flip": 0.0, **COLOR[name]}))
    np.testing.assert_array_equal(out["label"], batch["label"])
    assert np.abs(out["image"] - batch["image"]).mean() > 1
    assert out["image"].min() >= 0
    assert out["image"].max() <= 255
    change = out["image"] - batch["image"]
    assert np.abs(change[0] - change[1]).mean() > 1  # each sample draws for itself


def test_color_options_do_what_they_say():
    rng = np.random.default_rng(1)
    image = rng.integers(90, 150, (2, 8, 8, 3), np.uint8)  # far from the ends: nothing is clipped
    batch = {"image": image, "label": np.zeros((2, 8, 8), np.uint8)}
    luma = image @ TO_YIQ[0]

    brighter = run(batch, Augment(flip=0, brightness=0.3), (8, 8))["image"] / image
    assert brighter.std(axis=(1, 2, 3)).max() < 1e-5
    contrasted = run(batch, Augment(flip=0, contrast=0.3), (8, 8))["image"] @ TO_YIQ[0]
    np.testing.assert_allclose(contrasted.mean((1, 2)), luma.mean((1, 2)), rtol=1e-5)
    factor = (contrasted - luma.mean((1, 2), keepdims=True)) / (luma - luma.mean((1, 2), keepdims=True))
    assert factor.std(axis=(1, 2)).max() < 1e-2
    for option in ("saturation", "hue"):
        turned = run(batch, Augment(flip=0, **{option: 0.3}), (8, 8))["image"]
        np.testing.assert_allclose(turned @ TO_YIQ[0], luma, rtol=1e-4)
    chroma = np.linalg.norm((image @ TO_YIQ.T)[..., 1:], axis=-1)
    np.testing.assert_allclose(np.linalg.norm((turned @ TO_YIQ.T)[..., 1:], axis=-1), chroma, atol=0.02)


def _many(image):
    """A batch of 400 of one image, uint8[h, w, 3]."""
    image = np.broadcast_to(np.asarray(image, np.uint8), (400, *np.shape(image)))
    return {"image": image, "label": np.zeros(image.shape[:3], np.uint8)}


def _assert_uniform(values, low, high):
    """400 draws lie within the limits, and about a quarter of them in each quarter."""
    slack = 0.01 * (high - low)
    assert low - slack <= values.min() and values.max() <= high + slack, (values.min(), values.max())
    quarters = np.histogram(values, bins=4, range=(low - slack, high + slack))[0]
    assert quarters.min() > 60 and quarters.max() < 140, quarters  # 100 is expected, and 8.7 is one deviation


def test_hue_turns_red_towards_green_as_hsvs_does():
    """A third of the circle makes green of red, of green blue, of blue red: the largest band, before the clip."""
    options, colors = Augment(flip=0, hue=1 / 3), 40 + 100 * np.eye(3, dtype=np.float32)[None]
    keys = jax.random.split(KEY, 200)
    draws = jax.vmap(lambda key: jax.random.uniform(key, (4,), minval=-1, maxval=1)[0])(keys)
    turned = np.asarray(_recolor(keys[draws.argmax()], options, jnp.asarray(colors), jnp.ones((1, 3), bool)))
    assert turned.argmax(-1).tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(turned @ LUMA, colors @ LUMA, rtol=1e-5)


def test_colors_change_as_far_as_configured():
    many = _many(np.full((1, 1, 3), (140, 100, 110)))
    out = run(many, Augment(flip=0, brightness=0.3, saturation=0.4, hue=0.1), (1, 1))["image"][:, 0, 0]
    yiq, before = out @ TO_YIQ.T, np.array([140, 100, 110]) @ TO_YIQ.T
    gain = yiq[:, 0] / before[0]
    chroma = (yiq[:, 1] + 1j * yiq[:, 2]) / (before[1] + 1j * before[2])
    _assert_uniform(gain, 0.7, 1.3)
    _assert_uniform(np.abs(chroma) / gain, 0.6, 1.4)
    _assert_uniform(np.angle(chroma) / (2 * np.pi), -0.1, 0.1)


def test_contrast_changes_as_far_as_configured_about_the_mean_of_the_image_itself():
    """Whatever lies beside it in the crop."""
    image = np.random.default_rng(3).integers(90, 150, (4, 4, 3)).astype(np.uint8)
    image[:, -1] = 150  # the border's values go on beyond it
    out = run(_many(image), Augment(flip=0, contrast=0.4), (6, 6))
    luma, before = out["image"][out["where"]].reshape(400, -1, 3) @ TO_YIQ[0], (image @ TO_YIQ[0]).ravel()
    np.testing.assert_allclose(luma.mean(1), before.mean(), rtol=1e-4)
    _assert_uniform((luma @ (before - before.mean())) / (before @ (before - before.mean())), 0.6, 1.4)


def test_noise_is_as_strong_as_configured():
    out = run(_many(np.full((24, 24, 3), 128)), Augment(flip=0, noise=20.0), (24, 24))["image"]
    _assert_uniform(out.std((1, 2, 3)) / 1.02, 0, 20)  # of 1728 values: measured to within 2 %
    np.testing.assert_allclose(out.mean(), 128, atol=0.1)


def test_blur_is_as_frequent_and_as_wide_as_configured():
    image = np.zeros((7, 7, 3))
    image[3, 3] = 250
    out = run(_many(image), Augment(flip=0, blur=0.25, blur_sigma=(0.6, 1.2)), (7, 7))["image"][..., 0]
    blurred = out[:, 3, 3] < 249
    assert 70 < blurred.sum() < 130
    # A Gaussian falls by exp(-1 / (2 sigma^2)) from its middle to the pixel beside it.
    sigma = np.sqrt(-0.5 / np.log(out[blurred, 3, 4] / out[blurred, 3, 3]))
    assert 0.59 < sigma.min() < 0.7 and 1.1 < sigma.max() < 1.21
    np.testing.assert_array_equal(out[~blurred], np.broadcast_to(image[..., 0], out.shape)[~blurred])


def _ramps(size):
    """An image whose red grows by 3 a column and whose green grows by 3 a row."""
    row, column = np.indices((size, size))
    return np.stack([3 * column, 3 * row, 0 * row], -1)


def test_rotation_turns_either_way_as_far_as_configured():
    out = run(_many(_ramps(41)), Augment(flip=0, rotate=30.0), (9, 9))["image"]
    slope = (out[:, 4, 5] - out[:, 4, 4]) / 3  # of (column, row) to the right
    np.testing.assert_allclose(np.hypot(slope[:, 0], slope[:, 1]), 1, atol=1e-4)
    _assert_uniform(np.degrees(np.arctan2(slope[:, 1], slope[:, 0])), -30, 30)


def test_aspect_stretches_as_far_as_configured_and_keeps_the_area():
    out = run(_many(_ramps(41)), Augment(flip=0, aspect=2.0), (9, 9))["image"]
    across, down = 3 / (out[:, 4, 5, 0] - out[:, 4, 4, 0]), 3 / (out[:, 5, 4, 1] - out[:, 4, 4, 1])
    _assert_uniform(np.log2(across / down), -1, 1)
    np.testing.assert_allclose(across * down, 1, rtol=1e-4)


def test_elastic_displaces_by_the_pixels_configured():
    """The middle of three knots, on an image so much larger than the crop that nothing lies outside."""
    options = Augment(flip=0, elastic=4.0, elastic_grid=3)
    out = run(_many(_ramps(85)), options, (85, 85))["image"][:, 42, 42, :2] / 3 - 42  # across, down
    assert np.abs(out).max() > 8
    np.testing.assert_allclose(out.std(0), 4, rtol=0.12)
    np.testing.assert_allclose(out.mean(0), 0, atol=0.7)


def test_blur_is_scipys():
    from scipy import ndimage

    image = np.random.default_rng(2).integers(0, 256, (1, 16, 16, 3), np.uint8)
    out = run(
        {"image": image, "label": np.zeros((1, 16, 16), np.uint8)},
        Augment(flip=0, blur=1.0, blur_sigma=(1.0, 1.0)), (16, 16),
    )  # fmt: skip
    expected = ndimage.gaussian_filter(image[0].astype(float), (1, 1, 0), mode="nearest", truncate=3.0)
    np.testing.assert_allclose(out["image"][0], expected, atol=0.01)


def test_samples_depend_on_their_key_alone(batch):
    options = Augment(scale=(0.5, 2.0), rotate=20.0, brightness=0.3)
    first, again, other = (run(batch, options, key=jax.random.key(i)) for i in (1, 1, 2))
    chex.assert_trees_all_equal(first, again)
    assert (first["image"] != other["image"]).any()
    swapped = {k: np.concatenate([v[:1], v[:1]]) for k, v in batch.items()}
    out = run(swapped, options, key=jax.random.key(1))
    np.testing.assert_array_equal(out["image"][0], first["image"][0])
    assert (out["image"][1] != out["image"][0]).any()


def test_options_that_are_off_are_not_compiled(batch):
    def size(options):
        return len(jax.make_jaxpr(partial(augment, options=options, crop=(20, 24), **PLAIN))(KEY, batch).pretty_print())

    small = size(OFF)
    for options in ({"flip": 0.5}, *GEOMETRY.values(), *COLOR.values()):
        assert size(Augment(**{"flip": 0.0, **options})) > small
    assert size(Augment(flip=0.0, blur=0.0, blur_sigma=(1.0, 9.0), elastic_grid=9)) == small


def test_ignored_labels_stay_ignored(batch):
    label = np.where(batch["label"] == 2, IGNORE, batch["label"]).astype(np.uint8)
    out = run({**batch, "label": label}, Augment(flip=1.0))
    np.testing.assert_array_equal(out["where"], (label != IGNORE)[:, :, ::-1])


@pytest.mark.parametrize(
    "options", [{"hue": 0.7}, {"flip": 2.0}, {"scale": (2.0, 1.0)}, {"scale": (0.0, 1.0)}, {"aspect": 0.5}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=f"augment.{next(iter(options))}: expected"):
        Augment(**options)


def test_camvid_recipe_is_expressible():
    shapes = jax.eval_shape(
        partial(augment, options={"scale": (0.5, 2.0), "flip": 0.5}, crop=(320, 320), **PLAIN),
        KEY,
        {"image": jnp.zeros((8, 360, 480, 3), jnp.uint8), "label": jnp.zeros((8, 360, 480), jnp.uint8)},
    )
    assert {k: (v.shape, str(v.dtype)) for k, v in shapes.items()} == {
        "image": ((8, 320, 320, 3), "float32"),
        "label": ((8, 320, 320), "int32"),
        "where": ((8, 320, 320), "bool"),
    }
