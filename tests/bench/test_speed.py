"""The benchmark runs, says what it measured, and names what is missing."""

import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxseg.bench import peers
from jaxseg.bench.speed import table
from jaxseg.bench.timing import WARMUP, Subject, alternate
from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.models import create_model


def run(*extra):
    return call("bench", "--model", "unet", "--encoder", "plain", "--size", "32", "--batch", "2", *extra)


def count(network):
    model = create_model(**network, num_classes=3)
    params = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_figures_and_ratio(tmp_path, monkeypatch, capsys):
    calls = []
    network = {"name": "unet", "encoder": "plain", "encoder_options": {"widths": (8,) * 5}}
    network["decoder_channels"] = (8,) * 5
    size = count(network)
    peer = Subject("smp", lambda: calls.append("step"), lambda: calls.append("forward"), {"parameters": size}, network)
    monkeypatch.setitem(peers.PEERS, "smp", lambda case: peer)
    out = tmp_path / "new" / "figures.json"
    assert run("--steps", "2", "--classes", "3", "--peer", "smp", "--out", str(out)) == 0
    figures = json.loads(out.read_text())
    ours = figures["jaxseg"]
    assert figures["case"]["size"] == [32, 32]
    assert calls.count("step") == calls.count("forward") == WARMUP + 2
    assert 0 < ours["forward_s"] < ours["step_s"] < ours["compile_s"]
    assert ours["images_per_s"] == pytest.approx(2 / ours["step_s"])
    assert ours["parameters"] == size  # it is the peer's network that is timed
    assert ours["parameters"] * 4 * 3 < ours["program_bytes"]  # parameters and Adam's two moments
    assert 0 < ours["augment_s"] < ours["step_s"]
    assert figures["ratio"]["step_s"] == pytest.approx(ours["step_s"] / figures["smp"]["step_s"])
    printed = capsys.readouterr().out
    assert "unet / plain, 2 x 32 x 32, float32" in printed and "training step" in printed
    assert "smp's gets them ready" in printed and "The networks differ" not in printed
    figures["smp"]["parameters"] = 7
    assert f"The networks differ: {size:,} parameters here, 7 in smp" in table(figures)


def test_turns_are_taken():
    calls = []
    times = alternate([lambda: calls.append("a"), lambda: calls.append("b")], 4)
    assert calls == ["a", "b"] * (WARMUP + 4)
    assert [len(t) for t in times] == [4, 4]


def test_missing_peer_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install .*jaxseg\[parity\]"):
        run("--peer", "smp")


def test_impossible_numbers_raise():
    with pytest.raises(UserError, match="at least 1"):
        run("--steps", "0")
