"""Weights of ONNX files: the initializers that have the names of a state dict. The graph is not run, nor looked at."""

import math
import re
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.files import short
from jaxseg.pretrained.wrapping import Entries

LARGEST = 2**31  # bytes; no ONNX file is larger
CONSTANT = 64  # elements that a constant of the graph without a name of a parameter has at most
# What PyTorch's exporters call a parameter: encoder.layer1.0.bn1.weight.
_PARAMETER = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


def read_onnx(path: str | Path) -> Entries:
    """Returns the arrays of an ONNX file that have the names of a state dict, of the type that they are stored as.

    Small constants of the graph, such as the scales of an enlargement, are left out and told in a note. Large ones
    without such a name are what an exporter made of weights, as when it joins a batch normalization with the
    convolution before it; what they were cannot be told from them, and they are an error.

    Args:
      path: of a file whose weights are inside it.

    Raises:
      UserError: the file is damaged, has its weights elsewhere or under other names; or the package `onnx` is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise UserError(
            f"{path} is read by the package onnx, which is not installed. Install it with `pip install 'jaxseg[onnx]'`."
        ) from None
    path = Path(path).expanduser()
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise UserError(f"{path} is no file, or of more than {LARGEST // 2**30} GiB, which no ONNX file has.")
    try:
        # Named external files are not opened: they may be anyone's, anywhere.
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's DecodeError and what else a damaged file raises
        raise _damaged(path, error) from error
    kinds = {number: kind for kind, number in onnx.TensorProto.DataType.items()}
    arrays, constants = {}, {}
    for tensor in graph.initializer:
        kind = kinds.get(tensor.data_type, "unknown")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise UserError(
                f"{path} has its weights in another file, which is not opened. Save it in one:"
                " onnx.save(onnx.load(PATH), NEW)."
            )
        if kind not in _FLOATS:
            constants[tensor.name] = 0 if kind.startswith(("INT", "UINT", "BOOL")) else math.prod(tensor.dims)
            continue
        try:
            if min(tensor.dims, default=0) < 0:
                raise ValueError(f"the shape {short(list(tensor.dims))}")
            array = np.asarray(numpy_helper.to_array(tensor))
        except Exception as error:  # fewer numbers than the shape says, ...
            raise _damaged(path, error, tensor.name) from error
        if not _PARAMETER.fullmatch(tensor.name):
            constants[tensor.name] = array.size
        elif tensor.name in arrays:
            raise UserError(f"{path} has two arrays named {short(tensor.name)}. Export it again.")
        else:
            arrays[tensor.name] = array
    if not arrays and not constants:
        raise UserError(f"{path} holds no initializers, so no weights. Expected a model that PyTorch exported to ONNX.")
    return Entries(arrays, _notes(path, constants))


def _notes(path: Path, constants: dict[str, int]) -> tuple[str, ...]:
    """What is said of the constants; raises where one is too large to be none of the weights."""
    large = [name for name, size in constants.items() if size > CONSTANT]
    if large:
        raise UserError(
            f"{path} has {len(large)} large arrays without names of parameters: {listing([short(n) for n in large])}."
            " The exporter has joined batch normalizations with convolutions, or transposed weights. Export it again"
            " with torch.onnx.export(..., do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE), or"
            " convert the state dict itself."
        )
    if not constants:
        return ()
    return (f"{len(constants)} constants of the graph are no weights and are left out: {listing(list(constants), 3)}.",)


def _damaged(path: Path, error: Exception, name: str = "") -> UserError:
    text = (str(error).strip().splitlines() or ["no message"])[0][:200]
    where = f", array {short(name)}" if name else ""
    return UserError(
        f"{path} is no ONNX file that can be read{where}: {type(error).__name__}: {text}. Copy it again, or export it"
        " again."
    )
