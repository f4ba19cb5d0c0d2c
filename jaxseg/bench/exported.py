"""Every architecture as an ONNX file: whether it says what the model says, how large it is, and how fast."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.bench.league import SMALL, WIDTHS
from jaxseg.checks import UserError
from jaxseg.data.dataset import palette_colors
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.encoders import create_encoder
from jaxseg.export import Form, export_onnx, load_exported
from jaxseg.export.golden import golden_images
from jaxseg.inference.predict import Predictor
from jaxseg.models import architecture, create_model, init, pixel_statistics
from jaxseg.trained import TrainedModel

CLASSES = 7
SIZES = ((128, 128), (95, 161))  # pixels; the second is padded
CALLS = 5  # timed; the shortest counts


def small_model(name: str, seed: int = 0) -> TrainedModel:
    """Returns a small untrained model whose normalizations do something, as those of a trained one do.

    Args:
      name: a key of `jaxseg.MODELS`.
      seed: of its random numbers.
    """
    encoder = create_encoder("plain", widths=WIDTHS) if architecture(name).default_encoder is not None else ""
    model = create_model(name, encoder, num_classes=CLASSES, **SMALL.get(name, {}))
    rng = np.random.default_rng(seed)

    def scrambled(path: Any, value: Any) -> np.ndarray:
        last, value = path[-1].key, np.asarray(value)
        if last in ("mean", "bias"):
            return rng.normal(0, 0.1, value.shape).astype(value.dtype)
        return rng.uniform(0.8, 1.2, value.shape).astype(value.dtype) if last in ("var", "scale") else value

    variables = jax.tree_util.tree_map_with_path(scrambled, jax.device_get(init(model, jax.random.key(seed))))
    return TrainedModel(
        model,
        variables,
        tuple(f"class {i}" for i in range(CLASSES)),
        palette_colors(CLASSES),
        255,
        Preprocessing(*pixel_statistics(model, 3)),
        source="untrained",
    )


def measure(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Exports the small model `name` for images of one size, and returns its row of the table.

    Args:
      name: a key of `jaxseg.MODELS`.
      size: (height, width), pixels.
    """
    trained, form = small_model(name), Form(size, "probabilities")
    row: dict[str, Any] = {"model": name, "size": list(size)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        began = time.perf_counter()
        try:
            agreement = export_onnx(trained, path, form)
        except UserError as error:
            return row | {"error": str(error)}
        row |= {"seconds": time.perf_counter() - began, "bytes": path.stat().st_size}
        row |= {"difference": agreement.difference, "labels": agreement.labels}
        images = golden_images(trained.bands, form)
        row["onnxruntime_ms"] = _shortest(load_exported(path), images[0])
        row["jaxseg_ms"] = _shortest(Predictor(trained).probabilities, images[0])
    return row


def _shortest(function: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> float:
    """The time of a call in milliseconds, after one that compiles."""
    function(image)
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        function(image)
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a table of Markdown."""
    lines = [
        "| model | size | max abs difference | same labels | MiB | onnxruntime, ms | jaxseg, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['model']} | {row['size'][0]}×{row['size'][1]} |"
        if "error" in row:
            lines.append(f"{start} {row['error']} | | | | |")
            continue
        lines.append(
            f"{start} {row['difference']:.1e} | {100 * row['labels']:.3f} % | {row['bytes'] / 2**20:.1f} |"
            f" {row['onnxruntime_ms']:.1f} | {row['jaxseg_ms']:.1f} |"
        )
    return "\n".join(lines) + "\n"
