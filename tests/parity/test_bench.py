"""What `jaxseg bench --peer smp` compares is one network, here and there."""

import math
import multiprocessing
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxseg.bench.cases import SUITES, Case
from jaxseg.bench.peer_process import apart, running
from jaxseg.bench.peers import make_monai, make_smp
from jaxseg.bench.program import make_program
from jaxseg.checks import UserError
from jaxseg.models import create_model
from jaxseg.pretrained.names import SMP_MODELS

ENCODERS = (
    *("resnet18", "vgg11", "efficientnet_b0", "efficientnet_lite0", "mobilenet_v2", "mobilenet_v3_large"),
    *("densenet121", "mit_b0", "convnext_tiny"),
)
PAIRS = [(name, "resnet18") for name in SMP_MODELS] + [("fpn", name) for name in ENCODERS[1:]] + [("unet", "vgg11")]
STRIDES = {"pan": 32, "deeplabv3": 16}


@pytest.mark.parametrize("name, encoder", PAIRS)
def test_both_networks_have_as_many_parameters(peers, count, name, encoder):
    module, network, figures = make_smp(Case(name, encoder, (64, 64), 2, classes=7, output_stride=STRIDES.get(name)))
    model = create_model(**network, num_classes=7)
    init = partial(model.init, train=False)
    params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    ours = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert ours == figures["parameters"]
    assert ours == count(module) - figures["idle_parameters"]


def test_our_nnunet_is_monais(peers, count):
    """Layer by layer: kernels of the same sizes, and as many parameters."""
    case = SUITES["gpu"]["nnunet_2d"]
    module, figures = make_monai(case)
    state, _ = make_program(case).shapes()
    ours = sorted(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    there = sorted(p.numel() for name, p in module.named_parameters() if "skip_layers" not in name)  # those are aliases
    assert ours == there
    assert sum(ours) == figures["parameters"] == count(module)


def test_a_peer_runs_in_a_process_of_its_own(peers, monkeypatch):
    monkeypatch.setattr("jaxseg.bench.peer_process.has_gpu", lambda: False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # its threads do not spin beside other tests
    case = Case("fpn", "resnet18", (32, 32), 2, classes=3)
    with running("smp", case) as (smp,):
        (process,) = multiprocessing.active_children()
        smp.run("step", 1)()
        smp.run("forward", 1)()
        _, network, figures = make_smp(case)
        assert (smp.network, smp.figures["parameters"]) == (network, figures["parameters"])
        assert smp.figures["memory_format"] in smp.figures["layout_s"]
        assert 2**27 < smp.figures["process_peak_bytes"] < 2**33
        process.kill()
        with pytest.raises(RuntimeError, match="ended, with status -9"):
            smp.step()
    assert not multiprocessing.active_children()
    with pytest.raises(UserError, match="nnunet_2d alone, got fpn"), apart("monai", case):
        pass
