"""The benchmark runs, says what it measured, and names what is missing."""

import json
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxseg.bench import peer_process, peers
from jaxseg.bench.tables import table
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


def test_the_forward_pass_alone(tmp_path, capsys):
    out = tmp_path / "figures.json"
    command = ["bench", "--model", "pspnet", "--encoder", "plain", "--size", "33", "--batch", "1", "--forward"]
    assert call(*command, "--steps", "2", "--out", str(out)) == 0
    figures = json.loads(out.read_text())["jaxseg"]
    assert figures["forward_images_per_s"] == pytest.approx(1 / figures["forward_s"])
    assert "step_s" not in figures
    text = capsys.readouterr().out
    assert "images/s, forward" in text
    assert "training" not in text
    with pytest.raises(UserError, match="without a peer"):
        run("--forward", "--peer", "smp")


def test_figures_and_ratio(tmp_path, monkeypatch, capsys):
    calls = []
    network = {"name": "unet", "encoder": "plain", "encoder_options": {"widths": (8,) * 5}}
    network["decoder_channels"] = (8,) * 5
    size = count(network)
    ways = [
        Subject(name, partial(calls.append, "step"), partial(calls.append, "forward"), network=network)
        for name in ("smp", "smp compiled")
    ]
    for way in ways:
        way.figures["parameters"] = size
    ways[1].wait = partial(time.sleep, 1e-3)

    def refuse():
        raise RuntimeError("no compiler")

    failing = Subject("smp failing", refuse, refuse, figures={"parameters": size}, network=network)
    monkeypatch.setitem(peers.PEERS, "smp", lambda case: [*ways, failing])
    monkeypatch.setattr(peer_process, "has_gpu", lambda: True)  # in this process
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    out = tmp_path / "new" / "figures.json"
    assert run("--steps", "2", "--classes", "3", "--peer", "smp", "--out", str(out)) == 0
    figures = json.loads(out.read_text())
    ours = figures["jaxseg"]
    assert figures["case"]["size"] == [32, 32]
    assert calls.count("step") == calls.count("forward") == 2 * (1 + WARMUP + 2)  # the first is timed by itself
    assert min(ours[name] for name in ("forward_s", "step_s", "compile_s", "augment_s")) > 0
    assert ours["images_per_s"] == pytest.approx(2 / ours["step_s"])
    assert ours["parameters"] == size  # it is the peer's network that is timed
    assert ours["parameters"] * 4 * 3 < ours["program_bytes"]  # parameters and Adam's two moments
    assert "process_peak_bytes" not in ours  # the peer's memory is in it
    assert figures["ratio"]["peer"] == "smp"  # the faster of the two ways
    assert figures["ratio"]["step_s"] == pytest.approx(ours["step_s"] / figures["smp"]["step_s"])
    assert figures["ratio"]["step_of_turns"] > 1
    assert "no compiler" in figures["smp failing"]["error"]  # and the others have their figures
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


def test_a_block_waits_once():
    calls = []
    subject = Subject(
        "x", partial(calls.append, "step"), partial(calls.append, "forward"), partial(calls.append, "wait")
    )
    subject.run("step", 3)()
    assert calls == ["step", "step", "step", "wait"]


def test_missing_peer_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(peer_process, "has_gpu", lambda: True)
    with pytest.raises(UserError, match=r"pip install .*jaxseg\[parity\]"):
        run("--peer", "smp")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--model", "unet", "--size", "32", "--batch", "2", "--steps", "0"], "at least 1"),
        (["--model", "unet", "--suite", "cpu"], "--model and --suite"),
        (["--model", "unet"], "needs --size"),
        (["--suite", "cpu", "--only", "unet_r43"], "Did you mean 'unet_r34'"),
        (["--case", "unet_r34"], "SUITE:NAME"),
        (["--only", "unet_r34", "--case", "cpu:unet_r34"], "Give --suite"),
        ([], "got none"),
    ],
)
def test_flags_that_say_nothing_raise(words, said, tmp_path):
    with pytest.raises(UserError, match=said):
        call("bench", *words, "--out", str(tmp_path))
