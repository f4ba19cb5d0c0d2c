"""What a user gets for a mistake: one screen that names the cause and the remedy, before any training."""

import json
import resource
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.experiment.checkpoint import Checkpoints
from tests.end_to_end.conftest import TINY


def _refused(run, workdir, *arguments, config=TINY, **options):
    """Runs train.py, which must fail with one screen of text; returns the text after "error:"."""
    text = run("train.py", "--config", config, "--workdir", workdir, *arguments, code=1, **options)
    assert "Traceback" not in text
    assert "error: " in text
    message = text.split("error: ")[1]
    assert len(message.splitlines()) <= 20, message
    return message


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["--config.optim.lrr=0.1"], "Unknown config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        (["--config.model.name=unte"], "Unknown model 'unte'. Did you mean 'unet'?"),
        (["--config.model.encoder=resnet5"], "Unknown encoder 'resnet5'. Did you mean 'resnet50'?"),
        (["--config.data.name=shape"], "Unknown data set 'shape'. Did you mean 'shapes'?"),
        (["--config.data.eval_split=test"], "Unknown split 'test'. Known: train, val"),
        (["--config.data.name=folder"], "Data set 'folder' needs the folder that holds its files"),
        (["--config.data.options.siez=3"], "Unknown option 'siez' of data set 'shapes'. Did you mean 'size'?"),
        (["--config.loss.terms.focl=1"], "Unknown loss 'focl'. Did you mean 'focal'?"),
        (["--config.optim.lr=abc"], "config.optim.lr must be a number, got 'abc'"),
        (["--config.train.epochs=3"], "for 3 epochs --config.train.steps=0."),
        (["--config.train.steps=0"], "Set one of config.train.steps and config.train.epochs; got 0 and 0.\n"),
        (["--config.data.crop=(200,200)"], "can never be filled"),
        (["--config.data.batch_size=64", "--config.eval.every=0"], "fewer than config.data.batch_size=64"),
        (["--config.optim.accumulate=999"], "nothing would be learned"),
        (["--config.train.devices=9"], "JAX sees 1"),
        (["--config.model.output_stride=5"], "Encoder 'plain' has no output stride 5. Choose one of"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_values(run, tmp_path, arguments, words):
    assert words in _refused(run, tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "line,words",
    [
        ("c.optim.lrr = 0.1", 'Did you mean "lr" instead of "lrr"?'),
        ("c.loss.terms = {'cross_entrpy': 1.0}", "Unknown loss 'cross_entrpy'. Did you mean 'cross_entropy'?"),
        ("c.loss.options = {'dice': {'smoth': 1.0}}", "Unknown option 'smoth' of loss 'dice'. Did you mean 'smooth'"),
        (
            "c.loss.options = {'cross_entropy': {'class_weights': (1.0, 2.0)}}",
            "one number for each of the 7 classes",
        ),
        ("c.loss.heads = {'aux': 0.4}", "config.loss.heads names aux"),
        ("c.eval.metrics = ('confusion', 'calibratoin')", "Unknown metric 'calibratoin'. Did you mean 'calibration'?"),
        (
            "c.model.options = {'decoder_chanels': (16,)}",
            "'decoder_chanels' of model 'unet'. Did you mean",
        ),
        ("c.data.options = {'siez': 32}", "Unknown option 'siez' of data set 'shapes'. Did you mean 'size'"),
    ],
)
def test_lines_of_a_config_file(run, tmp_path, line, words):
    config = tmp_path / "config.py"
    text = Path(TINY).read_text().replace("    return c", f"    {line}\n    return c")
    config.write_text(text)
    assert words in _refused(run, tmp_path / "run", config=config)


def _pair(folder, name, *, size=(40, 40), label=None, label_size=None):
    rng = np.random.default_rng(len(name))
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / "images" / f"{name}.jpg")
    values = rng.integers(0, 3, label_size or size, dtype=np.uint8) if label is None else label
    Image.fromarray(values).save(folder / "labels" / f"{name}.png")


