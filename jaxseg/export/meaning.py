"""What an exported file says of itself: what goes in, what comes out, and who wrote it when."""

import datetime
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxseg.checks import UserError
from jaxseg.export.function import DYNAMIC, OUTPUTS, Form, find_tiling, network_size
from jaxseg.files import Fields, is_color, is_finite, is_list, is_text, is_whole, plain
from jaxseg.inference.calibration import Calibration
from jaxseg.models.parts import title
from jaxseg.trained import TrainedModel

FORMAT = "jaxseg export 1"
LARGEST = 2**22  # bytes of the description in a file that is read
REMEDY = "Export the model again."
INPUT, OUTPUT = "image", "output"  # the names that a file has for them
SIDE = 2**26  # the greatest number of pixels, images or classes that is believed


def describe(trained: TrainedModel, form: Form, calibration: Calibration | None, kind: str) -> dict[str, Any]:
    """Returns what is written into an exported file, as JSON holds it.

    Args:
      trained: the model.
      form: of the function.
      calibration: of the probabilities, if there is one.
      kind: "onnx", "stablehlo" or "litert".
    """
    images, tiling = form.shape(trained.bands.count), find_tiling(trained, form)
    labels = "uint8" if len(trained.classes) <= 256 else "uint16"
    found = images[:3] if form.output == "labels" else (*images[:3], len(trained.classes))
    return {
        "format": FORMAT,
        "kind": kind,
        "jaxseg": _version("jaxseg"),
        "jax": jax.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": title(trained.model) if hasattr(trained.model, "num_classes") else type(trained.model).__name__,
        "source": trained.source,
        "input": {"name": INPUT, "dtype": trained.bands.dtype, "shape": list(images)},
        "output": {
            "name": form.output,
            "dtype": labels if form.output == "labels" else "float32",
            "shape": list(found),
        },
        "size": list(form.size),
        "network_size": list(network_size(trained, form)),
        "classes": list(trained.classes),
        "palette": [list(color) for color in trained.palette],
        "ignore": trained.ignore,
        "values": None if trained.values is None else list(trained.values),
        "activation": trained.activation,
        "threshold": trained.threshold if trained.num_logits == 1 else None,
        "calibration": None if calibration is None else {"kind": calibration.kind},
        "preprocessing": trained.preprocessing.to_json(),
        "tiles": None if tiling is None else {"tile": tiling.tile, "step": tiling.step, "blend": tiling.blend},
        "tta": str(form.tta),
        "use": use(trained, form),
    }


def use(trained: TrainedModel, form: Form) -> str:
    """Returns what a caller has to do, in sentences."""
    seen, bands = trained.preprocessing, trained.bands
    smaller = "at most " if "size" in form.dynamic else ""
    sentences = [
        f"Give images as they are stored, {bands.dtype}, [batch, height, width, {bands.count}],"
        f" {'red, green, blue' if bands.is_rgb else ', '.join(bands.names)}, of {smaller}{form.size[0]} x"
        f" {form.size[1]} pixels (height x width).",
        "The file resizes, pads and normalizes them." if seen.resize else "The file pads and normalizes them.",
    ]
    if tiling := find_tiling(trained, form):
        sentences.append(f"It cuts them into {tiling}.")
    if len(form.tta) > 1:
        sentences.append(f"It averages the probabilities of {len(form.tta)} variants of them ({form.tta}).")
    sentences.append(f"It returns {form.output} {OUTPUTS[form.output]}.")
    return " ".join(sentences)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def read_description(text: str | bytes, path: str | Path) -> dict[str, Any]:
    """Returns what a file says of itself, whoever wrote it; what is used of it is checked.

    Args:
      text: JSON.
      path: of the file, for messages.
    """
    if len(text) > LARGEST:
        raise UserError(f"{path}: its description has more than {LARGEST // 2**20} MiB. {REMEDY}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its description can't be read: {error}. {REMEDY}") from None
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise UserError(f"{path} was not written by this version of `jaxseg export`. {REMEDY}")
    fields = Fields(values, path, REMEDY)
    for name in ("kind", "jaxseg", "jax", "date", "model", "source"):
        fields.take(name, is_text, "text")
    for name in ("size", "network_size"):
        fields.take(name, is_list(is_whole(1, SIDE), (2,)), "two whole numbers above 0")
    classes = fields.take("classes", is_list(is_text, range(1, 65536)), "the names of the classes")
    fields.take("palette", is_list(is_color, (len(classes),)), "a color of each class")
    fields.take("activation", lambda value: value in ("softmax", "sigmoid"), "softmax or sigmoid")
    fields.take("threshold", lambda value: value is None or is_finite(value), "a number, or null")
    for name in ("input", "output"):
        group = fields.group(name)
        group.take("name", is_text, "text")
        group.take("dtype", lambda value: value in DTYPES, f"one of {', '.join(DTYPES)}")
        group.take("shape", is_list(_is_extent, (3, 4)), "sizes, or names of what may be chosen")
    return {**values, "classes": [plain(name) for name in classes]}


DTYPES = ("uint8", "uint16", "int16", "float32")


def _is_extent(value: Any) -> bool:
    return is_whole(1, SIDE)(value) or value in ("batch", "height", "width")


def form_of(description: Mapping[str, Any]) -> Form:
    """Returns the form of the function in a file, from what `read_description` returned."""
    shape = description["input"]["shape"]
    dynamic = [name for name, word in zip(DYNAMIC, ("batch", "height"), strict=True) if word in shape]
    batch = shape[0] if isinstance(shape[0], int) else 1
    return Form(tuple(description["size"]), description["output"]["name"], tuple(dynamic), batch)
