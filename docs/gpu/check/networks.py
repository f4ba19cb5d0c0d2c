"""The networks that are timed: those of `jaxseg bench --suite gpu`. The step of stage_pair.py and of train.py is one program."""
import os
from jaxseg.bench.cases import SUITES, smaller
from jaxseg.bench.peers import smp_network
from jaxseg.bench.program import OWN, make_config, make_program

CASES = SUITES["gpu"]
PLACES = {"segformer_b0": 2, "segformer_b2": 2, "upernet_convnext_tiny": 2}  # of the card's memory, see common.slots
TINY = bool(os.environ.get("TINY"))
STEPS = 6 if TINY else 160  # of train.py; its schedule is part of the program


def case(name):
    return smaller(CASES[name], size=64, batch=2) if TINY else CASES[name]


def network(name):
    """smp's network, made here; None where smp has none."""
    return None if CASES[name].model in OWN else smp_network(case(name))


def config(name):
    return make_config(case(name), network(name), STEPS)


def program(name, mesh):
    return make_program(case(name), network(name), mesh, STEPS)


def host_state(variables, tx):
    """The state before the first step in host memory, without compiling: AdamW's memory is zeros."""
    import jax, numpy as np
    from jaxseg.experiment.state import create_state

    state = jax.eval_shape(lambda v: create_state(v, tx), variables)
    zeros = lambda tree: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
    return state.replace(step=np.zeros((), np.int32), opt_state=zeros(state.opt_state), params=jax.device_get(variables["params"]), batch_stats=jax.device_get(variables["batch_stats"]))
