"""The training step: augment, forward, loss, gradient, update; one jit, the state donated."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from jaxseg.blocks.conv import batch_norm_parts
from jaxseg.checks import UserError
from jaxseg.experiment.devices import batched, make_mesh, replicated
from jaxseg.experiment.freeze import Prefixes, join_frozen, path_name, split_frozen, under
from jaxseg.experiment.state import TrainState, average, updates_of
from jaxseg.training.remat import recompute_blocks

Batch = Mapping[str, Any]
Metrics = dict[str, Array]
Scalar = Float[Array, ""]
# (variables, images, key of the randomness) -> (outputs, new batch_stats); variables are {"params", "batch_stats"}.
Forward = Callable[[dict[str, Any], Array, Array], tuple[Any, Any]]
# (outputs, labels, where, step) -> the loss, or (the loss, its parts by name)
LossFn = Callable[[Any, Any, Any, Int[Array, ""]], Scalar | tuple[Scalar, Mapping[str, Scalar]]]
AugmentFn = Callable[[Array, Batch], Batch]  # (key, batch) -> {"image", "label", "where"}
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_train_step(
    model: nn.Module | Forward,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    *,
    augment_fn: AugmentFn | None = None,
    mesh: Mesh | None = None,
    state_sharding: Any = None,
    seed: int = 0,
    ema_decay: float | None = None,
    freeze: Prefixes = (),
    grad_norm: bool = False,
    remat: str = "",
    norm_parts: int = 1,
) -> TrainStep:
    """Returns the jitted function (state, batch) -> (new state, metrics).

    The state that the step is called with is donated: its arrays can't be used afterwards. Put the first state on the
    mesh with `place`; otherwise the step is compiled twice, as the state that it returns lies on the mesh. Random
    numbers depend on `seed` and `state.step` alone, so that a run that resumes draws the same ones.

    Args:
      model: a linen module with `model(images, train=bool)`; or, for anything else, a function
        `(variables, images, key) -> (outputs, new batch_stats)`, which is the forward pass of training.
      tx: the optax transformation that `create_state` was given.
      loss_fn: `(outputs, labels, where, step) -> loss`, or `-> (loss, parts)` with further scalars to report. `outputs`
        are the model's; `labels` and `where` the batch's, `where` None if it has none; `step` i32[].
      augment_fn: `(key, batch) -> {"image", "label", "where"}`, run on the device. None takes the batch as it is.
      mesh: of `make_mesh`: devices, over which the batch is split; None is all devices. The batch's size must be a
        multiple of their number.
      state_sharding: where the state lives, a sharding or a `TrainState` of them (`state_sharding` makes it by jaxseg's
        rule); None is a copy on every device. Divided parameters are gathered once a step, and kept until the gradient
        is known, of which each device then gets its part.
      seed: of the random numbers of dropout and augmentation.
      ema_decay: decay of the averaged variables in `state.ema`, in (0, 1); None does not change them. They are averaged
        once an update: where `tx` is an `optax.MultiSteps`, not after every batch.
      freeze: paths of parameters that stay as they are, e.g. ("encoder",), with the statistics of their norms. No
        gradient is computed for them, nor for what only their gradients would need.
      grad_norm: whether to report the global norm of the gradient with respect to the parameters that are trained.
      remat: "blocks" computes the inside of the model's blocks again for the gradient, which saves memory and costs
        a third of the time, and changes no numbers; "" keeps everything.
      norm_parts: number of parts of the batch, each of which batch normalization normalizes by its own statistics.
        1 is the whole batch, over all devices; the number of devices spares them to wait for each other.

    Returns:
      The step. Its metrics are scalars: "loss", "loss/NAME" for every part and, if asked for, "grad_norm".

    Raises:
      UserError: when the step is first called with a state that was made for another `tx`, `freeze` or `ema_decay`.

    >>> from jaxseg.experiment.state import create_state
    >>> def forward(variables, images, key):  # any function of the parameters is a model; this one has no statistics
    ...     return {"logits": images @ variables["params"]["kernel"]}, {}
    >>> def loss_fn(outputs, labels, where, step):
    ...     return optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels).mean()
    >>> tx = optax.lamb(0.1)
    >>> state = create_state({"params": {"kernel": jnp.zeros((3, 2))}}, tx)
    >>> train_step = make_train_step(forward, tx, loss_fn, grad_norm=True)
    >>> batch = {"image": jnp.ones((8, 4, 4, 3)), "label": jnp.zeros((8, 4, 4), jnp.int32)}
    >>> state, metrics = train_step(state, batch)
    >>> print(f"{metrics['loss']:.4f} {metrics['grad_norm']:.4f}", int(state.step))  # log 2
    0.6931 1.2247 1
    """
    forward = (
        linen_forward(model, freeze, remat=remat, norm_parts=norm_parts) if isinstance(model, nn.Module) else model
    )

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        _check_state(state, tx, ema_decay, freeze)
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        augment_key, forward_key = jax.random.split(key)
        sample = augment_fn(augment_key, batch) if augment_fn else batch
        params = state.params if own is None else jax.lax.with_sharding_constraint(state.params, whole)
        trained, frozen = split_frozen(params, freeze)

        def objective(trained: Any) -> tuple[Scalar, tuple[Any, Mapping[str, Scalar]]]:
            variables = {"params": join_frozen(trained, frozen), "batch_stats": state.batch_stats}
            outputs, batch_stats = forward(variables, sample["image"], forward_key)
            found = loss_fn(outputs, sample["label"], sample.get("where"), state.step)
            loss, parts = found if isinstance(found, tuple) else (found, {})
            return loss, (batch_stats, parts)

        (loss, (batch_stats, parts)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        if own is not None:  # of the gradient each device keeps what it keeps of the parameters, and so of what follows
            grads = jax.lax.with_sharding_constraint(grads, split_frozen(own.params, freeze)[0])
            trained, frozen = split_frozen(state.params, freeze)
        grads = _in_order(grads)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam multiplies floats by whole numbers, for one
            updates, opt_state = tx.update(grads, state.opt_state, trained)
        params = join_frozen(optax.apply_updates(trained, updates), frozen)
        batch_stats = _keep_frozen(state.batch_stats, batch_stats, freeze)
        ema = state.ema
        if ema_decay is not None:
            ema = _averaged(state, {"params": params, "batch_stats": batch_stats}, opt_state, ema_decay)
        metrics = {"loss": loss, **{f"loss/{name}": part for name, part in parts.items()}}
        if grad_norm:
            metrics["grad_norm"] = global_norm(grads)
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    mesh = make_mesh() if mesh is None else mesh
    whole = replicated(mesh)
    own = state_sharding if isinstance(state_sharding, TrainState) else None
    state_sharding = whole if state_sharding is None else state_sharding
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(state_sharding, batched(mesh)),
        out_shardings=(state_sharding, replicated(mesh)),
    )


def _averaged(state: TrainState, newest: dict[str, Any], opt_state: Any, decay: float) -> Any:
    """Returns the averaged variables after a batch; they are the former ones where it makes no update.

    Args:
      state: before the batch.
      newest: variables after it.
      opt_state: after it.
      decay: of the average.
    """
    count, updated = updates_of(opt_state, state.step + 1)
    averaged = average(state.ema, newest, count - 1, decay)
    return averaged if updated is True else jax.tree.map(partial(jnp.where, updated), averaged, state.ema)


def _in_order(grads: Any) -> Any:
    """Keeps XLA from making one kernel of an update and of turning around the gradient that cuDNN returns.

    On a GPU such a kernel reads in another order than it writes, hence not into the arrays of the state that it got:
    the parameter and both of its moments were copied afterwards. In one dimension there is one order only. Vectors are
    not turned around.
    """

    def settle(grad: Array) -> Array:
        return jax.lax.optimization_barrier(grad.ravel()).reshape(grad.shape)

    return jax.tree.map(lambda grad: settle(grad) if grad.ndim > 1 else grad, grads)


def global_norm(tree: Any) -> Scalar:
    """Returns the square root of the sum of the squares of all numbers in `tree`, as `optax.tree.norm` does.

    A network has hundreds of vectors (biases, scales of norms). If each were summed by itself, a CPU would need seconds
    to compile that; so all vectors are joined first. Larger arrays are not, as joining copies them.

    >>> print(global_norm({"bias": 2 * jnp.ones(3), "kernel": jnp.ones((2, 2)), "scale": jnp.array([3.0, 0.0])}))
    5.0
    """
    leaves = jax.tree.leaves(tree)
    vectors = [x.ravel() for x in leaves if x.ndim < 2]
    joined = [jnp.concatenate(vectors)] if vectors else []
    return optax.tree.norm([x for x in leaves if x.ndim > 1] + joined)


def linen_forward(model: nn.Module, freeze: Prefixes = (), *, remat: str = "", norm_parts: int = 1) -> Forward:
    """Returns the forward pass of a linen module in training: (variables, images, key) -> (outputs, new batch_stats).

    Modules whose path is below one of `freeze` run in evaluation mode, so that their running statistics do not change.
    For `remat` and `norm_parts` see `make_train_step`.
    """
    if remat not in ("", "blocks"):
        raise UserError(f"`remat` (config.train.remat) is '' or 'blocks', got '{remat}'.")

    def as_in_evaluation(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        if "train" in kwargs and under("/".join(context.module.path), freeze):
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    def forward(variables: dict[str, Any], images: Array, key: Array) -> tuple[Any, Any]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(nn.intercept_methods(as_in_evaluation))
            stack.enter_context(batch_norm_parts(norm_parts))
            if remat:
                stack.enter_context(nn.intercept_methods(recompute_blocks()))
            outputs, updated = model.apply(
                variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )
        return outputs, updated.get("batch_stats", {})

    return forward


def _keep_frozen(old: Any, new: Any, freeze: Prefixes) -> Any:
    """Returns the new statistics, those below `freeze` as they were."""
    if not freeze:
        return new
    return jax.tree_util.tree_map_with_path(lambda path, a, b: a if under(path_name(path), freeze) else b, old, new)


def _check_state(
    state: TrainState, tx: optax.GradientTransformation, ema_decay: float | None, freeze: Prefixes
) -> None:
    """Raises, at trace time, where the state was made for another step."""
    trained, _ = split_frozen(state.params, freeze)
    expected = jax.tree.structure(jax.eval_shape(tx.init, trained))
    if jax.tree.structure(state.opt_state) != expected:
        raise UserError(
            "state.opt_state was not made by this tx for these parameters. Make the state with"
            f" create_state(variables, tx, freeze={freeze}), the tx and freeze that make_train_step gets."
        )
    if ema_decay is not None and not state.ema:
        raise UserError(
            f"ema_decay={ema_decay}, but state.ema holds no averages. Make the state with"
            " create_state(variables, tx, ema=True)."
        )
