"""Every config traces: from its file to the shapes of a training step's result, without data, weights or compiling."""

import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxseg.config import default_config
from jaxseg.data import create_dataset
from jaxseg.data.augment import Augment
from jaxseg.experiment import build as experiment
from jaxseg.experiment import limits
from jaxseg.experiment.devices import make_mesh
from jaxseg.experiment.inputs import crop_off_place
from jaxseg.experiment.state import create_state
from jaxseg.training.step import make_train_step
from tests.data.trees import TREES

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.py"))
CLASSES = 5
PUBLISHED = {"ade20k", "camvid", "cityscapes", "isbi", "voc"}  # the first word of a config's name


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_traces(path):
    c = _load(path).get_config()
    assert c.is_locked
    limits.check_config(c)
    weights = c.loss.options.get("cross_entropy", {}).get("class_weights", ())
    model = experiment.build_model(c, len(weights) or CLASSES)
    key, image = jax.random.key(0), jnp.zeros((1, *c.data.crop, 3))
    outputs, variables = jax.eval_shape(lambda key: model.init_with_output(key, image, train=False), key)
    assert set(outputs) == set(c.loss.heads), "a head that the model has is not trained"
    tx = experiment.make_optimizer(c, experiment.make_schedule(c, c.train.steps or 10_000))
    freeze, ema = tuple(c.optim.freeze), c.optim.ema
    state = jax.eval_shape(lambda v: create_state(v, tx, ema=ema > 0, freeze=freeze), variables)
    augment = experiment.make_augment(c, ignore=255, mean=(0.0,) * 3, std=(1.0,) * 3)
    kept = dict(mesh=make_mesh(1), seed=c.seed, ema_decay=ema or None, freeze=freeze)
    step = make_train_step(model, tx, experiment.make_loss(c), augment_fn=augment, **kept)
    shape = (c.data.batch_size, *c.data.canvas)
    batch = {
        "image": jax.ShapeDtypeStruct((*shape, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct(shape, jnp.uint8),
    }
    new, metrics = jax.eval_shape(step, state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert metrics["loss"].shape == ()
    assert metrics["loss"].dtype == jnp.float32


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_crops_keep_the_place_or_were_measured_so(path):
    c = _load(path).get_config()
    off = crop_off_place(c, experiment.build_model(c, CLASSES))
    measured = path.stem in ("camvid_pan_lite0", "camvid_deeplabv3plus_lite0")  # at 320 x 320, as FPN beside them
    assert (off is not None) == measured, off


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_opens_with_its_command_and_what_was_measured(path):
    text = _load(path).__doc__
    assert f"jaxseg train {path.stem} " in text
    assert "Measured: " in text


def test_every_key_has_a_comment():
    """A setting without its unit and meaning is no setting."""
    import inspect

    lines = [line.strip() for line in inspect.getsource(default_config).splitlines() if line.strip().startswith("c.")]
    lines += [line.strip() for line in inspect.getsource(Augment).split("def ")[0].splitlines() if ": " in line]
    bare = [line for line in lines if "=" in line and "#" not in line and "ConfigDict()" not in line]
    assert bare in ([], ['c.data.train_split = "train"', 'c.data.eval_split = "val"', "c.log.tensorboard = True"])


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem.split("_")[0] in PUBLISHED], ids=lambda p: p.stem)
def test_a_config_reads_its_set_as_it_is_downloaded(path, tmp_path):
    """The splits exist and hold as many classes as the docstring says; sets that were measured as a folder stay one."""
    c = _load(path).get_config()
    if c.data.name == "folder":
        assert "not yet run" not in _load(path).__doc__
        return
    assert c.data.name == path.stem.split("_")[0]
    TREES[c.data.name][0](tmp_path)
    data = create_dataset(c.data.name, str(tmp_path), **c.data.options)
    assert {c.data.train_split, c.data.eval_split} <= set(data.splits)
    said = re.search(r"(\d+) classes", _load(path).__doc__)
    assert said is None or int(said[1]) == data.num_classes
