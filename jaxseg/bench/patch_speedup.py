"""Speedup of labeling all pixels at once over classifying a patch around each of them."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxseg.bench.timing import alternate
from jaxseg.models.patch_cnn import PatchCNN, slide


def patch_speedup(
    model: PatchCNN, variables: Mapping[str, Any], image: Float[Array, "b h w c"], *, repeats: int = 3
) -> dict[str, float]:
    """Times the sliding window against its dense twin, in turns, both compiled.

    Args:
      model: the network.
      variables: its variables.
      image: images, normalized.
      repeats: how often each is timed; the median counts.

    Returns:
      "sliding_s" and "dense_s" in seconds, "speedup", their ratio, and "difference", the largest between the logits.
    """
    sliding = jax.jit(lambda variables, image: slide(model, variables, image))
    dense = jax.jit(lambda variables, image: model.apply(variables, image, train=False)["logits"])
    difference = float(abs(sliding(variables, image) - dense(variables, image)).max())
    functions = [lambda f=f: f(variables, image).block_until_ready() for f in (sliding, dense)]
    slow, fast = (float(np.median(times)) for times in alternate(functions, repeats))
    return {"sliding_s": slow, "dense_s": fast, "speedup": slow / fast, "difference": difference}


def shared_work(model: PatchCNN, size: tuple[int, int]) -> float:
    """Returns how many times fewer multiplications the model needs than `slide` for an image of `size` pixels.

    >>> round(shared_work(PatchCNN(num_classes=2), (512, 512)))
    522
    """
    channels, rate, side = 3, 1, model.patch
    extents = [n + model.patch - 1 for n in size]
    sliding, dense = 0, 0
    layers = [
        *zip(model.widths, model.kernel_sizes, strict=True),
        (model.hidden, model.positions),
        (model.num_classes, 1),
    ]
    for number, (width, kernel) in enumerate(layers, start=1):
        cost = kernel * kernel * channels * width
        side -= kernel - 1
        extents = [n - rate * (kernel - 1) for n in extents]
        sliding += cost * side * side * math.prod(size)
        dense += cost * math.prod(extents)
        channels = width
        if number <= len(model.widths):  # a pooling follows
            side, extents, rate = side // 2, [n - rate for n in extents], 2 * rate
    return sliding / dense
