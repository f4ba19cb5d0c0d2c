"""Flags of XLA reach the environment before JAX begins, and never in place of the user's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.experiment.xla import DUMP, LOAD, PRESETS, not_set, set_flags
from jaxseg.training.start import slow_or_unset

DOCS = Path(__file__).parents[2] / "docs" / "performance.md"


def config_of(**train):
    config = default_config()
    config.train.update(**train)
    return config


def test_a_preset_is_added_to_what_the_user_gave():
    environment = {"XLA_FLAGS": "--xla_dump_to=/tmp/x --xla_gpu_enable_cublaslt=false"}
    new = set_flags(config_of(xla="gpu"), environment)
    words = environment["XLA_FLAGS"].split()
    assert words[:2] == ["--xla_dump_to=/tmp/x", "--xla_gpu_enable_cublaslt=false"]
    assert words[2:] == new
    assert "--xla_gpu_enable_latency_hiding_scheduler=true" in new
    assert not any("cublaslt" in word for word in new)
    assert set_flags(config_of(xla="gpu"), environment) == []


def test_nothing_is_set_without_a_preset():
    environment = {}
    assert set_flags(config_of(), environment) == [] and environment == {}


def test_an_unknown_preset_names_the_known():
    with pytest.raises(UserError, match=r"config.train.xla 'gpus'\. Did you mean 'gpu'"):
        set_flags(config_of(xla="gpus"), {})


def test_autotuning_is_written_once_and_then_read(tmp_path):
    path = tmp_path / "new" / "autotune.textproto"
    config, first, second = config_of(autotune_cache=str(path)), {}, {}
    set_flags(config, first)
    assert first["XLA_FLAGS"] == f"--{DUMP}={path}"
    assert path.parent.is_dir()
    path.write_text("results")
    set_flags(config, second)
    assert second["XLA_FLAGS"] == f"--{LOAD}={path}"
    with pytest.raises(UserError, match="space"):
        set_flags(config_of(autotune_cache=str(tmp_path / "a b")), {})


def test_a_cpu_is_warned_of_bfloat16_and_a_gpu_of_flags_that_came_too_late(monkeypatch):
    config = config_of(xla="deterministic")
    monkeypatch.setenv("XLA_FLAGS", "")
    assert slow_or_unset(config, "cpu") == []
    assert "XLA_FLAGS lacks xla_gpu_deterministic_ops" in slow_or_unset(config, "gpu")[0]
    set_flags(config)
    assert not_set(config) == slow_or_unset(config, "gpu") == []
    config.model.dtype = "bfloat16"
    assert "three times slower" in slow_or_unset(config, "cpu")[0]


def test_xla_knows_every_flag():
    """XLA ends a process whose flags it does not know."""
    flags = [f"--{flag.name}={flag.value}" for preset in PRESETS.values() for flag in preset]
    flags += [f"--{name}=/tmp/no" for name in (DUMP, LOAD)]
    code = "import jax; jax.devices()"

    def status(*words):
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(words)}
        return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True).returncode

    assert status(*flags) == 0
    assert status("--xla_gpu_no_such_flag=true") != 0


def test_train_sets_them_before_anything_else(monkeypatch, tmp_path):
    """The program, not the function: `jaxseg train` of a run that is refused after its flags were set."""
    from jaxseg.cli.program import call

    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    with pytest.raises(UserError, match="Set one of config.train.steps"):
        call("train", "shapes_unet", "--workdir", str(tmp_path), "--config.train.epochs=0", "--config.train.xla=gpu")
    assert "--xla_gpu_graph_min_graph_size=2" in os.environ["XLA_FLAGS"]
    assert "--xla_dump_to=/tmp/x" in os.environ["XLA_FLAGS"]


def test_every_flag_is_explained_in_the_docs():
    text = DOCS.read_text()
    for preset in PRESETS.values():
        for flag in preset:
            assert f"| `{flag.name}={flag.value}` |" in text
            assert flag.why in text and flag.measured in text
