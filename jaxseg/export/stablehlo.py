"""Files of `jax.export`: the predictor as StableHLO for CPUs, NVIDIA GPUs and TPUs, in one file.

The file is a zip archive, of entries that are not compressed, which any program can open:

    description.json        what `jaxseg.export.meaning.describe` returns
    model.safetensors       the variables by their path: "params/head/conv/kernel"
    program.cpu.bin         `jax.export.Exported.serialize` of the function (variables by path, images) for CPUs
    program.cuda.bin        the same for NVIDIA GPUs, with the ways that are fast there
    program.tpu.bin         the same for TPUs
    golden.json             what the file said of its golden images, see `jaxseg.export.golden`

JAX reads such programs for half a year at least, and then refuses them: the archive of a model is its bundle.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Num

from jaxseg.checks import UserError
from jaxseg.export.check import Agreement, compare
from jaxseg.export.function import Form, create_function
from jaxseg.export.golden import describe_golden, golden_images
from jaxseg.export.meaning import LARGEST, describe, read_description
from jaxseg.files import atomic_path, short
from jaxseg.inference.calibration import Calibration
from jaxseg.trained import TrainedModel

PLATFORMS = ("cpu", "cuda", "tpu")
DESCRIPTION, WEIGHTS, PROGRAM, GOLDEN = "description.json", "model.safetensors", "program.{}.bin", "golden.json"
LARGEST_PROGRAM = 2**28  # bytes; it holds no weights
# Custom calls that such a program may hold; others could name any function of the process that loads it.
CUSTOM_CALL = re.compile(r'custom_call(?: @"?([\w.$-]+)"?\()?')  # without a name, it is none of the harmless ones
HARMLESS = {"shape_assertion", "Sharding", "annotate_device_placement"}


def export_stablehlo(
    trained: TrainedModel, path: str | Path, form: Form, *, calibration: Calibration | None = None
) -> Agreement:
    """Writes the predictor of a trained model as StableHLO, if the file says what the model says.

    Args:
      trained: the model.
      path: of the file to write.
      form: of the function.
      calibration: of the probabilities.

    Returns:
      How far the function in the file is from the model.
    """
    from safetensors.numpy import save

    need_flatbuffers()
    arrays = flatten_dict(jax.device_get(trained.variables), sep="/")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    function = create_function(trained, form, calibration)

    def program(arrays: dict[str, Any], image: Any) -> Any:
        return function(unflatten_dict(arrays, sep="/"), image)

    specs = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}
    exported = {
        platform: jax.export.export(jax.jit(program), platforms=(platform,))(specs, image_spec(trained, form))
        for platform in PLATFORMS
    }
    description = json.dumps(describe(trained, form, calibration, "stablehlo"), indent=1, allow_nan=False)
    with atomic_path(path) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(DESCRIPTION), description)
            archive.writestr(zipfile.ZipInfo(WEIGHTS), save(arrays))
            for platform, one in exported.items():
                archive.writestr(zipfile.ZipInfo(PROGRAM.format(platform)), bytes(one.serialize()))
        said, run = read_stablehlo(part)
        agreement = compare(run, trained, form, calibration)
        images = golden_images(trained.bands, form)
        runtime = f"{jax.default_backend()} of jax {jax.__version__}"
        golden = describe_golden(run(images), images, said, digest_stablehlo(part), runtime)
        with zipfile.ZipFile(part, "a", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(GOLDEN), json.dumps(golden, allow_nan=False))
        return agreement


def digest_stablehlo(path: str | Path) -> str:
    """Returns the SHA-256 of a file that `read_stablehlo` has read, but for what it says of golden images."""
    found, largest = hashlib.sha256(), Path(path).stat().st_size
    with zipfile.ZipFile(path) as archive:
        names = sorted(set(archive.namelist()) - {GOLDEN})
    for name in names:
        found.update(f"{name}\n".encode() + hashlib.sha256(read_entry(path, name, largest)).digest())
    return found.hexdigest()


def image_spec(trained: TrainedModel, form: Form) -> jax.ShapeDtypeStruct:
    """Returns the images that a function of this form takes; what a call may choose is a symbol."""
    shape = form.shape(trained.bands.count)
    if form.dynamic:
        limits = [f"height <= {form.size[0]}", f"width <= {form.size[1]}"] if "size" in form.dynamic else []
        shape = jax.export.symbolic_shape(", ".join(map(str, shape)), constraints=limits)
    return jax.ShapeDtypeStruct(shape, trained.bands.dtype)


def read_stablehlo(
    path: str | Path,
) -> tuple[dict[str, Any], Callable[[Num[np.ndarray, "b h w c"]], Num[np.ndarray, "..."]]]:
    """Returns the description of a file of `export_stablehlo`, and its function, whoever wrote the file.

    Raises:
      UserError: it is damaged, too old for this JAX, or holds what such a file needs not hold.
    """
    from safetensors.numpy import load

    need_flatbuffers()
    description = read_description(read_entry(path, DESCRIPTION, LARGEST), path)
    description |= read_golden(path)
    platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    program = read_entry(path, PROGRAM.format(platform), LARGEST_PROGRAM)
    try:
        exported = jax.export.deserialize(bytearray(program))
    except Exception as error:  # flatbuffers raises whatever a wrong offset leads to
        raise _too_old(path, description, error) from None
    try:
        arrays = load(read_entry(path, WEIGHTS, Path(path).stat().st_size))
    except UserError:
        raise
    except Exception as error:  # SafetensorError of a damaged header, KeyError of a type that NumPy has not, …
        raise UserError(f"{path}: its weights can't be read: {short(str(error))}. {AGAIN}") from None
    _check_program(path, exported, description, arrays)
    call = jax.jit(exported.call)
    arrays = jax.device_put(arrays)

    def run(images: Num[np.ndarray, "b h w c"]) -> Num[np.ndarray, "..."]:
        return np.asarray(call(arrays, images))

    return description, run


def read_golden(path: str | Path) -> dict[str, Any]:
    """Returns what an archive keeps of its golden images; files of before there were any have nothing."""
    with zipfile.ZipFile(path) as archive:
        if GOLDEN not in archive.namelist():
            return {}
    try:
        return {"golden": json.loads(read_entry(path, GOLDEN, LARGEST))}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: '{GOLDEN}' can't be read: {short(str(error))}. {AGAIN}") from None


AGAIN = "Copy the file again, or export the model again."


def read_entry(path: str | Path, name: str, largest: int) -> bytes:
    """Returns the bytes of an entry of an archive, whoever wrote it.

    Args:
      path: of the archive.
      name: of the entry.
      largest: number of bytes that it may have.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > largest:
                raise UserError(f"{path}: '{name}' is compressed, or larger than {largest} bytes. {AGAIN}")
            return archive.read(entry)
    except KeyError:
        raise UserError(f"{path} was not written by `jaxseg export`: it has no '{name}'. {AGAIN}") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"{path} is damaged: {short(str(error))}. {AGAIN}") from None


