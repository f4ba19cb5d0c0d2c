"""Calibrations: the minimum is found, and what was fitted is what is used."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy import optimize, special

from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference import Calibration, Predictor
from jaxseg.inference.calibration import FILE, fit_calibration, fit_temperature, load_calibration, save_calibration
from jaxseg.trained import TrainedModel

CLASSES, WHERE = 3, dict(checkpoint=20, split="val")


@pytest.fixture(scope="module")
def pixels():
    """Labels drawn from the softmax of logits / 2.5 + bias, and the logits: too sure of themselves, and biased."""
    rng = np.random.default_rng(0)
    logits = 4 * rng.normal(size=(500, CLASSES)).astype(np.float32)
    p = special.softmax(logits / 2.5 + [0.5, 0.0, -0.5], -1)
    return logits, np.array([rng.choice(CLASSES, p=q) for q in p])


def nll(logits, labels):
    return -special.log_softmax(logits.astype(np.float64), -1)[np.arange(len(labels)), labels].mean()


def test_temperature_is_at_the_minimum(pixels):
    logits, labels = pixels
    found = fit_calibration("temperature", logits, labels, **WHERE)
    best = optimize.minimize_scalar(lambda s: nll(s * logits, labels), bounds=(0.05, 20), method="bounded")
    np.testing.assert_allclose(nll(found.scale[0] * logits, labels), best.fun, rtol=1e-9)
    np.testing.assert_allclose(found.scale[0], best.x, rtol=1e-4)
    assert found.bias == (0.0,)


def test_vector_is_at_the_minimum(pixels):
    logits, labels = pixels
    found = fit_calibration("vector", logits, labels, **WHERE)
    best = optimize.minimize(lambda x: nll(logits * x[:3] + x[3:], labels), np.r_[np.ones(3), np.zeros(3)], tol=1e-9)
    ours = nll(np.asarray(found(logits)), labels)
    np.testing.assert_allclose(ours, best.fun, rtol=2e-6)  # the ridge costs that much
    assert ours < nll(np.asarray(fit_calibration("temperature", logits, labels, **WHERE)(logits)), labels)


def test_sigmoids_are_calibrated_as_sigmoids(pixels):
    """Each class against all others: the minimum is that of the binary entropies, not of the softmax's."""
    logits, labels = pixels
    own = labels[:, None] == np.arange(CLASSES)

    def loss(scores):
        return -special.log_expit(np.where(own, scores, -scores).astype(np.float64)).mean()

    found = fit_calibration("temperature", logits, labels, **WHERE, activation="sigmoid")
    best = optimize.minimize_scalar(lambda s: loss(s * logits), bounds=(0.05, 20), method="bounded")
    np.testing.assert_allclose(found.scale[0], best.x, rtol=1e-4)
    assert abs(fit_calibration("temperature", logits, labels, **WHERE).scale[0] / best.x - 1) > 0.05
    found = fit_calibration("vector", logits, labels, **WHERE, activation="sigmoid")
    best = optimize.minimize(lambda x: loss(logits * x[:3] + x[3:]), np.r_[np.ones(3), np.zeros(3)], tol=1e-9)
    np.testing.assert_allclose(loss(np.asarray(found(logits))), best.fun, rtol=2e-6)


def test_a_calibration_of_the_other_activation_is_not_used(tmp_path):
    """As the softmax's of a model of sigmoids, which was fitted so before 2026-11-27."""
    save_calibration(Calibration("temperature", (0.4,), (0.0,), **WHERE), tmp_path)
    with pytest.warns(UserWarning, match="fitted to the probabilities of a softmax, and the model has sigmoids"):
        assert load_calibration(tmp_path, 20, activation="sigmoid") is None
    found = Calibration("temperature", (0.4,), (0.0,), **WHERE, activation="sigmoid")
    save_calibration(found, tmp_path)
    assert load_calibration(tmp_path, 20, activation="sigmoid") == found


def test_a_class_that_the_pixels_lack_keeps_its_scale():
    """Nothing but the ridge says what it is, and the ridge says 1."""
    random = np.random.default_rng(0)
    logits = np.concatenate([random.normal(size=(200, 2)), np.zeros((200, 1))], 1).astype(np.float32)
    found = fit_calibration("vector", logits, random.integers(0, 2, 200), **WHERE)
    np.testing.assert_allclose(found.scale[2], 1, atol=1e-4)
    assert np.isfinite(found.bias).all() and found.bias[2] < -1


def test_scores_that_are_never_wrong_end_at_the_coldest_temperature():
    """And shifts do not matter, however large."""
    logits = np.float32([[2.0, 0.0], [0.0, 1.0]]) + 1e4
    scale, _ = jax.jit(fit_temperature)(logits, np.array([0, 1]))
    np.testing.assert_allclose(scale, [20.0], rtol=1e-3)
    scale, _ = jax.jit(fit_temperature)(logits, np.array([1, 0]))  # and those that always are, at the hottest
    np.testing.assert_allclose(scale, [0.05], rtol=1e-3)


def test_file_and_predictor(tmp_path):
    class Net:
        def apply(self, variables, images, *, train):
            return {"logits": images * variables["gain"]}

    calibration = Calibration("vector", (0.5, 1.0, 2.0), (0.0, 1.0, 0.0), **WHERE, report={"pixels": 9})
    save_calibration(calibration, tmp_path)
    assert load_calibration(tmp_path, 20) == calibration
    with pytest.warns(UserWarning, match="fitted to checkpoint 20, not to 30, and is not used"):
        assert load_calibration(tmp_path, 30) is None
    assert load_calibration(tmp_path / "none", 20) is None
    fields = dict(
        preprocessing=Preprocessing((0.0,) * 3, (50.0,) * 3, bucket=4),
        classes=tuple("abc"),
        palette=((0, 0, 0),) * 3,
        ignore=255,
    )
    trained = TrainedModel(Net(), {"gain": 1.0}, **fields)
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    predictor = Predictor(trained, calibration=calibration)
    expected = special.softmax(image / 50.0 * [0.5, 1.0, 2.0] + [0, 1, 0], -1)
    np.testing.assert_allclose(predictor.probabilities(image), expected, rtol=1e-5)
    np.testing.assert_array_equal(predictor(image), image.argmax(-1))  # labels are the model's own
    run = dataclasses.replace(trained, workdir=tmp_path, step=20)  # what the workdir holds is used unasked
    np.testing.assert_allclose(Predictor(run).probabilities(image), expected, rtol=1e-5)
    assert Predictor(trained).calibration is None


def test_temperature_is_written_for_people(tmp_path):
    save_calibration(Calibration("temperature", (0.4,), (0.0,), **WHERE), tmp_path)
    written = json.loads((tmp_path / FILE).read_text())
    assert written["temperature"] == 2.5
    assert written["checkpoint"] == 20 and written["split"] == "val"


def test_mistakes_are_named(pixels, tmp_path):
    with pytest.raises(UserError, match="Unknown calibration 'temprature'. Did you mean 'temperature'"):
        fit_calibration("temprature", *pixels, **WHERE)
    with pytest.raises(UserError, match=r"Expected logits \[n, c\] and labels \[n\]"):
        fit_calibration("vector", pixels[0][:0], pixels[1][:0], **WHERE)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(UserError, match="'kind' must be temperature or vector.*fit it again with jaxseg eval"):
        load_calibration(tmp_path, 20)
