"""The search for the CRF's settings, and what a run does with what it found."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg.trained
from jaxseg import Predictor
from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.config import default_config
from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.evaluation.data import find_dataset
from jaxseg.evaluation.tune_crf import NARROW, WIDE, search, tune_crf
from jaxseg.trained import TrainedModel


def test_search_starts_at_the_config_then_draws_wide_then_close_to_the_best():
    start, trials = {"spatial_weight": 3.0, "color_sigma": 13.0}, []
    for n, parameters in enumerate(search(start, trials, count=20, seed=0)):
        trials.append((float(n == 7), parameters))
    assert trials[0][1] == start
    for _, parameters in trials[1:11]:
        for key, value in parameters.items():
            assert WIDE[key][0] * 0.999 <= value / start[key] <= WIDE[key][1] * 1.001
    best = trials[7][1]
    for _, parameters in trials[11:]:
        assert all(NARROW[0] * 0.999 <= parameters[key] / best[key] <= NARROW[1] * 1.001 for key in best)


class Noisy:
    """Stands for a network: right but for pixels that it does not know."""

    num_classes = 2

    def apply(self, variables, images, *, train):
        return {"logits": images @ variables["look"]}


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A workdir of a run on two classes, bright and dark, whose network misses single pixels."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(3):
        label = (np.indices((9, 8 + i))[1] > 3).astype(np.uint8)
        image = np.where(label, 200, 90)[..., None].repeat(3, -1)
        image[..., 0] = np.where(rng.random(label.shape) < 0.2, 270 - image[..., 1], image[..., 0])  # what it looks at
        records.append({"image": image.astype(np.uint8), "label": label, "name": f"{i}"})
    dataset = Dataset("two", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), {"val": records}, 255)
    config = default_config()
    config.eval.batch_size = 2
    config.train.compilation_cache = ""
    config.eval.crf.update(bilateral_sigma=20.0, color_sigma=60.0, iterations=3)
    variables = {"look": jnp.zeros((3, 2)).at[0].set(jnp.array([-1.0, 1.0]))}
    fields = dict(
        classes=dataset.classes,
        palette=dataset.palette,
        ignore=255,
        preprocessing=Preprocessing((145.0,) * 3, (50.0,) * 3, bucket=16),
    )
    run = TrainedModel(Noisy(), variables, **fields, step=7, config=config, workdir=tmp_path)
    monkeypatch.setattr("jaxseg.trained.load", lambda workdir, checkpoint: run)
    monkeypatch.setattr("jaxseg.evaluation.data.create_dataset", lambda name, root, **options: dataset)
    return tmp_path


def test_run_writes_what_scored_best(trained, capsys):
    assert call("tune-crf", str(trained), "--trials", "3") == 0
    found = json.loads((trained / "crf.json").read_text())
    assert found["miou"] > found["miou_without"] + 0.1
    assert (found["checkpoint"], found["split"], found["images"], found["parameters"]["iterations"]) == (
        7,
        "val",
        3,
        3,
    )
    assert set(found["parameters"]) == {*WIDE, "iterations"}
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["mIoU", "gain"] and len(table) == 5
    rows = [[float(number) for number in row.split()] for row in table[1:4]]
    mious = [row[0] for row in rows]
    assert mious == sorted(mious, reverse=True) and mious[0] > mious[2]
    assert round(found["miou"], 4) == mious[0]
    best = dict(zip(table[0].split()[2:], rows[0][2:], strict=True))
    assert best == {name: found["parameters"][name] for name in WIDE}
    without = float(re.search(r"mIoU (\S+) without", table[4])[1])
    assert without == round(found["miou_without"], 4)
    np.testing.assert_allclose([row[1] for row in rows], np.array(mious) - without, atol=2e-4)
    with pytest.raises(UserError, match="--trials must be at least 1"):
        call("tune-crf", str(trained), "--trials", "0")


@pytest.mark.parametrize("logits", [1, 2])
def test_sigmoids_are_scored_as_predictions_with_the_found_settings_are(trained, logits, monkeypatch):
    """The run of the other tests, with sigmoids; one logit has a threshold, too."""
    run = jaxseg.trained.load(trained, "best")
    run.config.eval.update(batch_size=1)  # one program
    run.config.eval.crf.iterations = 1
    look = run.variables["look"][:, -logits:] * (1.0 if logits == 1 else 0.5)
    run = dataclasses.replace(run, variables={"look": look}, activation="sigmoid", threshold=0.7)
    monkeypatch.setattr(Noisy, "num_classes", logits)
    monkeypatch.setattr("jaxseg.trained.load", lambda workdir, checkpoint: run)
    assert call("tune-crf", str(trained), "--trials", "1") == 0
    found = json.loads((trained / "crf.json").read_text())
    records = find_dataset(run)[0].splits["val"]
    for refine, said in (("crf", found["miou"]), (None, found["miou_without"])):
        predictor = Predictor(run, refine=refine)
        guesses = np.concatenate([predictor(r["image"]).ravel() for r in records])
        truth = np.concatenate([r["label"].ravel() for r in records])
        ious = [((guesses == c) & (truth == c)).sum() / ((guesses == c) | (truth == c)).sum() for c in (0, 1)]
        np.testing.assert_allclose(said, np.mean(ious), atol=1e-6)


def test_images_are_spread_over_the_split(monkeypatch):
    class Noting(list):
        """Records, and which of them were read."""

        def __init__(self, records):
            super().__init__(records)
            self.read = []

        def __getitem__(self, index):
            self.read.append(index)
            return super().__getitem__(index)

    random = np.random.default_rng(0)
    label = np.zeros((8, 8), np.uint8)
    records = [
        {"image": random.integers(0, 256, (8, 8, 3), np.uint8), "label": label, "name": f"{i}"} for i in range(9)
    ]
    source = Noting(records)
    dataset = Dataset("two", ("dark", "bright"), ((0, 0, 0), (255, 255, 255)), {"val": source}, 255)
    fields = dict(
        classes=dataset.classes,
        palette=dataset.palette,
        ignore=255,
        preprocessing=Preprocessing((145.0,) * 3, (50.0,) * 3, bucket=8),
    )
    run = TrainedModel(Noisy(), {"look": jnp.ones((3, 2))}, **fields, config=default_config())
    monkeypatch.setattr("jaxseg.evaluation.tune_crf._make_score", lambda *_: lambda settings: 0.5)  # no CRF to compile
    found, _ = tune_crf(run, dataset, "val", images=3, trials=1)
    assert found["images"] == 3
    assert sorted(set(source.read)) == [0, 4, 8]
