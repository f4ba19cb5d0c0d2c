"""The optimiser of a config, out of optax's parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxseg.checks import UserError, lookup


def _constant(c, steps):
    return optax.constant_schedule(c.lr)


def _cosine(c, steps):
    return optax.cosine_decay_schedule(c.lr, steps)


def _poly(c, steps):
    """(1 - step / steps) ** power, the schedule of DeepLab (Chen et al., 2016, arXiv:1606.00915, section 4.1)."""
    return optax.polynomial_schedule(c.lr, 0.0, c.power, steps)


SCHEDULES = {"poly": _poly, "cosine": _cosine, "constant": _constant}


def make_schedule(c: Any, steps: int) -> Callable[[Any], Any]:
    """Returns update -> learning rate.

    Args:
      c: `config.optim`.
      steps: batches of the whole run; with accumulation there are fewer updates.
    """
    updates = max(steps // c.accumulate, 1)
    if c.warmup_steps >= updates:
        raise UserError(
            f"config.optim.warmup_steps={c.warmup_steps} leaves nothing of a run of {updates} updates."
            " Train longer or warm up for fewer steps."
        )
    decay = lookup(SCHEDULES, c.schedule, "schedule")(c, updates - c.warmup_steps)
    if not c.warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, c.lr, c.warmup_steps)
    return optax.join_schedules([warmup, decay], [c.warmup_steps])


def path_name(path: tuple) -> str:
    """Returns a parameter's path as people write it: "encoder/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    """Says whether the path `name` is one of `prefixes` or lies below one.

    >>> under("encoder/conv1", ("encoder",)), under("encoder2/conv1", ("encoder",))
    (True, False)
    """
    return any(name == p or name.startswith(p.rstrip("/") + "/") for p in prefixes)


def pack_vectors(tree: Any) -> dict[str, jax.Array]:
    """Returns kernels by path, and the vectors of each part of the model joined into one.

    A network has some hundred biases and scales of norms. One by one, an optimiser is half a dozen tiny kernels for
    each: seconds of compilation on a CPU, launches on a GPU.

    >>> tree = {"head": {"bias": jnp.ones(2), "kernel": jnp.ones((1, 2)), "scale": jnp.zeros(1)}}
    >>> {name: x.tolist() for name, x in pack_vectors(tree).items()}
    {'head/kernel': [[1.0, 1.0]], 'head/vectors': [1.0, 1.0, 0.0]}
    """
    packed, vectors = {}, {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        name = path_name(path)
        if x.ndim > 1:
            packed[name] = x
        else:
            vectors.setdefault(f"{name.split('/')[0]}/vectors", []).append(x.ravel())
    return packed | {name: jnp.concatenate(parts) for name, parts in vectors.items()}


def unpack_vectors(packed: dict[str, jax.Array], like: Any) -> Any:
    """Undoes `pack_vectors(like)`."""
    taken = dict.fromkeys(packed, 0)

    def leaf(path, x):
        name = path_name(path)
        if x.ndim > 1:
            return packed[name]
        name = f"{name.split('/')[0]}/vectors"
        start = taken[name]
        taken[name] += x.size
        return packed[name][start : start + x.size].reshape(x.shape)

    return jax.tree_util.tree_map_with_path(leaf, like)


def _packed(tx):
    """`tx` on trees that `pack_vectors` made of the parameters."""

    def update(updates, state, params=None):
        new, state = tx.update(pack_vectors(updates), state, None if params is None else pack_vectors(params))
        return unpack_vectors(new, updates), state

    return optax.GradientTransformation(lambda params: tx.init(pack_vectors(params)), update)


def _is_kernel(params):
    """Biases and the scales of norms, which are vectors, do not decay."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _scale_encoder(factor):
    def update(updates, state, params=None):
        def scale(path, u):
            return u * factor if under(path_name(path), ("encoder",)) else u

        return jax.tree_util.tree_map_with_path(scale, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _adamw(c):
    return [optax.scale_by_adam(c.beta1, c.beta2), optax.add_decayed_weights(c.weight_decay, _is_kernel)]


def _sgd(c):
    momentum = optax.trace(c.momentum, nesterov=c.nesterov)
    return [optax.add_decayed_weights(c.weight_decay, _is_kernel), momentum]


OPTIMIZERS = {"adamw": _adamw, "sgd": _sgd}


def make_optimizer(c: Any, schedule: Callable, params: Any) -> optax.GradientTransformation:
    """Returns the optax transformation: clip, precondition and decay, learning rate, encoder factor, freezing.

    Args:
      c: `config.optim`.
      schedule: update -> learning rate.
      params: the parameters or their shapes; a frozen prefix that matches none of them raises.
    """
    parts = [optax.clip_by_global_norm(c.clip_norm)] if c.clip_norm else []
    parts += lookup(OPTIMIZERS, c.name, "optimizer")(c)
    parts += [optax.scale_by_learning_rate(schedule)]
    if c.encoder_lr_factor != 1.0:
        parts += [_scale_encoder(c.encoder_lr_factor)]
    tx = _packed(optax.chain(*parts))
    frozen = tuple(c.freeze)
    if frozen:
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for prefix in frozen:
            if not any(under(name, (prefix,)) for name in names):
                parts = sorted({name.split("/")[0] for name in names})
                raise UserError(
                    f"config.optim.freeze names '{prefix}', but no parameter lies below it."
                    f" The model's parts: {', '.join(parts)}."
                )
        labels = jax.tree_util.tree_map_with_path(
            lambda path, _: "frozen" if under(path_name(path), frozen) else "trained", params
        )
        tx = optax.multi_transform({"trained": tx, "frozen": optax.set_to_zero()}, labels)
    if c.accumulate > 1:
        tx = optax.MultiSteps(tx, c.accumulate)
    return tx
