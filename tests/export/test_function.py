"""The exported function: padding, resizing, and what it returns, against what prediction does."""

import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.bands import RGB, Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize, resize_image
from jaxseg.export.check import TIED, compare
from jaxseg.export.function import Form, create_function, fill_up, resize_stored
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.predict import Predictor
from tests.export.models import MEAN, STD, random_image, small


@pytest.mark.parametrize("fill", ["gray", "mean", "reflect"])
@pytest.mark.parametrize("size", [(5, 7), (5, 8), (11, 24)])
def test_filling_up_is_the_padding_of_prediction(fill, size):
    seen, image = Preprocessing(MEAN, STD, fill=fill), random_image(5, 7, 3)
    np.testing.assert_array_equal(fill_up(image[None], size, seen), seen.pad([image], size))


def test_filling_up_knows_the_range_of_bands():
    bands = Bands(("a", "b"), "uint16", ((0, 1000), (500, 3000)))
    seen, image = Preprocessing((100, 50), (1, 1), bands), random_image(3, 4, 2, dtype="uint16")
    np.testing.assert_array_equal(fill_up(image[None], (4, 8), seen), seen.pad([image], (4, 8)))


@pytest.mark.parametrize("size", [(12, 30), (40, 17), (25, 33), (25, 40)])
@pytest.mark.parametrize("bands", [RGB, Bands(("a", "b"), "int16", (-50, 200))], ids=["rgb", "bands"])
def test_resizing_gives_what_the_files_are_resized_to(size, bands):
    image = random_image(25, 33, bands.count, dtype=bands.dtype)
    got = np.asarray(jax.jit(lambda image: resize_stored(image, size, bands))(image[None]))[0]
    wanted = resize_image(image, size)
    assert got.dtype == wanted.dtype
    assert np.abs(got.astype(int) - wanted).max() <= 1
    assert (got != wanted).mean() < 0.03


RULES = {
    "padded": dict(),
    "of a phase, mirrored": dict(phase=(1, 3), fill="reflect"),
    "half the size": dict(resize=Resize(factor=0.5)),
    "one size": dict(resize=Resize(size=(16, 24))),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_function_gives_the_probabilities_of_the_predictor(rule):
    trained = small(preprocessing=Preprocessing(MEAN, STD, bucket=8, **RULES[rule]))
    image = random_image(21, 30, 3)
    function = jax.jit(create_function(trained, Form((21, 30), "probabilities")))
    wanted = Predictor(trained).probabilities(image)
    np.testing.assert_allclose(
        function(trained.variables, image[None])[0], wanted, atol=0.02 if "size" in rule else 1e-5
    )


def test_one_class_has_a_threshold():
    trained, form = small(1, threshold=0.4, activation="sigmoid"), Form((16, 16))
    image = random_image(16, 16, 3)
    labels = np.asarray(jax.jit(create_function(trained, form))(trained.variables, image[None]))
    np.testing.assert_array_equal(labels[0], Predictor(trained)(image))
    assert labels.dtype == np.uint8


def test_probabilities_are_calibrated_and_labels_are_not():
    trained, image = small(), random_image(16, 16, 3)
    calibration = Calibration("vector", (0.1,) * 3, (5.0, 0.0, 0.0), checkpoint=1, split="val")
    outputs = {
        output: np.asarray(
            create_function(trained, Form((16, 16), output), calibration)(trained.variables, image[None])
        )
        for output in ("labels", "probabilities", "logits")
    }
    np.testing.assert_array_equal(outputs["labels"][0], Predictor(trained)(image))
    np.testing.assert_array_equal(outputs["labels"], outputs["logits"].argmax(-1))
    wanted = Predictor(trained, calibration=calibration).probabilities(image)
    np.testing.assert_allclose(outputs["probabilities"][0], wanted, atol=1e-6)


def test_a_wrong_function_is_told_from_the_model():
    trained, form = small(), Form((16, 16), "probabilities")
    right = jax.jit(create_function(trained, form))
    agreement = compare(lambda images: right(trained.variables, images), trained, form)
    assert agreement.difference < 1e-5
    assert agreement.labels == 1
    with pytest.raises(UserError, match="does not say what the model says"):
        compare(lambda images: right(trained.variables, images[:, :, :, ::-1]), trained, form)
    with pytest.raises(UserError, match="does not say what the model says"):  # the same labels
        compare(lambda images: 0.99 * right(trained.variables, images), trained, form)
    with pytest.raises(UserError, match="returns \\(1, 16, 16\\)"):
        compare(lambda images: right(trained.variables, images)[..., 0], trained, form)


def test_labels_may_differ_only_where_two_classes_tie():
    trained, form = small(), Form((16, 16))
    probabilities = jax.jit(create_function(trained, Form((16, 16), "probabilities")))
    right = jax.jit(create_function(trained, form))

    def nudged(images, gap):
        labels, scores = np.array(right(trained.variables, images)), np.sort(probabilities(trained.variables, images))
        gaps = (scores[..., -1] - scores[..., -2])[0]
        where = np.unravel_index(np.argmin(gaps if gap == "least" else -gaps), gaps.shape)
        labels[0][where] = (labels[0][where] + 1) % 3
        return labels

    with pytest.raises(UserError, match="does not say what the model says"):
        compare(lambda images: nudged(images, "greatest"), trained, form)
    assert TIED < 0.01


@pytest.mark.parametrize(
    "form,said",
    [
        (dict(size=(0, 5)), "The size must be"),
        (dict(size=(2**14, 2**14)), "The size must be"),
        (dict(size=(5, 5), output="label"), "Did you mean 'labels'?"),
        (dict(size=(5, 5), batch=0), "at least 1 image"),
    ],
)
def test_a_form_that_cannot_be_is_an_error(form, said):
    with pytest.raises(UserError, match=said.replace("?", "\\?")):
        Form(**form)


def test_a_rule_of_resizing_needs_one_size():
    trained = small(preprocessing=Preprocessing(MEAN, STD, resize=Resize(short_side=16)))
    with pytest.raises(UserError, match="one file a size"):
        create_function(trained, Form((32, 32), dynamic=("size",)))
