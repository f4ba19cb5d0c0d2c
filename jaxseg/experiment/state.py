"""Training state: the arrays carried from step to step, and no functions."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int

from jaxseg.experiment.freeze import Prefixes, split_frozen


@struct.dataclass
class TrainState:
    """The state of a run; everything that a checkpoint needs to go on from the same bits.

    The fields are `Any`, as a state may also be one of shapes or of shardings.
    """

    step: Any  # i32[], batches seen
    params: Any
    batch_stats: Any
    opt_state: Any  # of the optimizer; has the tree of the parameters that are trained
    ema: Any  # averaged {"params", "batch_stats"}, or {} where none are kept


def create_state(
    variables: Mapping[str, Any], tx: optax.GradientTransformation, *, ema: bool = False, freeze: Prefixes = ()
) -> TrainState:
    """Returns the state before the first step. It has the arrays of `variables`, which that step takes with the state.

    Args:
      variables: {"params", "batch_stats"} of the model; "batch_stats" may be missing.
      tx: the optax transformation.
      ema: whether averaged variables are kept besides; then give `make_train_step` its `ema_decay`.
      freeze: paths of parameters that are not trained, the same as `make_train_step`'s. `tx` has no memory of them.

    >>> variables = {"params": {"encoder": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(3)}}}
    >>> state = create_state(variables, optax.sgd(0.1, momentum=0.9), freeze=("encoder",))
    >>> jax.tree.map(jnp.shape, state.opt_state[0].trace)
    {'encoder': {'kernel': MaskedNode()}, 'head': {'kernel': (3,)}}
    """
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    trained, _ = split_frozen(params, freeze)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=jax.jit(tx.init)(trained),
        ema=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if ema else {},
    )


def average(ema: Any, new: Any, step: Int[Array, ""], decay: float) -> Any:
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
    return optax.incremental_update(new, ema, 1 - decay)


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables that evaluation uses: the averaged ones where they are kept."""
    return state.ema or {"params": state.params, "batch_stats": state.batch_stats}
