"""Learning rate schedules and optimizers, out of optax's parts."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from jaxseg.checks import UserError, closest, lookup
from jaxseg.experiment.freeze import named_by, path_name, under


class Fall(NamedTuple):
    """What a learning rate falls from after the warm-up, and how."""

    lr: float
    updates: int  # after the warm-up
    warmup: int  # updates before
    power: float
    drops: Sequence[float]
    drop_factor: float

    def at(self, share: float) -> int:
        """Returns the number of updates after the warm-up at a share of the whole run."""
        return round(share * (self.updates + self.warmup)) - self.warmup

    def scales(self) -> dict[int, float]:
        """Returns what each drop multiplies the learning rate by, by its update; in a short run some share one."""
        counts = Counter(map(self.at, self.drops))
        return {at: self.drop_factor**count for at, count in counts.items()}


SCHEDULES: dict[str, Callable[[Fall], optax.Schedule]] = {
    # (1 - step / steps) ** power is DeepLab's (Chen et al., 2016, arXiv:1606.00915, section 4.1).
    "poly": lambda fall: optax.polynomial_schedule(fall.lr, 0.0, fall.power, fall.updates),
    "cosine": lambda fall: optax.cosine_decay_schedule(fall.lr, fall.updates),
    "steps": lambda fall: optax.piecewise_constant_schedule(fall.lr, fall.scales()),
    "constant": lambda fall: optax.constant_schedule(fall.lr),
}
OPTIMIZERS = ("adamw", "sgd")


def make_schedule(
    steps: int,
    *,
    lr: float,
    schedule: str,
    power: float,
    drops: Sequence[float],
    drop_factor: float,
    warmup_steps: int,
    accumulate: int,
) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates so far.

    Args:
      steps: batches of the whole run; with accumulation there are fewer updates.
      lr: the highest learning rate.
      schedule: a key of `SCHEDULES`: how the learning rate falls after the warm-up.
      power: exponent of the "poly" schedule.
      drops: of the "steps" schedule: shares of the run, rising, in (0, 1), after which the learning rate drops.
      drop_factor: of the "steps" schedule: what each drop multiplies the learning rate by, in (0, 1).
      warmup_steps: n updates after which the learning rate, which rises linearly from `lr` / n, is `lr`.
      accumulate: number of batches of one update.

    >>> options = {"power": 0.9, "drops": (0.6, 0.8), "drop_factor": 0.1, "warmup_steps": 0, "accumulate": 1}
    >>> cosine = make_schedule(100, lr=0.1, schedule="cosine", **options)
    >>> print(f"{cosine(50):.3f}")
    0.050
    >>> steps = make_schedule(100, lr=0.1, schedule="steps", **options)
    >>> print(f"{steps(59):.3f}, {steps(60):.3f}, {steps(80):.3f}")
    0.100, 0.010, 0.001
    """
    updates = max(steps // accumulate, 1)
    if warmup_steps >= updates:
        raise UserError(
            f"config.optim.warmup_steps={warmup_steps} leaves nothing of a run of {updates} updates."
            " Train longer or warm up for fewer steps."
        )
    fall = Fall(lr, updates - warmup_steps, warmup_steps, power, drops, drop_factor)
    if schedule == "steps" and drops and warmup_steps and fall.at(drops[0]) <= 0:
        raise UserError(
            f"config.optim.drops={tuple(drops)}: the learning rate would drop before the warm-up of {warmup_steps} of"
            f" {updates} updates has ended. Drop later, or warm up for fewer steps."
        )
    decay = lookup(SCHEDULES, schedule, "schedule")(fall)
    if not warmup_steps:
        return decay
    # As torch's LinearLR: an update at a rate of 0 would be a wasted one.
    warmup = optax.linear_schedule(lr / warmup_steps, lr, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


def make_optimizer(
    learning_rate: optax.Schedule,
    *,
    name: str,
    weight_decay: float,
    beta1: float,
    beta2: float,
    momentum: float,
    nesterov: bool,
    clip_norm: float,
    encoder_lr_factor: float,
    lr_factors: Mapping[str, float],
    accumulate: int,
) -> optax.GradientTransformation:
    """Returns the optimizer: clipping, AdamW or SGD with weight decay, learning rate, its factors by path, in turn.

    Where its state has one number for each parameter, it has them in the tree of the parameters, as optax's states do.

    Args:
      learning_rate: a function from the number of updates to the learning rate, see `make_schedule`.
      name: one of `OPTIMIZERS`.
      weight_decay: decoupled for "adamw", added to the gradient for "sgd"; of kernels only, not of vectors.
      beta1: of "adamw": decay of the mean of the gradient, in [0, 1).
      beta2: of "adamw": decay of the mean of its square, in [0, 1).
      momentum: of "sgd", in [0, 1).
      nesterov: of "sgd": whether the momentum is Nesterov's.
      clip_norm: largest global norm of the gradient; 0 is off.
      encoder_lr_factor: learning rate of the parameters below "encoder", relative to the others'.
      lr_factors: {path: learning rate of the parameters that it names, relative to the others'}, see
        `jaxseg.experiment.freeze.named_by`. What several paths name has the product of their factors.
      accumulate: consecutive gradients that are averaged into one update.

    Raises:
      UserError: when the optimizer's state is made for parameters none of which one of `lr_factors` names.
    """
    decay = optax.add_decayed_weights(weight_decay, _is_kernel)
    rules = {
        "adamw": [optax.scale_by_adam(beta1, beta2), decay],
        "sgd": [decay, optax.trace(momentum, nesterov=nesterov)],
    }
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    parts += lookup(rules, name, "optimizer")
    rate = optax.scale_by_learning_rate(learning_rate)
    parts += [_by_path(rate, lr_factors) if lr_factors else rate]
    if encoder_lr_factor != 1.0:
        parts += [optax.masked(optax.scale(encoder_lr_factor), partial(_is_under, prefix="encoder"))]
    tx = optax.chain(*parts)
    return optax.MultiSteps(tx, accumulate).gradient_transformation() if accumulate > 1 else tx


def _by_path(rate: optax.GradientTransformation, factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Returns `rate` with every parameter's update multiplied by its factors.

    The state is that of `rate` alone, so that a run may go on with other factors, or with none.
    """

    def init(params: Any) -> Any:
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for pattern in factors:
            if not any(named_by(name, pattern) for name in names):
                known = {name.rsplit("/", depth)[0] for name in names for depth in range(name.count("/") + 1)}
                raise UserError(
                    f"config.optim.lr_factors names '{pattern}', but no trained parameter has that path."
                    f" {closest(pattern, sorted(known))}The trained parts:"
                    f" {', '.join(sorted({name.split('/')[0] for name in names}))}."
                )
        return rate.init(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = rate.update(updates, state, params)
        return jax.tree_util.tree_map_with_path(scaled, updates), state

    def scaled(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
        name = path_name(path)
        return value * math.prod(factor for pattern, factor in factors.items() if named_by(name, pattern))

    return optax.GradientTransformation(init, update)


def _is_kernel(params: Any) -> Any:
    """Biases and the scales of norms, which are vectors, do not decay."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _is_under(params: Any, prefix: str) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: under(path_name(path), (prefix,)), params)
