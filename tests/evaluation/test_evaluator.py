"""Evaluation equals the obvious loop over pictures, whatever their sizes and however they are grouped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.metrics import confusion_matrix, jaccard_score

from jaxseg.config import default_config
from jaxseg.data import Dataset, create_dataset
from jaxseg.evaluation.evaluator import Evaluator
from jaxseg.experiment.build import Experiment, build_model
from jaxseg.experiment.devices import make_mesh
from jaxseg.inference import Calibration
from jaxseg.models import init

SIZES = [(40, 33), (32, 32), (40, 40), (17, 30), (33, 64), (32, 30), (64, 33)]


@pytest.fixture(scope="module")
def dataset():
    whole = create_dataset("shapes", size=64, train=1, val=len(SIZES))
    records = []
    for i, (h, w) in enumerate(SIZES):
        record = dict(whole.splits["val"][i])
        label = record["label"][:h, :w].copy()
        label[:3] = whole.ignore
        records.append({"image": record["image"][:h, :w], "label": label, "name": record["name"]})
    return Dataset(whole.name, whole.classes, whole.palette, {"val": records}, whole.ignore)


def _experiment(dataset, batch_size):
    c = default_config()
    c.eval.update(batch_size=batch_size, bucket=32, metrics=("confusion", "spread", "calibration"))
    c.eval.metric_options = {"spread": {"samples": 10}}
    c.model.encoder = "plain"
    c.model.encoder_options = {"widths": (4, 6), "convs": 1}
    c.model.options = {"decoder_channels": (6, 4)}
    model = build_model(c, dataset.num_classes)
    return Experiment(c, dataset, model, (127.5,) * 3, (64.0,) * 3)


def _naive(experiment, variables):
    dataset, matrix, mious, scored, truths = experiment.dataset, 0, [], [], []
    apply = jax.jit(lambda v, x: experiment.model.apply(v, x, train=False)["logits"])
    for record in dataset.splits["val"]:
        h, w = record["label"].shape
        picture = np.full((-(-h // 32) * 32, -(-w // 32) * 32, 3), 128.0, np.float32)  # round(127.5) to even
        picture[:h, :w] = record["image"]
        logits = np.asarray(apply(variables, jnp.asarray((picture - 127.5) / 64.0)[None]))[0, :h, :w]
        counts = record["label"] != dataset.ignore
        truth, guess = record["label"][counts], logits.argmax(-1)[counts]
        matrix = matrix + confusion_matrix(truth, guess, labels=range(dataset.num_classes))
        mious.append(jaccard_score(truth, guess, labels=np.union1d(truth, guess), average="macro"))
        scored.append(logits[counts].astype(np.float64))
        truths.append(truth.astype(int))
    return matrix, np.mean(mious), np.concatenate(scored), np.concatenate(truths)


def _loss(logits, truth):
    return -special.log_softmax(logits, -1)[np.arange(len(truth)), truth].mean()


def test_equals_the_obvious_loop(dataset):
    experiment = _experiment(dataset, batch_size=3)
    variables = init(experiment.model, jax.random.key(0))
    calibration = Calibration("temperature", (2.0,), (0.0,), checkpoint=1, split="val")
    result = Evaluator(experiment, make_mesh(1), calibration=calibration)(variables, "val", pictures=4)
    matrix, miou, logits, truth = _naive(experiment, variables)
    np.testing.assert_array_equal(result.matrix, matrix)
    np.testing.assert_allclose(result.loss, _loss(logits, truth), rtol=1e-5)
    np.testing.assert_allclose(result.scores["nll"], _loss(logits, truth), rtol=1e-5)
    np.testing.assert_allclose(result.scores["calibrated"]["nll"], _loss(2 * logits, truth), rtol=1e-5)
    np.testing.assert_allclose(result.scores["image_miou"], miou, rtol=1e-6)
    assert result.scores["spread"]["pictures"] == len(SIZES)
    assert "calibration, calibrated: ece" in result.table(dataset.classes)
    assert result.matrix.dtype == np.int64
    assert [sample["label"].shape for sample in result.samples] == SIZES[::2]
    assert all(sample["prediction"].shape == sample["label"].shape for sample in result.samples)


class Flat:
    """Stands for a model that cannot tell the classes apart."""

    def apply(self, variables, images, *, train):
        return {"logits": jnp.zeros((*images.shape[:3], 7)) + 0 * images[..., :1]}


def test_scores_are_of_what_refinement_makes_of_each_picture(dataset):
    experiment = dataclasses.replace(_experiment(dataset, batch_size=3), model=Flat())
    experiment.config.eval.bucket = 64  # one size to compile

    def first_row(logits, images, sizes):
        """Names class 1, and class 2 in the picture's own last column."""
        column = jnp.arange(logits.shape[2]) == sizes[:, 1, None, None] - 1
        return jnp.where(column[..., None], jnp.eye(7)[2], jnp.eye(7)[1]) + logits

    samples = Evaluator(experiment, make_mesh(1), refine=first_row)({}, "val", pictures=7).samples
    assert [sample["prediction"].shape for sample in samples] == SIZES
    for sample in samples:
        assert (sample["prediction"][:, :-1] == 1).all() and (sample["prediction"][:, -1] == 2).all()
