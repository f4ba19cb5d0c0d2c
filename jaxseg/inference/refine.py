"""Refinement of a network's scores using the image, by a CRF or a guided filter; see docs/refinement.md."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxseg.checks import UserError, check_options, lookup
from jaxseg.config import default_config, with_current_names
from jaxseg.files import Fields, is_finite, is_whole, read_json, short
from jaxseg.ops.guided_filter import guided_filter
from jaxseg.ops.meanfield import dense_crf
from jaxseg.trained import TrainedModel

FILE = "crf.json"
Refiner = Callable[
    [Float[Array, "b h w c"], UInt8[Array, "b h w 3"], Int[Array, "b 2"]], Float[Array, "b h w c"]
]  # (logits, images padded at the right and bottom, their own heights and widths) -> logits


def guided(
    logits: Float[Array, "b h w c"],
    images: UInt8[Array, "b h w 3"],
    *,
    where: Bool[Array, "b h w"] | None = None,
    radius: int = 8,
    eps: float = 1e-3,
) -> Float[Array, "b h w c"]:
    """Filters the probabilities, guided by the image; returns the logarithms of the result, clipped at 1e-6.

    Args:
      logits: the network's scores.
      images: the images, 0 to 255.
      where: valid pixels (None means all).
      radius: of the guided filter's windows, in pixels.
      eps: its smoothness, in units of the image from 0 to 1, squared.

    >>> print(jax.jit(guided)(jnp.zeros((1, 1, 2, 2)), jnp.zeros((1, 1, 2, 3), jnp.uint8)).ravel())
    [-0.693... -0.693... -0.693... -0.693...]
    """
    where = jnp.ones(logits.shape[:3], bool) if where is None else where

    def one(
        sample: tuple[Float[Array, "h w c"], UInt8[Array, "h w 3"], Bool[Array, "h w"]],
    ) -> Float[Array, "h w c"]:
        scores, image, there = (x[None] for x in sample)
        p = guided_filter(image / 255, jax.nn.softmax(scores), radius=radius, eps=eps, where=there)
        return jnp.log(jnp.maximum(p, 1e-6))[0]

    return lax.map(one, (logits.astype(jnp.float32), images, where))


REFINERS: dict[str, Callable] = {"crf": dense_crf, "guided": guided}


def create_refiner(name: str, options: Mapping[str, Any]) -> Refiner:
    """Returns the function that refines the scores of padded images.

    Args:
      name: a key of `REFINERS`.
      options: its keywords, as config.eval.crf or config.eval.guided hold them.
    """
    function = lookup(REFINERS, name, "refinement")
    check_options(function, options, f"refinement '{name}'")
    for option, value in options.items():
        positive = option == "eps" or option.endswith("sigma")
        least = 1 if option == "radius" else 0
        if value < least or (positive and value == 0):
            bound = "positive" if positive else f"at least {least}"
            raise UserError(f"config.eval.{name}.{option} must be {bound}, got {value}.")
        if option in ("iterations", "radius") and not is_whole(least, 1000)(value):
            raise UserError(
                f"config.eval.{name}.{option} must be a whole number from {least} to 1000, got {value}. Set it anew, or"
                f" remove {FILE}."
            )
    refine = partial(function, **options)

    return lambda logits, images, sizes: refine(logits, images, where=image_mask(sizes, logits.shape))


def image_mask(sizes: Int[Array, "b 2"], shape: Sequence[int]) -> Bool[Array, "b h w"]:
    """Returns the mask of image pixels in arrays padded at the bottom and right to `shape`, (b, h, w, …).

    >>> image_mask(jnp.array([[1, 2]]), (1, 2, 3)).astype(int).tolist()
    [[[1, 1, 0], [0, 0, 0]]]
    """
    rows, columns = jnp.arange(shape[1])[None, :, None], jnp.arange(shape[2])[None, None]
    return (rows < sizes[:, 0, None, None]) & (columns < sizes[:, 1, None, None])


def find_refiner(name: str, trained: TrainedModel) -> Refiner:
    """Returns a refiner with a trained model's settings: what tune-crf found, then the run's config, then the defaults.

    Args:
      name: a key of `REFINERS`.
      trained: whose `workdir` may hold crf.json, and whose `config` is that of its run.
    """
    lookup(REFINERS, name, "refinement")
    options = dict((trained.config or default_config()).eval[name])
    path = trained.workdir / FILE if trained.workdir else None
    if name == "crf" and path and path.exists():
        remedy = "Run tune-crf again, or remove the file."
        found = Fields(with_current_names(read_json(path, remedy)), path, remedy).group("parameters")
        known = [key for key in found.values if key in options]
        if set(found.values) - set(known):
            raise UserError(f"{path} is not what tune-crf writes: it has {short(list(found.values))}. {remedy}")
        options |= {key: found.take(key, is_finite, "a finite number") for key in known}
    return create_refiner(name, options)
