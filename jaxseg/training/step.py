"""The training step: augment, forward, loss, gradient, update; one jit, the state donated."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxseg import losses
from jaxseg.data.augment import augment
from jaxseg.experiment.devices import batched, replicated
from jaxseg.experiment.state import TrainState, average
from jaxseg.training.optim import pack_vectors, under


def freeze_norms(prefixes: tuple[str, ...]) -> Callable:
    """Returns a linen interceptor that runs the modules below `prefixes` in evaluation mode.

    A frozen part must not drift through its running statistics either.
    """

    def interceptor(call, args, kwargs, context):
        if "train" in kwargs and under("/".join(context.module.path), prefixes):
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    return interceptor


def make_loss(model: nn.Module, config: Any) -> Callable:
    """Returns (params, batch_stats, sample, key, step) -> (loss, (new batch_stats, parts of the loss))."""
    frozen = tuple(config.optim.freeze)
    c = config.loss.to_dict()

    def loss_function(params, batch_stats, sample, key, step):
        with nn.intercept_methods(freeze_norms(frozen)):
            outputs, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                sample["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
        loss, parts = losses.weighted_sum(outputs, sample["label"], sample["where"], **c, step=step)
        return loss, (updated.get("batch_stats", {}), parts)

    return loss_function


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    config: Any,
    mesh: Mesh,
    *,
    ignore: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the jitted (state, batch) -> (state, metrics).

    The randomness of a step is a function of (config.seed, state.step) alone, so a resumed run repeats it.

    Args:
      model: the linen module.
      tx: the optax transformation that made `state.opt_state`.
      config: the whole config.
      mesh: devices to run on.
      ignore: the label value that marks pixels which do not count.
      mean: of each channel, in units of the uint8 picture, subtracted before the division by `std`.
      std: see `mean`.
    """
    crop = tuple(config.data.crop)
    decay = config.optim.ema
    gradient = jax.value_and_grad(make_loss(model, config), has_aux=True)

    def train_step(state, batch):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        sample = augment(augment_key, batch, config.augment, crop=crop, ignore=ignore, mean=mean, std=std)
        arguments = (state.params, state.batch_stats, sample, dropout_key, state.step)
        (loss, (batch_stats, parts)), grads = gradient(*arguments)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = {"params": params, "batch_stats": batch_stats}
        ema = average(state.ema, new, state.step, decay) if decay else state.ema
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(pack_vectors(grads))}
        metrics |= {f"loss/{name}": part for name, part in parts.items()}
        return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics

    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(replicated(mesh), batched(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
    )
