"""A small network with a stride, and images for it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.trained import TrainedModel

FIELDS = dict(classes=("a", "b", "c"), palette=((1, 0, 0), (0, 1, 0), (0, 0, 1)), ignore=255)


class Strided:
    """Convolutions of stride 2 and back: each pixel's scores depend on 11 x 11 pixels, and on where the grid lies."""

    num_classes = 3

    def apply(self, variables, images, *, train):
        def conv(x, kernel, stride):
            dims = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=dims)

        x = jax.nn.relu(conv(images, variables["a"], 2))
        x = jax.nn.relu(conv(x, variables["b"], 1))
        x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)[:, : images.shape[1], : images.shape[2]]
        return {"logits": conv(x, variables["c"], 1)}


def model(**changes):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"a": (3, 3, 3, 8), "b": (3, 3, 8, 8), "c": (3, 3, 8, 3)}
    variables = {name: jax.random.normal(k, s) * 0.5 for k, (name, s) in zip(keys, shapes.items(), strict=True)}
    seen = Preprocessing((100.0,) * 3, (50.0,) * 3, **{"bucket": 2, **changes})
    return TrainedModel(Strided(), variables, preprocessing=seen, **FIELDS)


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
