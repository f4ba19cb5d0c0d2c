"""Attention maps: what a model's attention blocks sow as the intermediate "attention", drawn over an image."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.checks import UserError


class Attention(NamedTuple):
    """The attention of one block on one image; one of the two fields is None."""

    maps: dict[str, Float[np.ndarray, "h w"]] | None  # title -> weight of every position
    channels: Float[np.ndarray, " c"] | None  # weight of every channel, the same at all positions


def attention(model: nn.Module, variables: Mapping[str, Any], image: Float[Array, "h w c"]) -> dict[str, Attention]:
    """Returns the attention of every block of a model that has some, by the block's path.

    The blocks are those of `jaxseg.blocks` that sow an intermediate "attention": scSE and squeeze-and-excitation,
    attention gates, FPA, GAU, MA-Net's two and attention to scale. The model runs in evaluation mode.

    Args:
      model: of `jaxseg.create_model`.
      variables: trained ones.
      image: normalized.
    """

    @jax.jit
    def run(variables: Mapping[str, Any], image: Float[Array, "h w c"]) -> Mapping[str, Any]:
        _, state = model.apply(variables, image[None], train=False, mutable=["intermediates"])
        return state.get("intermediates", {})

    found = {}
    for path, weights in jax.tree.leaves_with_path(run(variables, image)):
        *block, name, call = [str(getattr(key, "key", getattr(key, "idx", key))) for key in path]
        if name == "attention":
            block = "/".join(block) or "model"
            found[block if call == "0" else f"{block} {int(call) + 1}"] = describe(np.asarray(weights[0]), image.shape)
    return found


def describe(weights: Float[np.ndarray, "..."], image_shape: tuple[int, int, int]) -> Attention:
    """Returns the attention in the weights of one block.

    Args:
      weights: [1, 1, c] of channels, [h, w, s] of positions, or [n, n] between the positions of a map, row by row.
      image_shape: (height, width, channels) of the image.

    >>> describe(np.full((4, 4), 0.25), (16, 16, 3)).maps["seen from the middle"].tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    weights = weights.astype(np.float64)
    if weights.ndim == 2:
        height, width = _map_size(len(weights), image_shape)
        middle = height // 2 * width + width // 2
        rows = weights / np.maximum(weights.sum(1, keepdims=True), np.finfo(float).tiny) * len(weights)
        maps = {"seen from the middle": rows[middle], "seen from everywhere": rows.mean(0)}
        return Attention({title: x.reshape(height, width) for title, x in maps.items()}, None)
    if weights.shape[:2] == (1, 1) and weights.shape[2] > 1:
        return Attention(None, weights[0, 0])
    if weights.shape[2] == 1:
        return Attention({"weight of positions": weights[..., 0]}, None)
    return Attention({f"weight of scale {i + 1}": weights[..., i] for i in range(weights.shape[2])}, None)


def _map_size(count: int, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """(height, width) of a map of `count` positions of an image."""
    height, width, _ = image_shape
    for stride in (2**i for i in range(12)):
        size = -(-height // stride), -(-width // stride)
        if size[0] * size[1] == count:
            return size
    raise UserError(f"No map of an image of {height} x {width} pixels has {count} positions. Give another size.")
