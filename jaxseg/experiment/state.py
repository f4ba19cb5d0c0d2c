"""Training state: the arrays carried from step to step, and no functions."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Bool, Int

from jaxseg.experiment.freeze import Prefixes, split_frozen


@struct.dataclass
class TrainState:
    """The state of a run: all arrays that a checkpoint needs, so that a resumed run gives exactly the same numbers.

    The fields are `Any`, as a state may hold shapes or shardings in place of arrays.
    """

    step: Any  # i32[], batches seen
    params: Any
    batch_stats: Any
    opt_state: Any  # of the optimizer; has the tree of the parameters that are trained
    ema: Any  # averaged {"params", "batch_stats"}, or {} where none are kept


def create_state(
    variables: Mapping[str, Any], tx: optax.GradientTransformation, *, ema: bool = False, freeze: Prefixes = ()
) -> TrainState:
    """Returns the state before the first step.

    It holds the arrays of `variables` themselves, not copies: once the first step has been given the state, they can't
    be used any more.

    Args:
      variables: {"params", "batch_stats"} of the model; "batch_stats" may be missing.
      tx: the optax transformation.
      ema: whether to keep averaged variables, too. If so, give `make_train_step` an `ema_decay`.
      freeze: paths of the parameters that are not trained, the same as `make_train_step`'s. `tx` has no state for them.

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


def updates_of(opt_state: Any, step: Int[Array, ""]) -> tuple[Int[Array, ""], Bool[Array, ""] | bool]:
    """Returns how many updates `step` batches made, and whether the last batch made one.

    Every batch makes one, unless the optimizer is an `optax.MultiSteps`.

    Args:
      opt_state: of the optimizer, after these batches.
      step: number of batches.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, optax.MultiStepsState))
    found = [x for x in leaves if isinstance(x, optax.MultiStepsState)]
    return (found[0].gradient_step, found[0].mini_step == 0) if found else (step, True)


def average(ema: Any, new: Any, updates: Int[Array, ""], decay: float) -> Any:
    """Returns the exponential moving average of the variables after one more update.

    Running statistics are averaged, too, as those of the newest parameters do not fit averaged parameters. The decay is
    at most (1 + updates) / (10 + updates), so that a short run forgets its start (TensorFlow's `num_updates`).

    Args:
      ema: the averaged variables so far.
      new: the variables after this update.
      updates: number of the updates before this one.
      decay: of the average, in (0, 1), e.g. 0.999.
    """
    decay = jnp.minimum(decay, (1 + updates) / (10 + updates))
    return optax.incremental_update(new, ema, 1 - decay)


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables for evaluation: the averaged ones if the state has them."""
    return state.ema or {"params": state.params, "batch_stats": state.batch_stats}
