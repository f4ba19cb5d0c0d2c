"""ONNX files: the predictor for onnxruntime and whatever else reads ONNX.

`jaxseg.export.operations` converts the program that `jaxseg.export.program` makes flat. The description is in the
file's metadata, each of its entries as JSON under a key of its own, so that onnxruntime shows them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import Num

from jaxseg.checks import UserError
from jaxseg.export.check import Agreement, Run, compare, compare_rounded
from jaxseg.export.function import Form, create_function, find_tiling
from jaxseg.export.golden import describe_golden, golden_images
from jaxseg.export.meaning import INPUT, describe, read_description
from jaxseg.export.onnx_weights import shrink
from jaxseg.export.operations import to_onnx
from jaxseg.export.program import UNROLLED, flatten
from jaxseg.export.stablehlo import image_spec
from jaxseg.export.tiles import tile_count
from jaxseg.files import atomic_path, short
from jaxseg.inference.calibration import Calibration
from jaxseg.models import create_model
from jaxseg.models.describe import describe as describe_model
from jaxseg.trained import TrainedModel

Scoring = Callable[[Mapping[str, Run], Mapping[str, Any]], dict[str, Any]]
KEY = "jaxseg."  # before the names of the description's entries
LARGEST = 2**31  # bytes of a file: what protobuf allows
AGAIN = "Copy the file again, or export the model again."


def export_onnx(
    trained: TrainedModel,
    path: str | Path,
    form: Form,
    *,
    calibration: Calibration | None = None,
    weights: str = "float32",
    scoring: Scoring | None = None,
) -> Agreement:
    """Writes the predictor of a trained model as ONNX, if onnxruntime says what the model says.

    Args:
      trained: the model.
      path: of the file to write.
      form: of the function.
      calibration: of the probabilities.
      weights: how they are stored, a key of `jaxseg.export.onnx_weights.WEIGHTS`.
      scoring: ({"float32": function, `weights`: function of the file}, description) -> scores of both on labeled
        images, which are written into the file; of `functools.partial(jaxseg.export.score.score, …)`.

    Returns:
      How far onnxruntime's results are from the model's, or, where `weights` are smaller, from those of the model's
      own weights; and the scores.
    """
    need("onnx", "onnxruntime")
    import onnxruntime

    trained = in_float32(trained)
    exact = convert(trained, form, calibration)
    small, rounded = shrink(exact, weights)
    _add(small, describe(trained, form, calibration, "onnx") | {"weights": weights})
    with atomic_path(path) as part:
        part.write_bytes(small.SerializeToString())
        description, run = read_onnx(part)
        images, runs = golden_images(trained.bands, form), {weights: run}
        if weights != "float32":
            runs = {"float32": session_of(exact, path), weights: run}
        agreement = compare(runs["float32"], trained, form, calibration)
        if weights != "float32":
            agreement = compare_rounded(images, run, session_of(rounded, path), runs["float32"], description)
            _add(small, {"agreement": {"labels": agreement.labels}})
        if scoring:
            agreement = agreement._replace(scores=scoring(runs, description))
            _add(small, {"scores": agreement.scores})
        runtime = f"onnxruntime {onnxruntime.__version__}"
        part.write_bytes(small.SerializeToString())
        _add(small, {"golden": describe_golden(run(images), images, description, digest_onnx(part), runtime)})
        part.write_bytes(small.SerializeToString())
        return agreement


def _add(proto: Any, entries: Mapping[str, Any]) -> None:
    """Adds to what a file says of itself."""
    for name, value in entries.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = KEY + name, json.dumps(value, allow_nan=False)


def digest_onnx(path: str | Path) -> str:
    """Returns the SHA-256 of an ONNX file that `read_onnx` has read, but for what it says of golden images."""
    import onnx

    proto = onnx.load(path, load_external_data=False)
    kept = [entry for entry in proto.metadata_props if entry.key != KEY + "golden"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def in_float32(trained: TrainedModel) -> TrainedModel:
    """Returns the trained model, computed in float32: few runtimes have bfloat16's convolutions."""
    if getattr(trained.model, "dtype", jnp.float32) == jnp.float32 or not hasattr(trained.model, "num_classes"):
        return trained
    described = dict(describe_model(trained.model))
    model = create_model(**described.pop("options"), **described, dtype=jnp.float32)
    return dataclasses.replace(trained, model=model)


