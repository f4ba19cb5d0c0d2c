import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.cli.program import make_parser
from jaxseg.config import default_config
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.evaluation.score import evaluate
from jaxseg.inference import Calibration, Predictor, create_refiner
from jaxseg.inference import refine as refinement
from jaxseg.inference.refine import find_refiner
from jaxseg.trained import TrainedModel

FIELDS = dict(
    preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3, bucket=8),
    classes=tuple("rgb"),
    palette=((0, 0, 0),) * 3,
    ignore=255,
)


class Brightest:
    def apply(self, variables, images, *, train):
        return {"logits": images}


def last_column(logits, images, sizes):
    """Names class 0 in the image, class 1 in its own last column and last row, and class 2 beyond them."""
    there = refinement.image_mask(sizes, logits.shape)
    end = there & ~refinement.image_mask(sizes - 1, logits.shape)
    assert images.dtype == jnp.uint8
    return 2.0 * jnp.eye(3)[jnp.where(there, jnp.where(end, 1, 0), 2)]


def test_predictor_refines_scores_with_the_size_of_each_image():
    predictor = Predictor(
        TrainedModel(Brightest(), {}, **FIELDS),
        refine=last_column,
        calibration=Calibration("temperature", (9.0,), (0.0,), 1, "val"),
    )
    images = [np.full((h, w, 3), (0, 9, 0), np.uint8) for h, w in ((5, 6), (8, 8), (3, 7))]
    for image, label in zip(images, predictor.predict_batch(images), strict=True):
        expected = np.ones(image.shape[:2], int)
        expected[:-1, :-1] = 0
        np.testing.assert_array_equal(label, expected)
        p = predictor.probabilities(image)
        np.testing.assert_array_equal(p.argmax(-1), expected)
        np.testing.assert_allclose(p.max(-1), np.exp(2) / (np.exp(2) + 2), rtol=1e-6)  # not calibrated


@pytest.fixture
def seen(monkeypatch):
    """Stands for the CRF, and keeps what it was called with."""
    seen = {}

    def crf(
        logits,
        images,
        *,
        where=None,
        iterations=5,
        spatial_weight=1.0,
        spatial_sigma=1.0,
        bilateral_weight=1.0,
        bilateral_sigma=1.0,
        color_sigma=1.0,
    ):
        seen.update(where=where, iterations=iterations, spatial_sigma=spatial_sigma, color_sigma=color_sigma)
        return logits

    monkeypatch.setitem(refinement.REFINERS, "crf", crf)
    return seen


def test_what_was_tuned_goes_before_the_config(seen, tmp_path):
    config = default_config()
    config.eval.crf.color_sigma = 11.0
    run = TrainedModel(Brightest(), {}, **FIELDS, config=config, workdir=tmp_path)
    bundle = TrainedModel(Brightest(), {}, **FIELDS)
    arguments = jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 3), jnp.uint8), jnp.array([[1, 2]])
    find_refiner("crf", run)(*arguments)
    assert seen["color_sigma"] == 11.0
    find_refiner("crf", bundle)(*arguments)
    assert seen["color_sigma"] == default_config().eval.crf.color_sigma
    (tmp_path / "crf.json").write_text(json.dumps({"parameters": {"color_sigma": 4.5, "iterations": 7}}))
    find_refiner("crf", run)(*arguments)
    assert (seen["color_sigma"], seen["iterations"], seen["spatial_sigma"]) == (4.5, 7, config.eval.crf.spatial_sigma)
    (tmp_path / "crf.json").write_text(json.dumps({"parameters": {"colour_sigma": 3.5}}))  # as it was written once
    find_refiner("crf", run)(*arguments)
    assert seen["color_sigma"] == 3.5
    assert seen["where"].tolist() == [[[True, True], [False, False]]]
    (tmp_path / "crf.json").write_text("{}")
    with pytest.raises(UserError, match=r"crf.json: 'parameters' must be an object.*Run tune-crf again"):
        find_refiner("crf", run)


def test_the_guided_filter_sees_the_image_from_0_to_1():
    """Its `eps` is a variance in these units."""
    from jaxseg.ops.guided_filter import guided_filter

    random = np.random.default_rng(0)
    image, logits = random.integers(0, 256, (1, 9, 10, 3), np.uint8), random.normal(size=(1, 9, 10, 2))
    image, logits, unit = jnp.asarray(image), jnp.asarray(logits, jnp.float32), jnp.asarray(image, jnp.float32) / 255
    filtered = jax.jit(lambda x, y: guided_filter(x, jax.nn.softmax(y), radius=2, eps=0.05))(unit, logits)
    out = jax.jit(lambda x, y: refinement.guided(y, x, radius=2, eps=0.05))(image, logits)
    np.testing.assert_allclose(np.exp(out), np.maximum(filtered, 1e-6), rtol=1e-4)


@pytest.mark.parametrize(
    "name,options,words",
    [
        ("cfr", {}, "Unknown refinement 'cfr'. Did you mean 'crf'"),
        ("crf", {"colr_sigma": 3.0}, "Unknown option 'colr_sigma' of refinement 'crf'. Did you mean 'color_sigma'"),
        ("crf", {"color_sigma": 0.0}, "config.eval.crf.color_sigma must be positive, got 0.0"),
        ("crf", {"iterations": -1}, "config.eval.crf.iterations must be at least 0, got -1"),
        ("guided", {"radius": 0}, "config.eval.guided.radius must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(name, options, words):
    with pytest.raises(UserError, match=words):
        create_refiner(name, options)


def test_crf_is_short_for_refine_crf():
    parser = make_parser("predict")
    given = ["w", "i", "--out", "o"]
    assert [parser.parse_args([*given, *more]).refine for more in ([], ["--crf"], ["--refine", "guided"])] == [
        None,
        "crf",
        "guided",
    ]


def test_refined_probabilities_are_not_calibrated():
    trained = TrainedModel(Brightest(), {}, **FIELDS)
    with pytest.raises(UserError, match="--calibrate fits the model's own probabilities: leave out --crf"):
        evaluate(trained, None, "val", calibrate="temperature", refine="crf")
    with pytest.raises(UserError, match="--calibrate keeps what it finds in a run's workdir"):
        evaluate(trained, None, "val", calibrate="temperature")
    with pytest.raises(UserError, match="Name a folder: --out DIR"):
        evaluate(trained, None, "val")
