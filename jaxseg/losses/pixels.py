"""Helpers of the pixel losses: masking of logits, one-hot labels, and ratios over valid pixels."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels

# Class ids (of one class also True and False, the foreground and what is not), or a 0 or 1 for every class.
BinaryLabels = (
    Integer[ArrayLike, "b h w"] | Bool[ArrayLike, "b h w"] | Integer[ArrayLike, "b h w c"] | Bool[ArrayLike, "b h w c"]
)


def counted_logits(logits: Float[ArrayLike, "... c"], where: Bool[ArrayLike, "..."] | None) -> Float[Array, "... c"]:
    """Returns float32 logits with 0 where `where` is False, so that their values there can't affect a gradient.

    >>> counted_logits(jnp.array([[1.0, 2.0], [jnp.nan, 0.0]]), jnp.array([True, False])).tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    logits = logits.astype(jnp.float32)
    return logits if where is None else jnp.where(where[..., None], logits, 0.0)


def one_hot(labels: Integer[ArrayLike, "..."], num_classes: int) -> Bool[Array, "... c"]:
    """Compares labels with an iota: no gather, hence no scatter in a gradient. Unknown ids match no class.

    >>> one_hot(jnp.array([2, 0]), 3).astype(int).tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    shape = (*labels.shape, num_classes)
    return labels.astype(jnp.int32)[..., None] == lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)


def check_binary(logits: Any, labels: Any, where: Any = None) -> None:
    """Checks the arguments of a sigmoid loss at trace time; see `binary_targets` for the labels it accepts.

    >>> check_binary(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 4), bool))
    Traceback (most recent call last):
    jaxseg.checks.UserError: Labels (1, 2, 2, 4) hold 4 classes per pixel, logits (1, 2, 2, 3) hold 3. Give ...
    """
    if logits.ndim != 4:
        raise UserError(f"Logits must be [b, h, w, c], got {logits.shape}. Add the axes that are missing.")
    boolean = labels.dtype == jnp.bool_
    if boolean and labels.ndim != 4 and logits.shape[-1] != 1:
        raise UserError(f"Labels of {logits.shape[-1]} classes are ids or bool[b, h, w, c], got bool{labels.shape}.")
    if labels.ndim == 4 and labels.shape[-1] != logits.shape[-1]:
        raise UserError(
            f"Labels {labels.shape} hold {labels.shape[-1]} classes per pixel, logits {logits.shape} hold"
            f" {logits.shape[-1]}. Give one per class."
        )
    ids = labels[..., 0] if labels.ndim == 4 else labels
    check_logits_and_labels(logits, ids.astype(jnp.int32) if boolean else ids, where, least=1)


def binary_targets(labels: BinaryLabels, num_classes: int) -> Bool[Array, "b h w c"]:
    """Returns the target of each class's sigmoid, from class ids (one-vs-all) or from several labels per pixel.

    Labels with four axes hold 0 or 1 for every class. Labels with three axes hold class ids: each class against all
    others. With a single class, 1 is the foreground and every other id is background.

    >>> binary_targets(jnp.array([[[0, 2]]]), 3).astype(int).tolist()
    [[[[1, 0, 0], [0, 0, 1]]]]
    >>> binary_targets(jnp.array([[[0, 1]]]), 1).astype(int).tolist()
    [[[[0], [1]]]]
    >>> binary_targets(jnp.array([[[[0, 1, 1]]]]), 3).tolist()
    [[[[False, True, True]]]]
    """
    if labels.ndim == 4:
        return jnp.asarray(labels, jnp.int32) == 1
    if num_classes == 1:
        return jnp.asarray(labels, jnp.int32)[..., None] == 1
    return one_hot(labels, num_classes)


def chosen_classes(classes: Sequence[int] | None, num_classes: int) -> list[int]:
    """Returns `classes` as a list of ids, or all ids for None; raises a `UserError` if one is not valid.

    >>> chosen_classes(None, 3)
    [0, 1, 2]
    """
    chosen = list(range(num_classes)) if classes is None else list(classes)
    known = [k for k in chosen if isinstance(k, int) and not isinstance(k, bool) and 0 <= k < num_classes]
    if not chosen or len(set(known)) != len(chosen):
        raise UserError(f"`classes` must be different class ids in [0, {num_classes}), at least one, got {classes}.")
    return chosen


def ratio_where(
    values: Float[ArrayLike, "..."], weights: Float[ArrayLike, "..."], where: Bool[ArrayLike, "..."] | None
) -> Float[Array, ""]:
    """Returns Σ values / Σ weights over the pixels where `where` is True; 0 when their weights sum to 0.

    >>> float(ratio_where(jnp.array([1.0, 3.0, jnp.nan]), jnp.ones(3), jnp.array([True, True, False])))
    2.0
    """
    if where is not None:
        values, weights = jnp.where(where, values, 0.0), jnp.where(where, weights, 0.0)
    total = weights.sum()
    positive = total > 0
    return jnp.where(positive, values.sum() / jnp.where(positive, total, 1.0), 0.0)


def inverse_frequency(target: Bool[ArrayLike, "... c"], where: Bool[ArrayLike, "..."] | None) -> Float[Array, " c"]:
    """Returns pixels / (classes present · pixels of the class) over valid pixels; 0 for an absent class.

    >>> inverse_frequency(one_hot(jnp.array([0, 0, 0, 0, 2]), 3), None).tolist()  # 5 / (2 · 4) and 5 / 2
    [0.625, 0.0, 2.5]
    """
    counted = target if where is None else target & where[..., None]
    pixels = counted.sum(tuple(range(target.ndim - 1)), dtype=jnp.int32).astype(jnp.float32)
    present = pixels > 0
    classes = jnp.maximum(present.sum(dtype=jnp.float32), 1.0)
    weights = pixels.sum() / (classes * jnp.where(present, pixels, 1.0))
    return jnp.where(present, weights, 0.0)


def surprise(
    logits: Float[ArrayLike, "... c"], target: Bool[ArrayLike, "... c"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Returns -log p and 1 - p of each pixel's class, p being the softmax; both keep their digits where p is near 1.

    >>> negative_log_p, rest = surprise(jnp.array([20.0, 0.0]), jnp.array([True, False]))
    >>> print(f"{negative_log_p:.3e} {rest:.3e}")  # 1 - p in float32 would be 0
    2.061e-09 2.061e-09
    """
    shifted = logits - lax.stop_gradient(logits.max(-1, keepdims=True))
    others = jnp.where(target, 0.0, jnp.exp(shifted)).sum(-1)
    label_score = jnp.where(target, shifted, 0.0).sum(-1)
    total = others + jnp.exp(label_score)
    # Where the label has the largest score, -log p = log(1 + others / exp(label_score)) keeps every digit.
    largest = label_score == 0
    sure = jnp.log1p(others * jnp.exp(-jnp.where(largest, label_score, 0.0)))
    return jnp.where(largest, sure, jnp.log(total) - label_score), others / total


def power_of_positive(values: Float[ArrayLike, "..."], exponent: float) -> Float[Array, "..."]:
    """Returns values^exponent for values >= 0, with 0 and a slope of 0 at 0, where a root's slope is infinite.

    >>> power_of_positive(jnp.array([0.0, 4.0]), 0.5).tolist()
    [0.0, 2.0]
    """
    if exponent == 0:
        return jnp.ones_like(values)
    positive = values > 0
    return jnp.where(positive, jnp.where(positive, values, 1.0) ** exponent, 0.0)


def per_class(values: Sequence[float] | Float[ArrayLike, " c"], num_classes: int, name: str) -> Float[Array, " c"]:
    """Returns one float32 number per class, or raises a `UserError` that names the argument."""
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (num_classes,):
        raise UserError(
            f"`{name}` must hold one number for each of the {num_classes} classes, got shape {array.shape}."
        )
    return array