def _too_old(path: str | Path, description: dict[str, Any], error: Exception) -> UserError:
    return UserError(
        f"{path} holds a program that jax {jax.__version__} does not read: jax {description['jax']} wrote it on"
        f" {description['date']}, and such programs can be read for about half a year. Export the model again, from its"
        f" bundle. JAX says: {short(str(error)) or type(error).__name__}"
    )


def _check_program(
    path: str | Path, exported: jax.export.Exported, description: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Raises a `UserError` where the program is not of these images and weights, or calls what is not its own."""
    try:
        (weights, image), options = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        fits = {name: (a.shape, str(a.dtype)) for name, a in weights.items()} == {
            name: (a.shape, str(a.dtype)) for name, a in arrays.items()
        }
        told = tuple(map(str, image.shape)), str(image.dtype)
    except (TypeError, ValueError, AttributeError):
        fits, told, options = False, None, None
    said = description["input"]
    fits = fits and exported.nr_devices == 1 and len(exported.out_avals) == 1
    if not fits or options or told != (tuple(map(str, said["shape"])), said["dtype"]):
        raise UserError(f"{path}: its program does not fit its weights and its description. {AGAIN}")
    try:
        called = CUSTOM_CALL.findall(exported.mlir_module())
    except Exception as error:  # of what is no program
        raise _too_old(path, description, error) from None
    if exported.ordered_effects or exported.unordered_effects or set(called) - HARMLESS:
        raise UserError(f"{path}: its program calls what is not part of it, which is not run. {AGAIN}")


def need_flatbuffers() -> None:
    """Raises a `UserError` where the package that `jax.export` writes with is missing."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise UserError(
            "StableHLO files need flatbuffers, which is not installed: pip install 'jaxseg[export]'"
        ) from None
