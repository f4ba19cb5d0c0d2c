"""Normalization of images by the mean and standard deviation of each channel."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

REC601 = (0.299, 0.587, 0.114)  # luma weights of R, G and B, as in JPEG


def normalize(
    image: Num[ArrayLike, "*b h w c"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Float[Array, "*b h w c"]:
    """Returns (image - mean) / std in float32, all in 0..255.

    >>> normalize(jnp.full((1, 1, 3), 255, jnp.uint8), (127.0,) * 3, (128.0,) * 3).tolist()
    [[[1.0, 1.0, 1.0]]]
    """
    mean, std = (jnp.broadcast_to(jnp.array(values, jnp.float32), image.shape) for values in (mean, std))
    return (image.astype(jnp.float32) - mean) / std
