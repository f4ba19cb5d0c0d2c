"""Calibration of probabilities: a scale and a bias of the logits, fitted after training on a held-out split."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxseg.checks import UserError, lookup
from jaxseg.pretrained.calibration import FILE, Calibration, load_calibration, save_calibration
from jaxseg.trained import find_calibration

__all__ = [
    "FILE",
    "KINDS",
    "Calibration",
    "find_calibration",
    "fit_calibration",
    "fit_temperature",
    "fit_vector",
    "load_calibration",
    "save_calibration",
]

_COLDEST, _HOTTEST = 0.05, 20.0  # temperatures; a fit without a minimum ends at one of them
_RIDGE = 1e-6  # pulls the bias of a class that the split lacks towards 0
_STEPS = 200  # of L-BFGS at most


def fit_calibration(
    kind: str,
    logits: Float[Array | np.ndarray, "n c"],
    labels: Int[Array | np.ndarray, " n"],
    *,
    checkpoint: int,
    split: str,
    activation: str = "softmax",
) -> Calibration:
    """Returns the calibration that minimizes the mean of -log p(label) over the pixels given.

    Of sigmoids it is the mean of -log p over all classes, each of which the pixel has or has not.

    Args:
      kind: "temperature", one number, which changes no prediction, or "vector", a scale and a bias per class.
      logits: of valid pixels.
      labels: class ids in [0, c).
      checkpoint: the step that made the logits.
      split: the split that the pixels are from.
      activation: "softmax", over the classes, or "sigmoid", of each class against all others.
    """
    fit = lookup(KINDS, kind, "calibration")
    lookup(dict.fromkeys(("softmax", "sigmoid")), activation, "activation")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise UserError(
            f"Expected logits [n, c] and labels [n] of at least one pixel, got {logits.shape} and {labels.shape}."
        )
    scale, bias = jax.device_get(jax.jit(partial(fit, sigmoid=activation == "sigmoid"))(logits, labels))
    numbers = tuple(map(float, scale)), tuple(map(float, bias))
    return Calibration(kind, *numbers, checkpoint, split, activation=activation)


def fit_temperature(
    logits: Float[Array, "n c"], labels: Int[Array, " n"], *, sigmoid: bool = False
) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
    """Returns the scale 1 / T, and a bias of 0, of temperature scaling (Guo et al., 2017, arXiv:1706.04599, 4.2).

    The loss is convex in the scale: Newton's steps, and a bisection in the logarithm where one leaves the bracket. T is
    between 0.05 and 20: scores that are never wrong have no best temperature.

    >>> scale, _ = fit_temperature(jnp.array([[4.0, 0.0]] * 4), jnp.array([0, 0, 0, 1]))  # p = 3/4 at log 3
    >>> round(float(scale[0]), 4)
    0.2747
    """
    logits = logits.astype(jnp.float32)
    if sigmoid:
        labels = jnp.where(_one_hot(labels, logits), 0, 1).ravel()
        logits = jnp.stack([logits, jnp.zeros_like(logits)], -1).reshape(-1, 2)
    logits = logits - logits.max(-1, keepdims=True)
    own = jnp.where(_one_hot(labels, logits), logits, 0.0).sum(-1)

    def step(_: Int[Array, ""], state: tuple[Float[Array, ""], ...]) -> tuple[Float[Array, ""], ...]:
        scale, low, high = state
        p = jax.nn.softmax(scale * logits)
        mean = (p * logits).sum(-1)
        slope = (mean - own).mean()
        curvature = (p * (logits - mean[:, None]) ** 2).sum(-1).mean()
        low, high = jnp.where(slope < 0, scale, low), jnp.where(slope < 0, high, scale)
        newton = scale - slope / jnp.where(curvature > 0, curvature, 1.0)
        inside = (curvature > 0) & (newton > low) & (newton < high)
        return jnp.where(inside, newton, jnp.sqrt(low * high)), low, high

    start = jnp.float32(1.0), jnp.float32(1 / _HOTTEST), jnp.float32(1 / _COLDEST)
    scale, _, _ = lax.fori_loop(0, 50, step, start)
    return scale[None], jnp.zeros(1)


def fit_vector(
    logits: Float[Array, "n c"], labels: Int[Array, " n"], *, sigmoid: bool = False
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Returns the scale and the bias of each class of vector scaling (Guo et al., 2017, arXiv:1706.04599, 4.2).

    By L-BFGS on the mean loss plus 1e-6 · (|scale - 1|² + |bias|²), which keeps classes finite that the pixels lack.
    """
    import optax

    logits = logits.astype(jnp.float32)
    truth = _one_hot(labels, logits)

    def loss(parameters: tuple[Float[Array, " c"], Float[Array, " c"]]) -> Float[Array, ""]:
        scale, bias = parameters
        ridge = _RIDGE * (((scale - 1) ** 2).sum() + (bias**2).sum())
        scores = logits * scale[None] + bias[None]
        if sigmoid:
            return -jax.nn.log_sigmoid(jnp.where(truth, scores, -scores)).mean() + ridge
        return -jnp.where(truth, jax.nn.log_softmax(scores), 0.0).sum(-1).mean() + ridge

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple[Any, Any, Float[Array, ""], Int[Array, ""]]) -> tuple[Any, ...]:
        parameters, state, _, count = carry
        value, grad = value_and_grad(parameters, state=state)
        updates, state = solver.update(grad, state, parameters, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(parameters, updates), state, optax.tree.norm(grad), count + 1

    ones = jnp.ones(logits.shape[-1])
    start = (ones, 0 * ones)
    carry = start, solver.init(start), jnp.float32(jnp.inf), 0
    return lax.while_loop(lambda carry: (carry[2] > 1e-6) & (carry[3] < _STEPS), step, carry)[0]


KINDS: dict[str, Callable] = {"temperature": fit_temperature, "vector": fit_vector}


def _one_hot(labels: Int[Array | np.ndarray, " n"], logits: Float[Array, "n c"]) -> Bool[Array, "n c"]:
    return labels.astype(jnp.int32)[:, None] == jnp.arange(logits.shape[-1])[None]
