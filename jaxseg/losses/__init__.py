"""Losses: `(logits, labels, *, where=None, …) -> f32 scalar`.

The contract, which every entry of `LOSSES` keeps:

- logits are float[b, h, w, c], unnormalized, of any float dtype; labels int[b, h, w], class ids in [0, c); `where`
  bool[b, h, w] is True at valid pixels. Losses know no ignore label: the caller turns it into `where`.
- The result is a float32 scalar, computed in float32. Without any valid pixel, loss and gradient are 0.
- Invalid pixels affect neither the value nor the gradient, even if their logits are nan.
- Losses that use one sigmoid per class (`binary_cross_entropy`, `sigmoid_*`) read class ids as each class against all
  others; they also accept labels [b, h, w, c] of 0 or 1 for every class.
- Pure: it can be jitted, differentiated, vmapped and called inside of `jax.shard_map`. Labels are compared with an
  iota, so there is no gather and no scatter; only the Lovász losses sort.
- Everything but the arrays is a keyword with a default, which `config.loss.options` may set.

A new loss is one file and one line of `LOSSES`; tests/contracts/ holds it to the above.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, lookup, suggest
from jaxseg.losses.binary_cross_entropy import binary_cross_entropy
from jaxseg.losses.boundary import boundary, hausdorff
from jaxseg.losses.cldice import sigmoid_cldice, soft_cldice
from jaxseg.losses.cross_entropy import cross_entropy
from jaxseg.losses.dice import dice, generalized_dice, log_cosh_dice, sigmoid_dice
from jaxseg.losses.distillation import channel_wise_distillation, distillation
from jaxseg.losses.focal import focal, sigmoid_focal
from jaxseg.losses.jaccard import jaccard, sigmoid_jaccard
from jaxseg.losses.lovasz import lovasz_hinge, lovasz_softmax
from jaxseg.losses.mcc import mcc
from jaxseg.losses.mutual_information import region_mutual_information, sigmoid_region_mutual_information
from jaxseg.losses.poly import poly_cross_entropy
from jaxseg.losses.schedule import Weight, check_weight, ramp, weight_at
from jaxseg.losses.tversky import focal_tversky, sigmoid_tversky, tversky
from jaxseg.losses.unet import unet_cross_entropy, unet_weight_map

__all__ = [
    "LOSSES",
    "binary_cross_entropy",
    "boundary",
    "channel_wise_distillation",
    "check_loss_config",
    "cross_entropy",
    "dice",
    "distillation",
    "focal",
    "focal_tversky",
    "generalized_dice",
    "hausdorff",
    "is_multilabel",
    "jaccard",
    "log_cosh_dice",
    "lovasz_hinge",
    "lovasz_softmax",
    "mcc",
    "poly_cross_entropy",
    "ramp",
    "region_mutual_information",
    "sigmoid_cldice",
    "sigmoid_dice",
    "sigmoid_focal",
    "sigmoid_jaccard",
    "sigmoid_region_mutual_information",
    "sigmoid_tversky",
    "soft_cldice",
    "tversky",
    "unet_cross_entropy",
    "unet_weight_map",
    "weighted_sum",
]

LOSSES: dict[str, Callable[..., Float[Array, ""]]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "focal": focal,
    "sigmoid_focal": sigmoid_focal,
    "poly_cross_entropy": poly_cross_entropy,
    "dice": dice,
    "sigmoid_dice": sigmoid_dice,
    "generalized_dice": generalized_dice,
    "log_cosh_dice": log_cosh_dice,
    "jaccard": jaccard,
    "sigmoid_jaccard": sigmoid_jaccard,
    "tversky": tversky,
    "sigmoid_tversky": sigmoid_tversky,
    "focal_tversky": focal_tversky,
    "mcc": mcc,
    "lovasz_softmax": lovasz_softmax,
    "lovasz_hinge": lovasz_hinge,
    "soft_cldice": soft_cldice,
    "sigmoid_cldice": sigmoid_cldice,
    "region_mutual_information": region_mutual_information,
    "sigmoid_region_mutual_information": sigmoid_region_mutual_information,
    "boundary": boundary,
    "hausdorff": hausdorff,
    "unet_cross_entropy": unet_cross_entropy,
}

_ARRAYS = ("logits", "labels", "where", "pixel_weights")  # a config can't write these


def weighted_sum(
    outputs: Mapping[str, Float[ArrayLike, "b h w c"]],
    labels: Integer[ArrayLike, "b h w"],
    where: Bool[ArrayLike, "b h w"] | None,
    *,
    terms: Mapping[str, Weight],
    heads: Mapping[str, Weight],
    options: Mapping[str, Mapping[str, Any]],
    step: Integer[ArrayLike, ""] | int | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Sums every loss over every head of the model, Σ head weight · term weight · loss; also returns the single losses.

    Args:
      outputs: the model's outputs; those named in `heads` are logits.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all).
      terms: weight of each loss of `LOSSES`: a number; or, where it changes over the steps, the arguments of `ramp`;
        or any function step -> weight, as optax's schedules are.
      heads: weight of each output that the losses apply to, likewise.
      options: {loss: {argument: value}}.
      step: the training step, from 0; needed where a weight changes.

    Returns:
      The sum, and {"head/loss": the loss before its weights}.

    >>> outputs = {"logits": jnp.zeros((1, 2, 2, 4)), "auxiliary": jnp.zeros((1, 2, 2, 4))}
    >>> labels = jnp.zeros((1, 2, 2), int)
    >>> heads = {"logits": 1.0, "auxiliary": 0.5}
    >>> total, parts = weighted_sum(outputs, labels, None, terms={"cross_entropy": 2.0}, heads=heads, options={})
    >>> print(f"{total:.4f}", sorted(parts))  # 3 log 4
    4.1589 ['auxiliary/cross_entropy', 'logits/cross_entropy']
    """
    total, parts = jnp.float32(0.0), {}
    term_weights = {term: weight_at(weight, step, f"loss.terms.{term}") for term, weight in terms.items()}
    for head, weight in heads.items():
        head_weight = weight_at(weight, step, f"loss.heads.{head}")
        logits = lookup(outputs, head, "output of this model (loss.heads)")
        for term, term_weight in term_weights.items():
            loss = lookup(LOSSES, term, "loss")
            arguments = options.get(term, {})
            parts[f"{head}/{term}"] = loss(logits, labels, where=where, **arguments)
            total = total + head_weight * term_weight * parts[f"{head}/{term}"]
    return total, parts


