"""VGG's fully connected layers as convolutions, as FCN and DeepLab have them."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Conv
from jaxseg.blocks.initializers import he_normal
from jaxseg.blocks.types import Function


def fully_connected(
    features: int,
    kernel_size: int,
    dropout: float,
    *,
    train: bool,
    dilation: int = 1,
    dtype: Any = jnp.float32,
    kernel_init: Any = he_normal,
) -> list[Function]:
    """Creates, inside a module, fc6 and fc7: a convolution and a 1x1 convolution, with ReLU and dropout after each.

    Args:
      features: channels of both.
      kernel_size: of fc6.
      dropout: probability of dropping a value in training.
      train: as in a call of the module.
      dilation: of fc6.
      dtype: of the computation.
      kernel_init: of both kernels.
    """
    conv = lambda *size, **options: Conv(  # noqa: E731
        features, *size, use_bias=True, dtype=dtype, kernel_init=kernel_init, **options
    )
    layers = conv(kernel_size, dilation=dilation, name="fc6"), conv(1, name="fc7")

    def layer(conv: nn.Module) -> Function:
        return lambda x: nn.Dropout(dropout)(nn.relu(conv(x)), deterministic=not train)

    return [layer(conv) for conv in layers]