@pytest.fixture
def root(tmp_path):
    """A folder data set of 3 classes, 6 + 2 images."""
    root = tmp_path / "data"
    for i in range(6):
        _pair(root / "train", f"t{i}")
    for i in range(2):
        _pair(root / "val", f"v{i}")
    classes = [{"id": i, "name": n, "color": [i * 99] * 3} for i, n in enumerate("abc")]
    (root / "classes.json").write_text(json.dumps({"ignore": 255, "classes": classes}))
    return root


def _break(root, how):
    train = root / "train"
    if how == "root":
        shutil.rmtree(root)
    elif how == "empty":
        shutil.rmtree(root / "val" / "images")
        shutil.rmtree(root / "val" / "labels")
        (root / "val" / "images").mkdir()
        (root / "val" / "labels").mkdir()
    elif how == "no label":
        (train / "labels" / "t3.png").unlink()
    elif how == "no image":
        (train / "images" / "t3.jpg").unlink()
    elif how == "size":
        _pair(train, "t3", label_size=(40, 30))
    elif how == "id":
        _pair(train, "t3", label=np.full((40, 40), 7, np.uint8))
    elif how == "truncated":
        data = (train / "images" / "t3.jpg").read_bytes()
        (train / "images" / "t3.jpg").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    "how,words",
    [
        ("root", "/data' does not exist. Set data.root to"),
        ("empty", "/data/val/images: expected files ending in"),
        ("no label", "have no label: {train}/images/t3.jpg"),
        ("no image", "have no image: {train}/labels/t3.png"),
        ("size", "but its image {train}/images/t3.jpg is"),
        ("id", "{train}/labels/t3.png: expected class ids 0 to 2 or 255 (ignored), got 7"),
        ("truncated", "{train}/images/t3.jpg does not read"),
    ],
)
def test_folders(run, root, tmp_path, how, words):
    config = tmp_path / "config.py"
    text = Path(TINY).read_text().replace("c.data.options =", "_ =")
    config.write_text(text.replace('name="shapes"', f'name="folder", root="{root}"'))
    _break(root, how)
    assert words.format(train=root / "train") in _refused(run, tmp_path / "run", config=config)


def test_workdir_of_another_config(trained, run):
    message = _refused(run, trained, "--config.optim.beta1=0.5")
    assert "config.optim.beta1: 0.9 there, 0.5 here" in message


def test_nan_stops_and_keeps_the_last_good_checkpoint(run, tmp_path):
    workdir = tmp_path / "run"
    blow_up = ("--config.optim.name=sgd", "--config.optim.clip_norm=0.0", "--config.optim.lr=1e30")
    first_well = ("--config.optim.warmup_steps=4", "--config.eval.every=1", "--config.checkpoint.every=1")
    message = _refused(run, workdir, *blow_up, *first_well)
    assert "Training stopped at step" in message and "config.optim.lr" in message
    assert (workdir / "curves.png").stat().st_size > 0, "the curves wait for the end of the run"
    checkpoints = Checkpoints(workdir)
    latest = checkpoints.latest()
    assert f"Checkpoint {latest} is from before it" in message
    params = checkpoints.restore_variables(latest)["params"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_write_that_fails_keeps_the_last_good_checkpoint(run, tmp_path):
    """A limit on the size of files stands for a disk that fills up while a checkpoint is written."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = ("train.py", "--config", TINY, "--workdir", tmp_path / "run", "--config.log.tensorboard=False")
    text = run(*command, code=1, preexec_fn=limit)
    assert "error: Could not save" in text and "Traceback" not in text
    assert "File too large" in text
    assert "same command again" in text
    run(*command)


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["train.py", "--config", TINY], "required: --workdir"),
        (["train.py", "--config", TINY, "--worksdir", "x"], "Unknown flag '--worksdir'. Did you mean '--workdir'?"),
        (["eval.py", "--workdir", "x", "--refine", "xx"], "invalid choice: 'xx'"),
    ],
)
def test_flags(run, arguments, words):
    text = run(*arguments, code=2)
    assert words in text
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 12


def test_missing_programs_arguments(run, tmp_path):
    assert "holds no trained model" in run("eval.py", "--workdir", tmp_path, code=1)
    assert "holds no trained model" in run("-m", "jaxseg", "predict", tmp_path, TINY, "--out", tmp_path / "o", code=1)
