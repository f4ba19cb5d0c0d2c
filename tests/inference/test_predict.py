import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxseg.checks import UserError
from jaxseg.data.bands import RGB, Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference import Ensemble, Predictor, predict_step
from jaxseg.inference.batches import as_stored
from jaxseg.trained import TrainedModel

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
FIELDS = dict(
    preprocessing=Preprocessing(MEAN, STD),
    classes=("a", "b", "c"),
    palette=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ignore=255,
)


class Net:
    """A model by contract: the logits are the normalized image, times a gain, and a record of what was compiled."""

    def __init__(self):
        self.shapes = []

    def apply(self, variables, images, *, train):
        assert train is False
        assert images.dtype == jnp.float32
        self.shapes.append(images.shape)
        return {"logits": images * variables["gain"], "auxiliary": None}


@pytest.fixture
def net():
    return Net()


def samples(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def expected(image):
    return ((image - np.array(MEAN)) / np.array(STD)).argmax(-1)


@pytest.mark.parametrize("bucket", [1, 4, 32])
def test_label_map_has_the_native_size(net, bucket):
    (image,) = samples((13, 22))
    label = Predictor(TrainedModel(net, {"gain": 1.0}, **FIELDS), bucket=bucket)(image)
    assert label.shape == (13, 22)
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, expected(image))


def test_one_program_a_bucket(net):
    predictor = Predictor(TrainedModel(net, {"gain": 1.0}, **FIELDS), bucket=8)
    for image in samples((5, 9), (8, 16), (1, 10), (9, 9), (16, 16)):
        np.testing.assert_array_equal(predictor(image), expected(image))
    assert net.shapes == [(1, 8, 16, 3), (1, 16, 16, 3)]


def test_batches_keep_the_order_and_fill_up_to_powers_of_two(net):
    predictor = Predictor(TrainedModel(net, {"gain": 1.0}, **FIELDS), bucket=8)
    images = samples((5, 5), (9, 9), (8, 8), (7, 6), (3, 3), (4, 4), (10, 12))
    for image, label in zip(images, predictor.predict_batch(images, batch_size=3), strict=True):
        np.testing.assert_array_equal(label, expected(image))
    assert net.shapes == [(3, 8, 8, 3), (2, 16, 16, 3)]
    three = samples((8, 8), (5, 5), (8, 8))
    for image, label in zip(three, predictor.predict_batch(three), strict=True):
        np.testing.assert_array_equal(label, expected(image))
    assert net.shapes[2:] == [(4, 8, 8, 3)]
    assert predictor.predict_batch([]) == []


def test_probabilities(net):
    (image,) = samples((5, 7))
    p = Predictor(TrainedModel(net, {"gain": 2.0}, **FIELDS)).probabilities(image)
    assert p.shape == (5, 7, 3)
    assert p.dtype == np.float32
    scores = 2 * (image - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(p, np.exp(scores) / np.exp(scores).sum(-1, keepdims=True), rtol=1e-4)


def test_predict_step_is_the_predictor(net):
    (image,) = samples((8, 8))
    step = jax.jit(
        lambda v, x: predict_step(
            lambda v, x: net.apply(v, x, train=False), v, x, preprocessing=Preprocessing(MEAN, STD)
        )
    )
    np.testing.assert_array_equal(
        step({"gain": 1.0}, image[None])[0], Predictor(TrainedModel(net, {"gain": 1.0}, **FIELDS))(image)
    )


def test_gray_and_rgba_are_images_too(net):
    predictor = Predictor(TrainedModel(net, {"gain": 1.0}, **FIELDS))
    (image,) = samples((4, 4))
    alpha = np.zeros((4, 4, 1), np.uint8)
    np.testing.assert_array_equal(predictor(np.concatenate([image, alpha], -1)), expected(image))
    gray = np.repeat(image[..., :1], 3, -1)
    np.testing.assert_array_equal(predictor(image[..., 0]), expected(gray))
    np.testing.assert_array_equal(predictor(image[..., :1]), expected(gray))


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4, 3), np.float32), "Expected an image of uint8, got float32.*not normalized"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"got shape \(2, 4, 4, 3\).*predict_batch"),
        (np.zeros((3, 4, 5), np.uint8), r"got shape \(3, 4, 5\).*channels come last"),
        (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_named(image, message):
    with pytest.raises(UserError, match=message):
        as_stored(image, RGB)


def test_padding_is_at_the_right_and_bottom_in_the_mean_color():
    (image,) = samples((3, 4))
    seen = Preprocessing((100.4, 110.6, 120.0), STD, bucket=8)
    batch = seen.pad([image], seen.padded(3, 4))  # rounded to the nearest
    np.testing.assert_array_equal(batch[0, :3, :4], image)
    assert (batch[0, 3:] == (100, 111, 120)).all() and (batch[0, :, 4:] == (100, 111, 120)).all()


def test_the_bucket_is_the_models_own(net):
    (image,) = samples((5, 9))
    fields = FIELDS | {"preprocessing": Preprocessing(MEAN, STD, bucket=6)}
    Predictor(TrainedModel(net, {"gain": 1.0}, **fields))(image)
    assert net.shapes == [(1, 6, 12, 3)]


def test_bucket_is_checked(net):
    with pytest.raises(UserError, match="`bucket` must be at least 1 pixel, got 0"):
        Predictor(TrainedModel(net, {}, **FIELDS), bucket=0)


def test_classes_that_are_sigmoids_have_probabilities_of_their_own(net):
    net.num_classes = 3
    (image,) = samples((3, 4))
    each = Predictor(TrainedModel(net, {"gain": 1.0}, **FIELDS, activation="sigmoid"), bucket=1)
    logits = (image - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(each.probabilities(image), 1 / (1 + np.exp(-logits)), rtol=1e-5)
    np.testing.assert_array_equal(each(image), expected(image))


def test_images_of_other_bands_are_refused_in_a_sentence(net):
    fields = FIELDS | {"preprocessing": Preprocessing((1.0,) * 4, (1.0,) * 4, Bands(tuple("rgbn")))}
    predictor = Predictor(TrainedModel(net, {"gain": 1.0}, **fields))
    with pytest.raises(UserError, match=r"one image, uint8\[height, width, 4\], got shape \(5, 9, 3\)"):
        predictor(samples((5, 9))[0])


@pytest.mark.parametrize("make", [Predictor, lambda name: Ensemble([name]), Ensemble])
def test_a_path_must_be_loaded_first(make):
    with pytest.raises(UserError, match="jaxseg.load"):
        make("runs/shapes")


class Channels:
    """Stands for a network whose logits are the normalized image."""

    num_classes = 3

    def apply(self, variables, images, *, train):
        return {"logits": images}


def test_sigmoids_of_several_classes_and_what_a_refiner_makes_of_them():
    """A refiner starts from the sigmoids' own shares, and its labels exclude each other, so its result is a softmax."""
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    trained = TrainedModel(
        Channels(),
        {},
        classes=tuple("abc"),
        palette=((0, 0, 0),) * 3,
        ignore=255,
        preprocessing=Preprocessing((128.0,) * 3, (64.0,) * 3, bucket=4),
        activation="sigmoid",
    )
    p = special.expit((image - 128.0) / 64)
    np.testing.assert_allclose(Predictor(trained).probabilities(image), p, rtol=1e-5)
    kept = Predictor(trained, refine=lambda logits, images, sizes: logits)
    np.testing.assert_allclose(kept.probabilities(image), p / p.sum(-1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(kept(image), p.argmax(-1))
