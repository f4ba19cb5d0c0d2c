"""Each operation in ONNX computes what JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import lax

from jaxseg.export.operations import to_onnx
from jaxseg.export.program import flatten

X = np.random.default_rng(0).normal(size=(2, 6, 8, 4)).astype(np.float32)
CASES = {
    "unary": lambda x: (
        jnp.exp(x) + jnp.tanh(x) + jnp.abs(x) + jnp.sign(x) + jnp.sin(x) + lax.erfc(x) + lax.rsqrt(x * x + 1)
    ),
    "powers": lambda x: x**3 + (x + 9) ** -2 + jnp.square(x) + lax.integer_pow(x, 1),
    "rounding": lambda x: jnp.round(4 * x) + jnp.floor(x) + jnp.ceil(x) + lax.rem(x, 0.7 * jnp.ones_like(x)),
    "comparisons": lambda x: jnp.where((x > 0) & ~(x >= 1) | (x != x[:1]), x, 2).astype(jnp.float32),
    "bounds": lambda x: jnp.clip(x, -0.5, 0.5) + jnp.maximum(x, 0) + jnp.minimum(x, 1),
    "sums": lambda x: x.sum((1, 2)) + x.max((1, 2)) + x.min((1, 2)) + x.mean((1, 2)) + jnp.cumsum(x, 1)[:, 3, 3],
    "any and all": lambda x: (x > 2).any((1, 2)).astype(jnp.int32) + (x > -2).all((1, 2)),
    "arguments": lambda x: x.argmax(-1) + x.argmin(-1),
    "softmax": jax.nn.softmax,
    "strides": lambda x: x[:, 1::2, 2::3],
    "parts": lambda x: jnp.concatenate(jnp.split(x, 2, axis=2)[::-1], axis=2)[:, ::-1],
    "places": lambda x: jnp.take(x, jnp.array([3, 0, 3]), axis=2),
    "places of each": lambda x: jnp.take_along_axis(x, jnp.array([[3, 0, 3], [1, 2, 5]])[:, None, :, None], axis=2),
    "places of each row": lambda x: jnp.take_along_axis(x, (x[:, :, :1, :1] > 0).astype(jnp.int32), axis=1),
    "beside": lambda x: jnp.stack([x, 2 * x], axis=2) + jnp.stack([x[..., 0], x[..., 1]])[0][:, :, None, :, None],
    "a moving part": lambda x: lax.dynamic_slice(x, (0, x[0, 0, 0, 0].astype(jnp.int32) + 3, 0, 0), (2, 4, 8, 4)),
    "padding": lambda x: lax.pad(x, -1.0, ((0, 0, 0), (2, -1, 2), (-3, 1, 0), (0, 0, 1))),
    "products": lambda x: (
        jnp.einsum("bhwc,bhvc->bhwv", x, x) + jnp.einsum("bhwc,cd->bhwd", x, np.ones((4, 8), np.float32))
    ),
    "one for all": lambda x: jnp.matmul(
        jnp.broadcast_to(np.arange(18, dtype=np.float32).reshape(3, 6), (2, 8, 3, 6)), x.transpose(0, 2, 1, 3)
    ),
    "broadcasts": lambda x: x * x.mean((1, 2), keepdims=True) + jnp.arange(4.0),
    "types": lambda x: (40 * jnp.abs(x)).astype(jnp.uint8).astype(jnp.uint16).astype(jnp.int32) // 3,
    "bytes": lambda x: jnp.where(x > 0, (9 * jnp.abs(x)).astype(jnp.uint16), jnp.uint16(7)),
    "convolution": lambda x: lax.conv_general_dilated(
        jnp.maximum(x, 0),
        np.ones((3, 3, 2, 6), np.float32),
        (2, 1),
        ((1, 0), (2, 2)),
        rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
    ),
    "transposed convolution": lambda x: lax.conv_general_dilated(
        x,
        np.arange(96, dtype=np.float32).reshape(2, 4, 3, 4),
        (1, 1),
        ((0, 1), (3, 3)),
        lhs_dilation=(2, 3),
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
    ),
    "between convolutions": lambda x: CASES["convolution"](
        jnp.concatenate([CASES["same"](x), 1 + CASES["same"](x) * x.mean((1, 2), keepdims=True)], -1)[..., 2:6]
    ),
    "same": lambda x: lax.conv_general_dilated(
        x,
        np.eye(4, dtype=np.float32)[None, None] * 2,
        (1, 1),
        ((0, 0), (0, 0)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_in_onnx_is_that_of_jax(name):
    program = flatten(CASES[name], X)
    session = onnxruntime.InferenceSession(to_onnx(program, "x", "y").SerializeToString())
    (got,) = session.run(None, {"x": X})
    wanted = np.asarray(CASES[name](jnp.asarray(X)))
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_nothing_is_transposed_between_two_convolutions():
    def function(x):
        for _ in range(3):
            x = jnp.maximum(CASES["same"](x) * np.arange(4, dtype=np.float32) + 1, 0)
        return x

    nodes = [node.op_type for node in to_onnx(flatten(function, X), "x", "y").graph.node]
    assert nodes == ["Transpose", *["Conv", "Mul", "Add", "Relu"] * 3, "Transpose", "Identity"]
