"""Smaller weights in ONNX files: stored in 16 or 8 bits, computed with in float32.

Only the kernels of convolutions and the matrices that features are multiplied with are stored so; biases, statistics
and what enlarges features stay as they are. A runtime makes float32 of them once, when it loads the file.

Whole numbers are turned into float32 and multiplied with their scales. ONNX has DequantizeLinear for this, but
onnxruntime computes that in every call, and takes one before a MatMul as leave to round the features to 8 bits, too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int8

from jaxseg.checks import UserError, lookup

WEIGHTS: dict[str, str] = {
    "float32": "as they are",
    "float16": "half the size",
    "int8": "a quarter of the size: whole numbers from -127 to 127, times a scale of each output channel",
}
LEAST = 64  # numbers of a weight that is worth it
# Of the operators that have weights, as their second operand: the axis of the output channels.
CHANNELS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


def shrink(proto: Any, weights: str) -> tuple[Any, Any]:
    """Returns a model with its weights stored in fewer bits, and the model in float32 that computes the same.

    Args:
      proto: `onnx.ModelProto`, all weights of which are float32.
      weights: a key of `WEIGHTS`.
    """
    import onnx
    from onnx import numpy_helper

    lookup(WEIGHTS, weights, "type of weights")
    small, rounded = onnx.ModelProto(), onnx.ModelProto()
    small.CopyFrom(proto)
    rounded.CopyFrom(proto)
    axes = _axes(proto)
    nodes, arrays = [], []
    for array, there in zip(proto.graph.initializer, rounded.graph.initializer, strict=True):
        if weights == "float32" or array.name not in axes:
            arrays.append(array)
            continue
        value = numpy_helper.to_array(array)
        stored, more, kept = _store(value, array.name, axes[array.name], weights)
        arrays += [numpy_helper.from_array(one, name) for name, one in stored.items()]
        nodes += more
        there.CopyFrom(numpy_helper.from_array(kept, array.name))
    nodes += small.graph.node
    del small.graph.initializer[:], small.graph.node[:]
    small.graph.initializer.extend(arrays)
    small.graph.node.extend(nodes)
    onnx.checker.check_model(small, full_check=True)
    return small, rounded


def _axes(proto: Any) -> dict[str, int]:
    """The axis of the output channels of every weight."""
    from onnx import TensorProto, numpy_helper

    uses: dict[str, set[int | None]] = {}
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            uses.setdefault(name, set()).add(CHANNELS.get(node.op_type) if place == 1 else None)
    found = {}
    for array in proto.graph.initializer:
        axes = uses.get(array.name, set())
        large = array.data_type == TensorProto.FLOAT and np.prod(array.dims) >= LEAST
        if large and len(axes) == 1 and None not in axes and _is_learned(numpy_helper.to_array(array)):
            (found[array.name],) = axes
    return found


def _is_learned(weight: Float[np.ndarray, "..."]) -> bool:
    """Whether a weight is a kernel, or a matrix that makes no means, as those do that resize images."""
    return weight.ndim == 4 or (weight.ndim == 2 and not np.allclose(weight.sum(0), 1, atol=1e-3))


def _store(
    value: Float[np.ndarray, "..."], name: str, axis: int, weights: str
) -> tuple[Mapping[str, np.ndarray], list[Any], Float[np.ndarray, "..."]]:
    """The arrays that stand for a weight, the nodes that make the weight of them, and the weight that they make."""
    from onnx import TensorProto, helper

    if weights == "float16":
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.isfinite(half).all():
            raise UserError(f"Weights up to {np.abs(value).max():.3g} are too large for float16: use int8 or float32.")
        part = f"{name}_float16"
        return {part: half}, [helper.make_node("Cast", [part], [name], to=TensorProto.FLOAT)], half.astype(np.float32)
    whole, scale = quantize(value, axis)
    parts, made = {f"{name}_int8": whole, f"{name}_scale": scale}, f"{name}_float32"
    nodes = [
        helper.make_node("Cast", [f"{name}_int8"], [made], to=TensorProto.FLOAT),
        helper.make_node("Mul", [made, f"{name}_scale"], [name]),
    ]
    return parts, nodes, whole.astype(np.float32) * scale


def quantize(value: Float[np.ndarray, "..."], axis: int) -> tuple[Int8[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Returns whole numbers from -127 to 127, and the scales to multiply them with, of the same number of axes.

    Args:
      value: a weight.
      axis: along which each has a scale of its own, the largest of its absolute values over 127.

    >>> whole, scale = quantize(np.array([[1.0, 0.5], [0.0, 0.0]], np.float32), 0)
    >>> whole.tolist(), scale.round(4).tolist()
    ([[127, 64], [0, 0]], [[0.007899999618530273], [1.0]])
    """
    others = tuple(n for n in range(value.ndim) if n != axis)
    most = np.abs(value).max(others, keepdims=True)
    scale = np.where(most > 0, most / 127, 1).astype(np.float32)
    return np.clip(np.round(value / scale), -127, 127).astype(np.int8), scale
