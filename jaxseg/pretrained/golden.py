"""The golden image of a bundle: a small image and what the model said of it where the bundle was written.

    DIR/golden.safetensors   "image"          as stored, [h, w, bands]
                             "labels"         uint8 or uint16[h, w]
                             "places"         int32[n, 2], (row, column) of some pixels
                             "probabilities"  float32[n, labels], of these pixels

Whoever receives the bundle computes it again (`jaxseg verify`), and sees whether the weights, the versions and the
device there say the same.
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, Integer, Num

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands, resize_bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.files import short
from jaxseg.ops.resize import resize_within
from jaxseg.pretrained.state_dict import read_safetensors, write_safetensors

FILE = "golden.safetensors"
SIZE = (61, 75)  # pixels: no multiple of a stride, so that padding is seen, too
PLACES = 256
LARGEST = 2**24  # bytes of a file that is read
LONGEST = 1024  # pixels, of a side of an image that is read
GREATEST = 2**22  # pixels that a network is shown of it, resized and padded


class Golden(NamedTuple):
    """An image, and what a model said of it."""

    image: Num[np.ndarray, "h w c"]  # as stored
    labels: Integer[np.ndarray, "h w"]  # uint8 or uint16
    places: Int[np.ndarray, "n 2"]  # (row, column)
    probabilities: Float[np.ndarray, "n k"]  # at `places`


def can_have(preprocessing: Preprocessing) -> bool:
    """Says whether a model can be shown the golden image: its bands have a range, and its rule makes no giant of it."""
    known = preprocessing.bands.window is not None or preprocessing.bands.dtype == "uint8"
    return known and _shown(preprocessing, *SIZE) <= GREATEST


def _shown(preprocessing: Preprocessing, height: int, width: int) -> int:
    """The pixels that a network is shown of an image."""
    return math.prod(preprocessing.padded(*preprocessing.resize(height, width)))


def make_golden(
    module: nn.Module,
    variables: dict[str, Any],
    preprocessing: Preprocessing,
    activation: str = "softmax",
    threshold: float = 0.5,
    calibration: Callable[[Array], Array] | None = None,
) -> Golden:
    """Returns what a model says of an image that is always the same; see `answer` for the arguments."""
    image = draw_image(preprocessing.bands)
    labels, probabilities = answer(module, variables, image, preprocessing, activation, threshold, calibration)
    h, w = labels.shape
    rows, columns = np.divmod(np.unique(np.linspace(0, h * w - 1, PLACES).round().astype(np.int32)), w)
    small = np.uint8 if probabilities.shape[-1] <= 256 else np.uint16
    return Golden(image, labels.astype(small), np.stack([rows, columns], -1), probabilities[rows, columns])


def answer(
    module: nn.Module,
    variables: dict[str, Any],
    image: Num[np.ndarray, "h w c"],
    preprocessing: Preprocessing,
    activation: str = "softmax",
    threshold: float = 0.5,
    calibration: Callable[[Array], Array] | None = None,
) -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "h w k"]]:
    """Returns the labels and the probabilities of an image: in one piece what `jaxseg.Predictor` does in many.

    They are written twice so that each tells of a mistake in the other.

    Args:
      module: a model.
      variables: {"params", "batch_stats"}.
      image: as stored.
      preprocessing: of images.
      activation: "softmax" or "sigmoid".
      threshold: of a model of one class.
      calibration: of the logits, from which the probabilities are then; labels are from the logits themselves.
    """
    size = image.shape[:2]
    smaller = preprocessing.resize(*size)
    resized = image if smaller == size else resize_bands(image, smaller, preprocessing.bands)
    batch = preprocessing.pad([resized], preprocessing.padded(*smaller))

    def scores(variables: dict[str, Any], batch: Array) -> tuple[Array, Array]:
        logits = module.apply(variables, preprocessing.normalize(batch), train=False)["logits"]
        if logits.shape[-1] == 1:
            logits = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
        if preprocessing.resize:
            logits = resize_within(logits, np.array([smaller]), np.array([size]), size)
        logits = logits[0, : size[0], : size[1]]
        calibrated = calibration(logits) if calibration else logits
        sigmoids = activation == "sigmoid" and module.num_classes > 1
        return logits, jax.nn.sigmoid(calibrated) if sigmoids else jax.nn.softmax(calibrated)

    logits, probabilities = map(np.asarray, jax.jit(scores)(variables, batch))
    if module.num_classes > 1:
        return logits.argmax(-1), probabilities
    least = -math.inf if threshold == 0 else math.inf
    least = math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else least
    return (logits[..., 1] - logits[..., 0] > least).astype(np.int64), probabilities


def draw_image(bands: Bands, size: tuple[int, int] = SIZE) -> Num[np.ndarray, "h w c"]:
    """Returns an image of waves, disks, stripes and noise, from one end of every band's window to the other.

    >>> image = draw_image(Bands(("gray",), "uint16", ((0, 1000),)), (32, 32))
    >>> image.dtype.name, image.shape, int(image.min()), int(image.max())
    ('uint16', (32, 32, 1), 0, 1000)
    """
    (h, w), k = size, np.arange(bands.count)
    y, x = np.mgrid[:h, :w][..., None] / max(size)
    values = 128 + 70 * np.sin(2 * np.pi * (y * (1 + k % 3) + x * (2 - k % 2)) + 1.3 * k)
    for cy, cx, radius in ((0.25, 0.3, 0.15), (0.55, 0.7, 0.2), (0.7, 0.2, 0.1)):
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        values = np.where(inside, 255 * ((k * 0.37 + cx) % 1), values)
    values = np.where((y < 0.12) & (np.floor(x * 24) % 2 == 0), 255, values)
    values = np.where((y > 0.72) & (np.floor(x * 12) % 2 == 0), 0, values)
    noise = np.random.default_rng(0).normal(0, 12, (h, w, bands.count))
    values = np.clip(values + np.where(x > 0.5, noise, 0), 0, 255)
    low, high = np.asarray(bands.window or ((0, 255),) * bands.count, np.float64).T
    stored = low + values * (high - low) / 255
    return stored.astype(np.float32) if bands.dtype == "float32" else np.round(stored).astype(bands.dtype)


def write_golden(directory: Path, golden: Golden) -> None:
    """Writes the file into the folder of a bundle."""
    write_safetensors(directory / FILE, golden._asdict())


def read_golden(directory: str | Path, preprocessing: Preprocessing, num_labels: int) -> Golden:
    """Returns the golden image of a bundle, whoever wrote it.

    Args:
      directory: of the bundle.
      preprocessing: of its model.
      num_labels: of its model; of one class there are two.

    Raises:
      UserError: there is none, or it is not one of this model.
    """
    path = Path(directory) / FILE
    remedy = "Copy the bundle again, or write it anew."
    if not path.exists():
        raise UserError(
            f"{directory} has no {FILE}: the bundle was written before there were golden images, or without one."
            f" `jaxseg bundle {directory} --out NEW` writes one with what the weights say today."
        )
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise UserError(f"{path} is no file, or of more than {LARGEST // 2**20} MiB. {remedy}")
    arrays = read_safetensors(path)
    if set(arrays) != set(Golden._fields):
        raise UserError(f"{path} holds {short(sorted(arrays))}, expected {', '.join(Golden._fields)}. {remedy}")
    golden, bands = Golden(**arrays), preprocessing.bands
    h, w = golden.image.shape[:2] if golden.image.ndim == 3 else (0, 0)
    if (golden.image.dtype.name, golden.image.shape[2:]) != (bands.dtype, (bands.count,)) or not (
        0 < h <= LONGEST and 0 < w <= LONGEST
    ):
        raise UserError(
            f"{path}: the image is {golden.image.dtype} of shape {golden.image.shape}, expected {bands.dtype} with"
            f" {bands.count} bands and at most {LONGEST} pixels a side. {remedy}"
        )
    if _shown(preprocessing, h, w) > GREATEST:
        raise UserError(f"{path}: the rule of resizing makes more than {GREATEST} pixels of the image. {remedy}")
    if (golden.labels.dtype.name not in ("uint8", "uint16")) or golden.labels.shape != (h, w):
        raise UserError(f"{path}: the labels are {golden.labels.dtype} of shape {golden.labels.shape}. {remedy}")
    n = len(golden.places) if golden.places.ndim else 0
    if golden.places.dtype != np.int32 or golden.places.shape != (n, 2) or not n:
        raise UserError(f"{path}: the places are not (row, column) of at least one pixel. {remedy}")
    if (golden.places < 0).any() or (golden.places >= (h, w)).any() or (golden.labels >= num_labels).any():
        raise UserError(f"{path}: a place is outside of the image, or a label is none of {num_labels}. {remedy}")
    p = golden.probabilities
    if p.dtype != np.float32 or p.shape != (n, num_labels) or not ((p >= 0) & (p <= 1)).all():
        raise UserError(f"{path}: expected {num_labels} probabilities, 0 to 1, of {n} pixels. {remedy}")
    return golden


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
