"""LiteRT files (.tflite, once TensorFlow Lite): the predictor for phones and small boards.

Google's converter takes the flat program that the ONNX file is made of, too, as StableHLO; neither TensorFlow nor
PyTorch is needed. Behind the model the file has a zip archive, as LiteRT's own metadata are kept: description.json and
golden.json, which any program that opens archives finds.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Num

from jaxseg.checks import UserError
from jaxseg.export.check import Agreement, compare
from jaxseg.export.function import Form
from jaxseg.export.golden import describe_golden, golden_images
from jaxseg.export.meaning import INPUT, LARGEST, describe, read_description
from jaxseg.export.onnx_file import flat_program, in_float32, need
from jaxseg.export.stablehlo import AGAIN, DESCRIPTION, GOLDEN, image_spec, read_entry, read_golden
from jaxseg.files import atomic_path, short
from jaxseg.inference.calibration import Calibration
from jaxseg.trained import TrainedModel

SIGNATURE = "serving_default"  # the name that callers look for
MAGIC = b"TFL3"  # bytes 4 to 8 of every such file
# What the converter says of an operation that LiteRT does not have of these types: its name, and that of the types.
ILLEGAL = re.compile(r"failed to legalize operation '([\w.]+)'[^\n]*: \(([^)]*)\)")
CONVERTER, RUNTIME = "litert_converter", "ai_edge_litert"


def export_litert(
    trained: TrainedModel, path: str | Path, form: Form, *, calibration: Calibration | None = None
) -> Agreement:
    """Writes the predictor of a trained model for LiteRT, if LiteRT says what the model says.

    Args:
      trained: the model.
      path: of the file to write.
      form: of the function; nothing is dynamic.
      calibration: of the probabilities.

    Returns:
      How far LiteRT's results are from the model's.
    """
    need(CONVERTER, RUNTIME, extra="litert")
    if form.dynamic:
        raise UserError("A LiteRT file takes images of one number and size: leave out --dynamic.")
    trained = in_float32(trained)
    content = convert(trained, form, calibration)
    description = describe(trained, form, calibration, "litert")
    with atomic_path(path) as part:
        _write(part, content, {DESCRIPTION: description})
        said, run = read_litert(part)
        agreement = compare(run, trained, form, calibration)
        images = golden_images(trained.bands, form)
        golden = describe_golden(run(images), images, said, digest_litert(part), f"LiteRT {_version()}")
        _write(part, content, {DESCRIPTION: description, GOLDEN: golden})
        return agreement


def _write(path: Path, content: bytes, entries: dict[str, Any]) -> None:
    """The model, and an archive behind it."""
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for name, values in entries.items():
            archive.writestr(zipfile.ZipInfo(name), json.dumps(values, indent=1, allow_nan=False))


def convert(trained: TrainedModel, form: Form, calibration: Calibration | None = None) -> bytes:
    """Returns the predictor as LiteRT's flat buffer, without a description.

    Args:
      trained: the model.
      form: of the function.
      calibration: of the probabilities.
    """
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as api

    program = flat_program(trained, form, calibration, as_floats=True)  # LiteRT picks and pads few other types
    traced = jax.jit(lambda image: _run(program, image)).trace(image_spec(trained, form))
    text = traced.lower(lowering_platforms=("cpu",)).as_text()
    context = ir.Context()
    api.prepare_mlir_context(context)
    try:
        with context, ir.Location.unknown():
            module = ir.Module.parse(text)
            api.set_signature(
                module.operation, signature_name=SIGNATURE, input_names=[INPUT], output_names=[form.output]
            )
            module = api.merge_modules([module])
            api.run_convert_to_tfl_passes(module, passmanager.PassManager(), api.ConvertToTFLConfig())
            return api.export_flatbuffer_to_bytes(getattr(module, "operation", module))
    except Exception as error:  # MLIRError, RuntimeError and what else the converter raises
        found = ILLEGAL.search(str(error))
        told = f"it has no {found[1]} of {short(found[2])}" if found else short(str(error))
        raise UserError(f"This model cannot be written for LiteRT: {told}. Export it as ONNX: --format onnx.") from None


def _run(program: ClosedJaxpr, image: Num[Array, "b h w c"]) -> Array:
    """The result of a flat program.

    litert-converter 0.5.0 makes something else of transposed convolutions whose padding is not the same on both sides:
    they become convolutions of images with zeros between their pixels.
    """
    jaxpr = program.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, image), strict=True))
    for equation in jaxpr.eqns:
        operands = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        params = dict(equation.params)
        if equation.primitive.name == "conv_general_dilated" and any(low != high for low, high in params["padding"]):
            between = [0] * operands[0].ndim
            for axis, step in zip(params["dimension_numbers"].lhs_spec[2:], params["lhs_dilation"], strict=True):
                between[axis] = step - 1
            operands[0] = lax.pad(operands[0], jnp.zeros((), operands[0].dtype), [(0, 0, n) for n in between])
            params["lhs_dilation"] = (1,) * len(params["lhs_dilation"])
        results = equation.primitive.bind(*operands, **params)
        values |= zip(equation.outvars, results if equation.primitive.multiple_results else [results], strict=True)
    (result,) = jaxpr.outvars
    return values[result]


def read_litert(
    path: str | Path,
) -> tuple[dict[str, Any], Callable[[Num[np.ndarray, "b h w c"]], Num[np.ndarray, "..."]]]:
    """Returns the description of a file of `export_litert`, and its function in LiteRT, whoever wrote the file.

    Raises:
      UserError: it is damaged, or LiteRT is not installed.
    """
    need(RUNTIME, extra="litert")
    from ai_edge_litert.interpreter import Interpreter

    description = read_description(read_entry(path, DESCRIPTION, LARGEST), path) | read_golden(path)
    try:
        runner = Interpreter(model_content=_model(path)).get_signature_runner(SIGNATURE)
    except Exception as error:
        raise UserError(f"{path} cannot be run by LiteRT: {short(str(error))}. {AGAIN}") from None

    def run(images: Num[np.ndarray, "b h w c"]) -> Num[np.ndarray, "..."]:
        try:
            return runner(**{INPUT: images})[description["output"]["name"]]
        except Exception as error:
            raise UserError(f"{path} cannot be run by LiteRT: {short(str(error))}. {AGAIN}") from None

    return description, run


def is_litert(path: str | Path) -> bool:
    """Says whether a file begins as LiteRT's do."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] == MAGIC


def digest_litert(path: str | Path) -> str:
    """Returns the SHA-256 of the model, weights and operations, in a file that `read_litert` has read."""
    return hashlib.sha256(_model(path)).hexdigest()


def _model(path: str | Path) -> bytes:
    """The bytes before the archive."""
    with zipfile.ZipFile(path) as archive:
        end = min(entry.header_offset for entry in archive.infolist())
    with Path(path).open("rb") as file:
        return file.read(end)


def _version() -> str:
    import ai_edge_litert

    return str(getattr(ai_edge_litert, "__version__", "of an unknown version"))
