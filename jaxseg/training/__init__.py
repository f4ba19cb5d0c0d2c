"""Training: the step, and the run that repeats it.

`make_train_step` and `create_state` need no config: they take a linen module or any forward function, an optax
transformation and a loss of one's own. `jaxseg.training.loop.train` is what `train.py` runs.
"""

from jaxseg.experiment.devices import make_mesh, place, replicate, shard_batch, state_sharding
from jaxseg.experiment.state import TrainState, create_state, eval_variables
from jaxseg.training.step import make_train_step

__all__ = [
    "TrainState",
    "create_state",
    "eval_variables",
    "make_mesh",
    "make_train_step",
    "place",
    "replicate",
    "shard_batch",
    "state_sharding",
]
