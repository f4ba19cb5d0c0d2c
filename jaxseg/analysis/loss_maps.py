"""Loss maps: a loss's value over pairs of probabilities, and its gradient on an example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg.losses import is_multilabel

SIZE = 64  # of the example, in pixels


def example() -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Returns a label of one class and background, and a predicted probability with typical errors.

    A disc is predicted a few pixels too far right, a line has a gap, a small disc is missed, and another one is a false
    positive.
    """
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5

    def disc(middle_y: float, middle_x: float, radius: float) -> Float[np.ndarray, "h w"]:  # positive inside, in pixels
        return radius - np.hypot(y - middle_y, x - middle_x)

    line = 1.5 - np.abs(y - 50)
    label = np.maximum.reduce([disc(23, 20, 14), disc(12, 52, 5), line]) > 0
    gap = np.maximum(line - 100 * ((x > 26) & (x < 36)), -6)
    found = np.maximum.reduce([disc(23, 24, 14), disc(32, 54, 5), gap])
    return label.astype(np.int32), 1 / (1 + np.exp(-np.clip(found, -4, 4)))


def surface(
    loss: Callable[..., Any], label: Int[Array | np.ndarray, "h w"], *, steps: int = 41
) -> Float[np.ndarray, "p q"]:
    """Returns the loss for one probability on all pixels of the object and another on all other pixels.

    Row i has the probability of the object's pixels, column j of the others, both from 0.01 to 0.99 in `steps`.
    """
    levels = jnp.linspace(0.01, 0.99, steps)
    scores = jnp.log(levels) - jnp.log1p(-levels)
    total = _of_scores(loss, label)

    def row(inside: Float[Array, ""]) -> Float[Array, " q"]:
        return jax.lax.map(lambda outside: total(jnp.where(label == 1, inside, outside)), scores)

    return np.asarray(jax.jit(lambda scores: jax.lax.map(row, scores))(scores))


def push(
    loss: Callable[..., Any], label: Int[Array | np.ndarray, "h w"], probability: Float[Array | np.ndarray, "h w"]
) -> Float[np.ndarray, "h w"]:
    """Returns minus the gradient of the loss with respect to the class's score; positive values increase the score.

    >>> from jaxseg.losses import cross_entropy
    >>> push(cross_entropy, np.array([[1, 0]]), np.array([[0.25, 0.25]])).tolist()  # by p - t, mean over two pixels
    [[0.375, -0.125]]
    """
    probability = jnp.asarray(probability, jnp.float32)
    scores = jnp.log(probability) - jnp.log1p(-probability)
    return -np.asarray(jax.jit(jax.grad(_of_scores(loss, label)))(scores))


def _of_scores(
    loss: Callable[..., Any], label: Int[Array | np.ndarray, "h w"]
) -> Callable[[Float[Array, "h w"]], Float[Array, ""]]:
    """`loss` as a function of the score [h, w] whose sigmoid is the class's probability."""
    labels = jnp.asarray(label)[None]
    if is_multilabel(loss):
        return lambda scores: loss(scores[None, ..., None], labels)
    return lambda scores: loss(jnp.stack([jnp.zeros_like(scores), scores], -1)[None], labels)
