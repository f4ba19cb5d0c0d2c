"""From stored images to logits, probabilities and labels: pure functions of a trained model's network."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.batches import shown_bands
from jaxseg.inference.refine import Refiner
from jaxseg.inference.tta import ALONE, TTA, average
from jaxseg.ops.resize import resize_within
from jaxseg.trained import TrainedModel

Apply = Callable[[Any, Float[Array, "b h w c"]], Mapping[str, Float[Array, "b h w k"]]]


def predict_logits(
    apply: Apply,
    variables: Any,
    images: Num[Array, "b h w c"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    preprocessing: Preprocessing,
    refine: Refiner | None = None,
    tta: TTA = ALONE,
    sigmoids: bool = False,
) -> Float[Array, "b h w k"]:
    """Returns the model's logits of stored images; this function normalizes them.

    With `refine`, the refined logits; with `tta`, those of the mean probabilities of its variants. Both need `sizes`,
    the sizes of the images before padding. For a model of one class, a background class with logits 0 is added before
    it: the softmax of the two is the sigmoid of the logit. `sigmoids` tells `tta` what `has_sigmoids` does.
    """

    def network(images: Float[Array, "b h w c"]) -> Float[Array, "b h w k"]:
        return two_or_more(apply(variables, images)["logits"])

    normalized = preprocessing.normalize(images)
    if len(tta) == 1:
        logits = network(normalized)
    else:
        logits = average(network, normalized, sizes, tta=tta, preprocessing=preprocessing, sigmoids=sigmoids)
    return refine(logits, shown_bands(images, preprocessing), sizes) if refine else logits


def native_logits(
    apply: Apply,
    variables: Any,
    batch: Mapping[str, Array],
    *,
    canvas: tuple[int, int],
    preprocessing: Preprocessing,
    **options: Any,
) -> Float[Array, "b h w k"]:
    """Returns the logits of a batch of `batches.stack`, at the images' native sizes within `canvas`.

    The options are those of `predict_logits`: refine, tta, sigmoids.
    """
    logits = predict_logits(apply, variables, batch["image"], batch["size"], preprocessing=preprocessing, **options)
    return resize_within(logits, batch["size"], batch["native"], canvas) if preprocessing.resize else logits


def two_or_more(logits: Float[Array, "b h w c"]) -> Float[Array, "b h w labels"]:
    """Returns logits of at least two labels: adds a background of 0 before a single class; returns others unchanged.

    >>> two_or_more(jnp.array([[[[3.0]], [[-1.0]]]])).argmax(-1).tolist()
    [[[1], [0]]]
    """
    if logits.shape[-1] > 1:
        return logits
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)


def labels_of(logits: Float[Array, "*b c"], trained: TrainedModel) -> Int[Array, "*b"]:
    """Returns the label of every pixel: the class with the largest logit; of one class, whether it is likely enough.

    Args:
      logits: of at least two labels.
      trained: whose threshold counts, if its model has one class.
    """
    if trained.num_logits > 1:
        return jnp.argmax(logits, axis=-1)
    least = math.log(trained.threshold / (1 - trained.threshold)) if 0 < trained.threshold < 1 else math.inf
    least = -math.inf if trained.threshold == 0 else least
    return (logits[..., 1] - logits[..., 0] > least).astype(jnp.int32)


def has_sigmoids(trained: TrainedModel) -> bool:
    """Returns whether a model has several classes, each with a probability of its own that needs no sum of 1.

    A model of one class has two labels, whose softmax is the sigmoid of its logit.
    """
    return trained.activation == "sigmoid" and trained.num_logits > 1


def probabilities_of(
    logits: Float[Array, "*b c"], trained: TrainedModel, *, refined: bool = False
) -> Float[Array, "*b c"]:
    """Returns the probabilities that the model's activation makes of logits of at least two labels.

    Args:
      logits: of the model, or of a refiner.
      trained: whose activation counts.
      refined: whether a refiner made the logits; they are of exclusive labels, whatever the model's are.
    """
    return jax.nn.sigmoid(logits) if has_sigmoids(trained) and not refined else jax.nn.softmax(logits)


def exclusive_logits(logits: Float[Array, "*b c"], trained: TrainedModel) -> Float[Array, "*b c"]:
    """Returns scores whose softmax is the model's probabilities, divided by their sum where they are of sigmoids.

    This is what refiners start from: a CRF knows exclusive labels only. The largest stays the largest.
    """
    return jax.nn.log_sigmoid(logits) if has_sigmoids(trained) else logits


def refiner_of(refine: Refiner | None, trained: TrainedModel) -> Refiner | None:
    """Returns `refine` as a function of the model's own logits; see `exclusive_logits`."""
    if refine is None or not has_sigmoids(trained):
        return refine
    return lambda logits, images, sizes: refine(exclusive_logits(logits, trained), images, sizes)


def predict_step(
    apply: Apply,
    variables: Any,
    images: Num[Array, "b h w c"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    preprocessing: Preprocessing,
    refine: Refiner | None = None,
) -> Int[Array, "b h w"]:
    """Returns the most probable label of every pixel, int32; pure, can be jitted. Arguments: see `predict_logits`.

    For a model of one class, 1 where its logit is positive, else 0.
    """
    logits = predict_logits(apply, variables, images, sizes, preprocessing=preprocessing, refine=refine)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