def convert(trained: TrainedModel, form: Form, calibration: Calibration | None = None) -> Any:
    """Returns the predictor as an `onnx.ModelProto`, without a description.

    Args:
      trained: the model.
      form: of the function.
      calibration: of the probabilities.
    """
    import onnx

    program = flat_program(trained, form, calibration)
    try:
        proto = to_onnx(program, INPUT, form.output)
    except NotImplementedError as error:
        raise UserError(
            f"This model cannot be written as ONNX: {error}. Export it as StableHLO: --format stablehlo."
        ) from None
    if proto.ByteSize() >= LARGEST:
        raise UserError(f"The model has more than {LARGEST // 2**30} GiB, which no ONNX file holds. Use StableHLO.")
    onnx.checker.check_model(proto, full_check=True)
    return proto


def flat_program(
    trained: TrainedModel, form: Form, calibration: Calibration | None = None, *, as_floats: bool = False
) -> ClosedJaxpr:
    """Returns the predictor as a program in which all loops are written out, its weights constants; see `flatten`.

    Args:
      trained: the model.
      form: of the function.
      calibration: of the probabilities.
      as_floats: whether stored images become float32 before anything else; the numbers are the same.
    """
    function, spec = create_function(trained, form, calibration), image_spec(trained, form)
    tiling = find_tiling(trained, form)
    count = tile_count(trained.preprocessing.resize(*form.size), tiling, trained.preprocessing) if tiling else 1
    if count > UNROLLED:
        raise UserError(
            f"An image of this size has {count} tiles, each of which the file writes out: at most {UNROLLED}. Take"
            " larger tiles, or export as StableHLO: --format stablehlo."
        )
    variables = jax.tree.map(jnp.asarray, trained.variables)
    return flatten(lambda image: function(variables, image.astype(jnp.float32) if as_floats else image), spec)


def read_onnx(
    path: str | Path,
) -> tuple[dict[str, Any], Callable[[Num[np.ndarray, "b h w c"]], Num[np.ndarray, "..."]]]:
    """Returns the description of a file of `export_onnx`, and its function in onnxruntime, whoever wrote the file.

    Raises:
      UserError: it is damaged, is no ONNX, or needs other files.
    """
    need("onnx", "onnxruntime")
    import onnx

    if Path(path).stat().st_size >= LARGEST:
        raise UserError(f"{path} has more than {LARGEST // 2**30} GiB, which no file of `jaxseg export` has. {AGAIN}")
    try:
        proto = onnx.load(path, load_external_data=False)
        outside = any(array.external_data for array in proto.graph.initializer)
        entries = {p.key.removeprefix(KEY): p.value for p in proto.metadata_props if p.key.startswith(KEY)}
        told = "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in entries.items()) + "}"
    except Exception as error:  # protobuf's DecodeError, and what comes of a damaged field
        raise UserError(f"{path} is damaged, or no file of `jaxseg export`: {short(str(error))}. {AGAIN}") from None
    if outside:
        raise UserError(f"{path} has its weights in other files, which are not opened. {AGAIN}")
    if not entries:
        raise UserError(f"{path} is no file of `jaxseg export`: it does not say what its classes are. {AGAIN}")
    return read_description(told, path), session_of(proto, path)


def session_of(proto: Any, path: str | Path) -> Run:
    """Returns the function of a model in onnxruntime.

    Args:
      proto: `onnx.ModelProto`, whoever made it.
      path: of its file, for messages.
    """
    import onnxruntime

    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters is raised
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"], disable_fallback=True
        )
        (given,), (returned,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # onnxruntime has a dozen, of no common kind
        raise UserError(f"{path} cannot be run by onnxruntime: {short(str(error))}. {AGAIN}") from None

    def run(images: Num[np.ndarray, "b h w c"]) -> Num[np.ndarray, "..."]:
        try:
            return session.run([returned.name], {given.name: images})[0]
        except Exception as error:
            raise UserError(f"{path} cannot be run by onnxruntime: {short(str(error))}. {AGAIN}") from None

    return run


def need(*packages: str, extra: str = "export") -> None:
    """Raises a `UserError` where one of the packages of an extra of jaxseg's is missing."""
    import importlib.util

    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        told = ", ".join(name.replace("_", "-") for name in missing)
        raise UserError(f"Such files need {told}, which is not installed: pip install 'jaxseg[{extra}]'")
