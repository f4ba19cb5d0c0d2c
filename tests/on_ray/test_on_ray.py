"""Ray Train starts two processes that learn together, Ray Data two that predict."""

import json
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

import jaxseg
from jaxseg.experiment.log import read_rows
from jaxseg.inference.on_ray import predict_on_ray
from jaxseg.training.on_ray import train_on_ray
from tests.end_to_end.tiny_config import get_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of this machine, whatever its cores."""
    ray.init(num_cpus=4, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
    yield
    ray.shutdown()


def test_two_workers_train_and_two_predict(cluster, tmp_path):
    config = get_config()
    config.train.steps = 10
    scores = train_on_ray(config, tmp_path / "run", workers=2, gpus=0, cpus=1)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())[-1]["processes"] == 2
    assert (scores["step"], scores["miou"]) == (10, rows[-1]["miou"])

    source = jaxseg.create_dataset("shapes", size=32, val=8).splits["val"]
    (tmp_path / "in").mkdir()
    for i in range(len(source)):
        Image.fromarray(source[i]["image"]).save(tmp_path / "in" / f"{i}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    errors = predict_on_ray(
        tmp_path / "run", [tmp_path / "in"], tmp_path / "out", workers=2, gpus=0, cpus=1, batch_size=3
    )
    assert len(errors) == 1 and "bad.png" in errors[0]
    predictor = jaxseg.Predictor(jaxseg.load(tmp_path / "run"))
    for i in range(len(source)):
        written = np.asarray(Image.open(tmp_path / "out" / f"{i}_label.png"))
        np.testing.assert_array_equal(written, predictor(source[i]["image"]))
