"""A trained run on the disk, made without training: what commands read when nothing stands in for anything."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxseg.config import default_config
from jaxseg.experiment import build
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.claim import claim_workdir
from jaxseg.experiment.state import create_state
from jaxseg.models import init


@dataclasses.dataclass(frozen=True)
class Run:
    """Where it lies, and what its config is."""

    workdir: Path
    root: Path
    config: ConfigDict


@pytest.fixture
def run(tmp_path):
    """A run on a folder of three images of two classes, a fifth of class 1.

    Checkpoint 1 says class 0 wherever it looks, checkpoint 2 class 1; neither was evaluated, so 2 is also the best.
    """
    root, workdir = tmp_path / "data", tmp_path / "run"
    random = np.random.default_rng(0)
    for split, count in (("train", 1), ("val", 3)):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for i in range(count):
            label = np.zeros((16, 20 + i), np.uint8)
            label[:, :4] = 1
            image = random.integers(0, 256, (*label.shape, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            Image.fromarray(label).save(root / split / "labels" / f"{i}.png")
    classes = [{"id": i, "name": name, "color": [9 * i] * 3} for i, name in enumerate(("ground", "house"))]
    (root / "classes.json").write_text(json.dumps({"ignore": 200, "classes": classes}))

    config = default_config()
    config.data.update(name="folder", root=str(root), crop=(16, 16), canvas=(16, 16), batch_size=1)
    config.model.update(name="unet", encoder="plain")
    config.model.encoder_options = {"widths": (4, 4), "convs": 1}
    config.model.options = {"decoder_channels": (4, 4)}
    config.train.update(steps=2, compilation_cache="")
    config.eval.bucket = 8
    experiment = build.build(config, splits=("val",))
    claim_workdir(config, experiment.dataset, workdir).write(0)
    checkpoints = Checkpoints(workdir, writable=True)
    variables = init(experiment.model, jax.random.key(0))
    for step in (1, 2):
        head = variables["params"]["head"]["conv"]
        head |= {"kernel": 0 * head["kernel"], "bias": jnp.array([0.0, 2.0 if step == 2 else -2.0])}
        checkpoints.save(step, create_state(variables, optax.identity(), ema=False), {"iterator": {}})
    checkpoints.close()
    return Run(workdir, root, config)
