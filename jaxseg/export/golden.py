"""The golden images of an exported file: what the file said of them where it was written, and whether it says so here.

The images are not in the file but drawn again, of whole numbers that no version of NumPy draws otherwise; the file
holds their digest, the labels of some pixels, the probabilities of fewer, and the digest of all else that is in it.
"""

import base64
import binascii
import hashlib
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Integer, Num

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import read_preprocessing
from jaxseg.export.function import Form
from jaxseg.files import Fields, is_text, plain
from jaxseg.inference.verify import AGREEING, TOLERANCE, Verification, compare
from jaxseg.pretrained.golden import Golden

LABELS, PROBABILITIES = 2**12, 2**8  # pixels, at most, whose labels and probabilities are kept
NUMBERS = 2**18  # probabilities that are kept, at most
LARGEST = 2**25  # values of the images that are drawn for a file, whoever wrote it: two color images of 2,364 x 2,364
PART = 2**22  # random numbers that are drawn at a time, of 8 bytes each
REMEDY = "Export the model again."


def golden_images(bands: Bands, form: Form) -> Num[np.ndarray, "b h w c"]:
    """Returns stored images that are always the same: patches of colors, and noise.

    Args:
      bands: that they have.
      form: their size, and number; two where the number is free, and smaller ones where the size is.

    >>> images = golden_images(Bands(), Form((20, 30), dynamic=("batch",)))
    >>> images.shape, images[1, 19, 29].tolist()
    ((2, 20, 30, 3), [37, 147, 145])
    """
    shape = count, height, width, _ = _shape(bands, form)
    patches = _numbers(0, (count, -(-height // 16), -(-width // 16), bands.count)).astype(np.int16)
    shown = patches.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    shown += (_numbers(1, shape) >> 2).astype(np.int16) - (_numbers(2, shape) >> 2)
    shown = np.clip(shown, 0, 255)
    return np.stack([_store(image, bands) for image in shown])


def _shape(bands: Bands, form: Form) -> tuple[int, int, int, int]:
    """Of the golden images of a form."""
    height, width = (max(n - n // 4, 1) for n in form.size) if "size" in form.dynamic else form.size
    return 2 if "batch" in form.dynamic else form.batch, height, width, bands.count


def _numbers(seed: int, shape: tuple[int, ...]) -> Integer[np.ndarray, "..."]:
    """Random bytes; NumPy keeps the raw numbers of its generators, but not what it makes of them, over its versions."""
    generator, numbers = np.random.PCG64(seed), np.empty(math.prod(shape), np.uint8)
    for start in range(0, numbers.size, PART):
        part = numbers[start : start + PART]
        part[:] = generator.random_raw(part.size) >> 56
    return numbers.reshape(shape)


def _store(image: Integer[np.ndarray, "h w c"], bands: Bands) -> Num[np.ndarray, "h w c"]:
    """Values from 0 to 255 as the bands store them."""
    low, high = np.asarray(bands.window or ((0, 255),) * bands.count, np.float64).T
    values = low + image * (high - low) / 255
    return values.astype(np.float32) if bands.dtype == "float32" else np.round(values).astype(bands.dtype)


def answers(
    output: Num[np.ndarray, "..."], description: Mapping[str, Any]
) -> tuple[Integer[np.ndarray, "..."], Float[np.ndarray, "..."] | None]:
    """Returns the labels that an output says, and its probabilities where it has some.

    Args:
      output: of the function in a file.
      description: of the file.
    """
    name, threshold = description["output"]["name"], description["threshold"]
    if name == "labels":
        return output, None
    logits, probabilities = output, output
    if name == "logits":
        sigmoids = description["activation"] == "sigmoid" and threshold is None
        probabilities = np.asarray(jax.nn.sigmoid(logits) if sigmoids else jax.nn.softmax(logits))
    if threshold is not None:
        return (probabilities[..., 1] > threshold).astype(np.uint8), probabilities
    return output.argmax(-1), probabilities


def describe_golden(
    output: Num[np.ndarray, "..."],
    images: Num[np.ndarray, "b h w c"],
    description: Mapping[str, Any],
    content: str,
    runtime: str,
) -> dict[str, Any]:
    """Returns what a file keeps of its golden images, as JSON holds it.

    Args:
      output: of the function in the file.
      images: of `golden_images`.
      description: of the file.
      content: the digest of all else that is in the file.
      runtime: what ran the file, and its version.
    """
    labels, probabilities = answers(output, description)
    at = _places(labels.size, LABELS)
    kept = {
        "images": digest_of(images),
        "content": content,
        "where": f"{runtime}, {platform.system()} {platform.machine()}",
        "labels": _encode(labels.reshape(-1)[at], np.uint16),
    }
    if probabilities is None:
        return kept | {"probabilities": None}
    classes = probabilities.shape[-1]
    at = at[_places(len(at), min(PROBABILITIES, max(NUMBERS // classes, 1)))]
    return kept | {"probabilities": _encode(probabilities.reshape(-1, classes)[at], np.float32)}


def verify_exported(path: str | Path, *, tolerance: float = TOLERANCE) -> Verification:
    """Runs a file of `jaxseg export` on its golden images, and compares with what it said where it was written.

    Of a file that returns labels alone, no probabilities are compared.

    Args:
      path: of the file.
      tolerance: largest difference of a probability that is none.

    Raises:
      UserError: the file cannot be run, or says nothing of golden images.
    """
    from jaxseg.export.loaded import content_digest, load_exported

    if not 0 <= tolerance <= 1:
        raise UserError(f"The tolerance is of probabilities, 0 to 1, got {tolerance}.")
    exported = load_exported(path)
    said, form = exported.description, exported.form
    kept = _read(said, path)
    bands = read_preprocessing(Fields(said, path, REMEDY).group("preprocessing")).bands
    if tuple(said["input"]["shape"]) != form.shape(bands.count) or bands.dtype != said["input"]["dtype"]:
        raise UserError(f"{path}: its input is not of its size and bands. {REMEDY}")
    values = math.prod(_shape(bands, form))
    if values > LARGEST:
        raise UserError(
            f"{path}: its golden images have {values} values, and at most {LARGEST} are drawn to verify a file. Export"
            " the model for smaller images, or with a smaller batch."
        )
    images = golden_images(bands, form)
    if digest_of(images) != kept["images"]:
        raise UserError(
            f"{path}: this version of jaxseg draws other golden images than jaxseg {plain(said['jaxseg'])}, which wrote"
            f" the file. Verify it with that version, or export the model again."
        )
    output = exported.run(images)
    wanted = (*images.shape[:3], *(() if form.output == "labels" else (len(said["classes"]),)))
    if output.shape != wanted:
        raise UserError(f"{path} returns {output.shape}, expected {wanted}. {REMEDY}")
    labels, probabilities = answers(output, said)
    at = _places(labels.size, LABELS)
    then = _decode(kept["labels"], np.uint16, (len(at),), path)
    found = labels.reshape(-1)[at]
    made = f"{said['date']}, jaxseg {said['jaxseg']}, jax {said['jax']}, {kept['where']}"
    facts = {"tolerance": tolerance, "intact": content_digest(path) == kept["content"], "made": plain(made)}
    if probabilities is None:
        return Verification(int((found == then).sum()), len(at), 0.0, 0, **facts)
    classes = len(said["classes"])
    few = _places(len(at), min(PROBABILITIES, max(NUMBERS // classes, 1)))
    numbers = _decode(kept["probabilities"], np.float32, (len(few), classes), path)
    places = np.stack([np.zeros_like(few), few], axis=-1).astype(np.int32)
    golden = Golden(images[0], then[None], places, numbers)
    compared = compare(golden, found[None], probabilities.reshape(-1, classes)[at][None], tolerance=tolerance)
    return Verification(compared.agreeing, compared.pixels, compared.difference, compared.compared, **facts)


def told(found: Verification) -> list[str]:
    """Returns what of an exported file agrees, a line each, and what follows from it."""
    content = "unchanged" if found.intact else "CHANGED since the file was written"
    probabilities = (
        f"{found.compared} compared, max |difference| {found.difference:.2e} (at most {found.tolerance:g})"
        if found.compared
        else "none come out of the file"
    )
    lines = [
        f"{'written':<13}  {found.made}",
        f"{'content':<13}  {content}",
        f"{'labels':<13}  {found.agreeing} of {found.pixels} agree (at least {AGREEING:.1%} must)",
        f"{'probabilities':<13}  {probabilities}",
    ]
    if found.holds:
        return [*lines, "The file says here what it said where it was written."]
    if not found.intact:
        return [*lines, "The file does not hold what it was written with. Copy it again, or export again."]
    return [
        *lines,
        "The file does not say here what it said where it was written. With another version of the runtime, or on"
        " another kind of device, the last digits differ: --tolerance allows more. A large difference means a damaged"
        " file or a wrong result of this machine: do not use it before you know which.",
    ]


def digest_of(array: np.ndarray) -> str:
    """Returns the SHA-256 of the numbers of an array, in hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _places(count: int, most: int) -> Integer[np.ndarray, " n"]:
    """At most so many of `count` places, evenly."""
    kept = min(count, most)
    return np.arange(kept, dtype=np.int64) * count // kept


def _encode(values: np.ndarray, dtype: type) -> str:
    """Numbers as text."""
    return base64.b64encode(values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def _decode(text: str | None, dtype: type, shape: tuple[int, ...], path: str | Path) -> np.ndarray:
    """Numbers of text, whoever wrote it."""
    try:
        return np.frombuffer(base64.b64decode(text or "", validate=True), np.dtype(dtype).newbyteorder("<")).reshape(
            shape
        )
    except (ValueError, binascii.Error):
        raise UserError(f"{path}: what it keeps of its golden images does not read. {REMEDY}") from None


def _read(said: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """What a file keeps of its golden images, whoever wrote it; the numbers are still text."""
    if "golden" not in said:
        raise UserError(f"{path} was written before exported files had golden images. {REMEDY}")
    fields = Fields(said, path, REMEDY).group("golden")
    kept = {name: fields.take(name, is_text, "text") for name in ("images", "content", "where", "labels")}
    with_some = said["output"]["name"] != "labels"
    kind = is_text if with_some else lambda value: value is None
    return kept | {"probabilities": fields.take("probabilities", kind, "text" if with_some else "null")}