def check_loss_config(
    terms: Mapping[str, Weight],
    heads: Mapping[str, Weight],
    options: Mapping[str, Mapping[str, Any]],
    *,
    num_classes: int | None = None,
) -> None:
    """Raises a `UserError` if `config.loss` can't run. It needs no data, so it can be called before training.

    With `num_classes`, every loss is also traced on one pixel, so that it checks the values of its options.

    >>> check_loss_config({"dise": 1.0}, {"logits": 1.0}, {})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    jaxseg.checks.UserError: Unknown loss 'dise'. Did you mean 'dice'? Known: binary_cross_entropy, ...
    """
    for name, mapping in (("terms", terms), ("heads", heads)):
        if not mapping:
            raise UserError(f"loss.{name} is empty: nothing to minimize. Give at least one name its weight.")
        for key, weight in mapping.items():
            check_weight(weight, f"loss.{name}.{key}")
    for term in terms:
        lookup(LOSSES, term, "loss")
    for term in options:
        if term not in terms:
            raise UserError(
                f"loss.options is given for '{term}', which loss.terms does not use. {suggest(term, terms)}"
            )
    for term in terms:
        if num_classes == 1 and not is_multilabel(LOSSES[term]):
            raise UserError(
                f"The loss '{term}' compares classes, and the model has one: there is nothing to learn. Use a loss of"
                " sigmoids (binary_cross_entropy, sigmoid_dice, ...), with labels of 0 and 1; or name the background as"
                " a class too, for two."
            )
        arguments = options.get(term, {})
        if not isinstance(arguments, Mapping):
            raise UserError(f"loss.options.{term} must be a mapping of arguments, got {arguments!r}.")
        known = [name for name in inspect.signature(LOSSES[term]).parameters if name not in _ARRAYS]
        for option in arguments:
            if option not in known:
                raise UserError(f"Unknown option '{option}' of loss '{term}'. {suggest(option, known)}")
        if num_classes is not None:
            _trace(term, arguments, num_classes)


def is_multilabel(loss: Callable[..., Any]) -> bool:
    """Returns whether the loss treats classes as independent binary problems, each with a sigmoid.

    Such a loss also accepts multi-hot labels [b, h, w, c], and a single class.

    >>> is_multilabel(dice), is_multilabel(sigmoid_dice)
    (False, True)
    """
    pixel = jax.ShapeDtypeStruct((1, 1, 1, 1), jnp.float32)
    try:
        jax.eval_shape(loss, pixel, jax.ShapeDtypeStruct(pixel.shape, jnp.int32))  # multi-hot labels
    except (UserError, TypeError):  # the latter, where annotations are checked
        return False
    return True


def _trace(term: str, arguments: Mapping[str, Any], num_classes: int) -> None:
    logits = jax.ShapeDtypeStruct((1, 1, 1, num_classes), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, 1, 1), jnp.int32)
    try:
        jax.eval_shape(partial(LOSSES[term], **arguments), logits, labels)
    except (TypeError, ValueError) as error:
        raise UserError(f"loss.options.{term} can't be used: {error}") from error
