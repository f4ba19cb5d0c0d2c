"""Calibrations are fitted to pixels that count, each with its own label, as many of every image."""

import jax.numpy as jnp
import numpy as np

from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.evaluation import calibrate
from jaxseg.evaluation.evaluator import Evaluator
from jaxseg.experiment.devices import make_mesh
from jaxseg.trained import TrainedModel

SIZES = [(40, 33), (32, 32), (17, 30), (33, 64), (64, 33)]
CLASSES, IGNORE = 7, 200


class Echo:
    """Stands for a model whose logits tell what it sees."""

    num_classes = CLASSES

    def apply(self, variables, images, *, train):
        return {"logits": jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, CLASSES - 3)))}


def test_pixels_are_drawn_from_what_counts_of_every_image(monkeypatch):
    """Neither from ignored ones nor from the padding; red codes the label, green the image."""
    random, records = np.random.default_rng(0), []
    for i, size in enumerate(SIZES):
        label = random.integers(0, CLASSES, size).astype(np.uint8)
        label[:3] = IGNORE
        red = np.where(label == IGNORE, 250, 30 * label)
        image = np.stack([red, np.full(size, 10 * i), np.zeros(size)], -1).astype(np.uint8)
        records.append({"image": image, "label": label, "name": f"{i}"})
    names, palette = tuple("abcdefg"), ((0, 0, 0),) * CLASSES
    dataset = Dataset("coded", names, palette, {"val": records}, IGNORE)
    fields = dict(
        classes=names, palette=palette, ignore=IGNORE, preprocessing=Preprocessing((127.5,) * 3, (64.0,) * 3, bucket=64)
    )
    trained = TrainedModel(Echo(), {}, **fields)
    monkeypatch.setattr(calibrate, "_PIXELS", 50 * len(SIZES))
    logits, labels = calibrate.sample_logits(Evaluator(trained, dataset, make_mesh(1), batch_size=3), "val")
    seen = np.round(64 * logits[:, :2] + 127.5).astype(int)
    assert labels.max() < CLASSES
    np.testing.assert_array_equal(seen[:, 0], 30 * labels)
    np.testing.assert_array_equal(np.bincount(seen[:, 1] // 10), [50] * len(SIZES))
