"""Test-time augmentation: the mean of what is predicted of each variant by itself, mapped back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.inference import Ensemble, Predictor
from jaxseg.inference.tta import TTA
from jaxseg.ops.resize import resize
from tests.inference.strided import image, model


@pytest.mark.parametrize("fill", ["gray", "reflect", "mean"])
def test_flipping_the_image_flips_what_comes_out(fill):
    predictor = Predictor(model(fill=fill, phase=(1, 1)), tta="flip")
    x = image(22, 37)
    found = predictor.probabilities(x[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(found, predictor.probabilities(x), rtol=1e-6, atol=1e-9)  # one bit of exp's
    np.testing.assert_array_equal(predictor(x[:, ::-1])[:, ::-1], predictor(x))


def test_turning_the_image_turns_what_comes_out():
    predictor, x = Predictor(model(fill="gray", phase=(1, 1)), tta="d4"), image(22, 37)
    p = predictor.probabilities(x)
    np.testing.assert_allclose(predictor.probabilities(x[::-1])[::-1], p, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(predictor.probabilities(np.rot90(x)), np.rot90(p), atol=1e-6)
    plain = Predictor(model(fill="gray", phase=(1, 1))).probabilities
    assert np.abs(plain(np.rot90(x)) - np.rot90(plain(x))).max() > 0.1  # the network itself does not


@pytest.mark.parametrize("fill", ["gray", "reflect"])
def test_is_the_mean_over_variants_predicted_by_themselves(fill):
    trained, x = model(fill=fill, phase=(1, 1)), image(23, 36)
    plain = Predictor(trained).probabilities
    variants = [lambda x: x, lambda x: x[:, ::-1], lambda x: x[::-1], lambda x: x[::-1, ::-1]]  # each its own inverse
    for tta, turns in [("flip", [False]), ("d4", [False, True])]:
        found = [
            v(plain(v(x))) if not turn else v(plain(v(x.swapaxes(0, 1)))).swapaxes(0, 1)
            for v in variants[: 2 if tta == "flip" else 4]
            for turn in turns
        ]
        assert len(found) == len(TTA.parse(tta))
        np.testing.assert_allclose(Predictor(trained, tta=tta).probabilities(x), np.mean(found, axis=0), atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_scales_are_those_of_the_image(activation):
    """Scaled by the resize of the library, whose parity with PyTorch's is tested, and predicted by itself."""
    bands = Bands(("r", "g", "b"), "float32", (0, 255))
    trained = dataclasses.replace(model(bands=bands, phase=(1, 1)), activation=activation)
    x = image(21, 37).astype(np.float32)
    to_probability = special.softmax if activation == "softmax" else lambda z, axis: special.expit(z)
    found = []
    for scale in (1.0, 0.5, 1.25):
        size = tuple(round(n * scale) for n in x.shape[:2])
        small = np.asarray(resize(jnp.asarray(x)[None], size))[0]
        padded = trained.preprocessing.pad([small], trained.preprocessing.padded(*size))
        logits = trained.model.apply(trained.variables, trained.preprocessing.normalize(padded), train=False)["logits"]
        back = np.asarray(resize(logits[:, : size[0], : size[1]], x.shape[:2]))[0]
        found.append(to_probability(back, axis=-1))
    p = Predictor(trained, tta="0.5,1.25").probabilities(x)
    np.testing.assert_allclose(p, np.mean(found, axis=0), atol=2e-5)


def test_in_batches_tiles_and_ensembles():
    trained = model(phase=(1, 1))
    predictor = Predictor(trained, tta="d4,0.75")
    images = [image(22, 37), image(23, 36, seed=1), image(40, 30, seed=2)]
    for x, label in zip(images, predictor.predict_batch(images), strict=True):
        np.testing.assert_array_equal(label, predictor.probabilities(x).argmax(-1))
    one = Ensemble([trained], tta="d4,0.75").probabilities(images[0])
    np.testing.assert_allclose(one, predictor.probabilities(images[0]), atol=1e-5)
    x = image(90, 75)
    tiled = Predictor(trained, tta="flip", tile=40, overlap=0.5, blend="center").probabilities(x)
    np.testing.assert_allclose(tiled, Predictor(trained, tta="flip", tile="none").probabilities(x), atol=1e-4)


def test_a_model_of_one_class():
    one = dataclasses.replace(
        model(), variables={**model().variables, "c": model().variables["c"][..., :1]}, classes=("no", "yes"),
        palette=((0, 0, 0), (1, 1, 1)), activation="sigmoid",
    )  # fmt: skip
    one.model.num_classes = 1
    x = image(20, 24)
    plain, both = Predictor(one).probabilities, Predictor(one, tta="flip").probabilities
    np.testing.assert_allclose(both(x), (plain(x) + plain(x[:, ::-1])[:, ::-1]) / 2, atol=1e-6)


def test_names():
    assert TTA.parse("flip, 0.75,1.25") == TTA((1.0, 0.75, 1.25), ((False, False), (False, True)))
    assert str(TTA.parse("d4,1.5,1")) == "d4,1.5"
    assert TTA.parse([]) == TTA()
    with pytest.raises(UserError, match="Unknown test-time augmentation 'mirror'. Known: flip, d4"):
        TTA.parse("mirror")
    with pytest.raises(UserError, match=r"from 0.1 to 10, got \(0.0,\)"):
        TTA.parse("0")


def test_is_differentiable_and_finite():
    trained, x = model(), jnp.asarray(image(16, 16))[None].astype(jnp.float32)
    from jaxseg.inference.tta import average

    def loss(x):
        def network(images):
            return 100 * trained.model.apply(trained.variables, images, train=False)["logits"]

        sizes = jnp.array([[15, 16]])
        found = average(network, x, sizes, tta=TTA.parse("d4,0.5"), preprocessing=trained.preprocessing)
        return jnp.square(found).mean()

    value, gradient = jax.value_and_grad(loss)(x / 50)
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(gradient)).all()
    assert np.abs(gradient).max() > 0
