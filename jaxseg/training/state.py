"""What training carries from step to step: arrays only, no functions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class TrainState:
    """The state of a run; everything that a checkpoint needs to go on from the same bits."""

    step: jax.Array  # i32[], batches seen
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any  # averaged parameters, or {} where config.optim.ema is 0


def create_state(variables: Any, tx: Any, *, ema: bool) -> TrainState:
    """Returns the state before the first step.

    Args:
      variables: {"params", "batch_stats"} of the model.
      tx: the optax transformation.
      ema: whether averaged parameters are kept besides.
    """
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.jit(tx.init)(params),
        ema=jax.tree.map(jnp.copy, params) if ema else {},
    )


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables that evaluation uses: the averaged parameters where they are kept."""
    return {"params": state.ema or state.params, "batch_stats": state.batch_stats}
