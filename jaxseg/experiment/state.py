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
    ema: Any  # averaged {"params", "batch_stats"}, or {} where config.optim.ema is 0


def create_state(variables: Any, tx: Any, *, ema: bool) -> TrainState:
    """Returns the state before the first step.

    Args:
      variables: {"params", "batch_stats"} of the model.
      tx: the optax transformation.
      ema: whether averaged variables are kept besides.
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.jit(tx.init)(params),
        ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {},
    )


def average(ema: Any, new: Any, step: jax.Array, decay: float) -> Any:
    """Moves the averaged variables towards the new ones.

    Statistics are averaged with the parameters that they belong to: those of the last parameters do not fit averaged
    ones. Early on, the last 10 % of all steps count, so that the start of a short run is forgotten (Abadi et al.'s
    `num_updates`, TensorFlow).

    Args:
      ema: averaged variables.
      new: those after this step.
      step: steps before this one.
      decay: of the average, once there were enough steps.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, new)


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables that evaluation uses: the averaged ones where they are kept."""
    return state.ema or {"params": state.params, "batch_stats": state.batch_stats}
