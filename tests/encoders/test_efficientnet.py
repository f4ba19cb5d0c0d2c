"""What is particular to EfficientNet-Lite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.encoders import create_encoder
from jaxseg.encoders.inverted_residual import tensorflow_padding


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel_size, stride, rate", [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 4)])
def test_the_padding_is_tensorflows(size, kernel_size, stride, rate):
    expected = jax.lax.padtype_to_pads((size,), ((kernel_size - 1) * rate + 1,), (stride,), "SAME")[0]
    assert tensorflow_padding((size, size), kernel_size, stride, rate) == (expected, expected)


def test_a_new_encoder_keeps_the_scale_of_its_features():
    """Each convolution starts so that what it is given comes out about as large."""
    encoder = create_encoder("efficientnet_lite0", depth=3)
    variables = jax.jit(lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))()
    for name, block in variables["params"].items():
        if name != "stem":
            kernel = block["depthwise"]["conv"]["kernel"]
            np.testing.assert_allclose(kernel.std(), np.sqrt(2 / kernel[..., 0, 0].size), rtol=0.15)
