"""Masks of 0 and 1 in a folder: a model of one logit is trained, scored, loaded and applied."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg import Predictor, load
from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.evaluation.data import find_dataset
from jaxseg.experiment.build import build
from jaxseg.metrics import scores
from jaxseg.metrics.arrays import count_pairs
from jaxseg.training.loop import train


@pytest.fixture
def config(tmp_path):
    """Bright rectangles on dark ground, one class in classes.json."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for i in range(count):
            mask, (top, left) = np.zeros((16, 16), np.uint8), random.integers(0, 8, 2)
            mask[top : top + 8, left : left + 8] = 1
            image = (60 + 120 * mask[..., None] + random.integers(0, 40, (16, 16, 3))).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "data" / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(tmp_path / "data" / split / "labels" / f"{i}.png")
    (tmp_path / "data" / "classes.json").write_text(json.dumps({"classes": ["nucleus"]}))
    c = default_config()
    c.data.update(name="folder", root=str(tmp_path / "data"), canvas=(16, 16), crop=(16, 16), batch_size=4)
    c.model.encoder = "plain"
    c.model.encoder_options = {"widths": (4, 6), "convs": 1}
    c.model.options = {"decoder_channels": (6, 4)}
    c.loss.terms = {"binary_cross_entropy": 1.0, "sigmoid_dice": 1.0}
    c.optim.update(lr=0.02)
    c.train.update(steps=120, compilation_cache="")
    c.log.update(every=120, tensorboard=False, images=0, grad_norm=False)
    c.checkpoint.every = 120
    c.eval.update(every=120, batch_size=3, bucket=16, metrics=("confusion", "calibration"))
    return c


def test_a_run_of_one_class_from_a_folder(config, tmp_path):
    last = train(config, tmp_path / "run")
    assert {"iou/background", "iou/nucleus"} <= set(last)
    assert last["iou/nucleus"] > 0.85 and last["iou/background"] > 0.9
    trained = load(tmp_path / "run")
    assert (trained.num_logits, trained.activation, trained.classes) == (1, "sigmoid", ("background", "nucleus"))
    dataset, split = find_dataset(trained)
    records, predictor = list(dataset.splits[split]), Predictor(trained)
    labels, guesses = (np.stack(x) for x in ([r["label"] for r in records], [predictor(r["image"]) for r in records]))
    ious = scores(count_pairs(labels, guesses, 2, ignore=255))["iou"]
    np.testing.assert_allclose(ious, [last["iou/background"], last["iou/nucleus"]], atol=1e-6)
    np.testing.assert_array_equal(guesses[0], predictor.probabilities(records[0]["image"])[..., 1] > 0.5)


def test_losses_of_several_classes_say_what_one_class_needs(config):
    config.loss.terms = {"cross_entropy": 1.0}
    with pytest.raises(UserError, match="one: .* with labels of 0 and 1; or name the background"):
        build(config, splits=("train",))
