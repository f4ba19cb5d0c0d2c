"""Exported files as functions again."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from jaxseg.checks import UserError
from jaxseg.export.litert import digest_litert, is_litert, read_litert
from jaxseg.export.meaning import form_of
from jaxseg.export.onnx_file import digest_onnx, read_onnx
from jaxseg.export.stablehlo import digest_stablehlo, read_stablehlo


class Exported:
    """The function of a file of `jaxseg export`: stored images -> labels, probabilities or logits.

    Args:
      run: of a batch of images.
      description: what the file says of itself, see `jaxseg.export.meaning.describe`.
    """

    def __init__(
        self, run: Callable[[Num[np.ndarray, "b h w c"]], Num[np.ndarray, "..."]], description: Mapping[str, Any]
    ):
        self.run, self.description, self.form = run, description, form_of(description)

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each label."""
        return tuple(self.description["classes"])

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """The color of each label, 0..255."""
        return tuple(map(tuple, self.description["palette"]))

    def __call__(self, images: Num[np.ndarray, "*b h w c"]) -> Num[np.ndarray, "..."]:
        """Returns the labels, probabilities or logits of one image, or of a batch.

        Args:
          images: as stored, [h, w, c] or [b, h, w, c], of the size, number and type that `description["use"]` tells.
        """
        images = np.asarray(images)
        batch = images if images.ndim == 4 else images[None]
        wanted, free = (
            self.description["input"],
            {"batch": 2**31, "height": self.form.size[0], "width": self.form.size[1]},
        )
        shape = wanted["shape"]
        fits = batch.ndim == 4 and all(
            n == given if isinstance(given, int) else 1 <= n <= free[given]
            for n, given in zip(batch.shape, shape, strict=True)
        )
        if not fits or batch.dtype.name != wanted["dtype"]:
            told = ", ".join(f"{n} up to {free[n]}" if n in ("height", "width") else str(n) for n in shape)
            raise UserError(
                f"The exported function takes images of {wanted['dtype']}[{told}], got {images.dtype} of shape"
                f" {images.shape}. Pass images as stored, of that size, or export for another: --size, --dynamic."
            )
        found = self.run(batch)
        return found if images.ndim == 4 else found[0]


def load_exported(path: str | Path) -> Exported:
    """Returns the function of a file that `jaxseg export` wrote, ONNX, StableHLO or LiteRT.

    The file may be a stranger's: nothing in it is unpickled, and no program is run that calls what is not part of it.

    Args:
      path: of the file.

    Raises:
      UserError: there is no such file, it is damaged, of another kind, or too old.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no file {path}. Write one: jaxseg export MODEL --out {path}")
    description, run = _kind(path)[0](path)
    return Exported(run, description)


def _kind(path: str | Path) -> tuple[Callable[..., Any], Callable[..., str]]:
    """What reads a file, and what makes a digest of its content."""
    if is_litert(path):
        return read_litert, digest_litert
    return (read_stablehlo, digest_stablehlo) if zipfile.is_zipfile(path) else (read_onnx, digest_onnx)


def content_digest(path: str | Path) -> str:
    """Returns the SHA-256 of all but the golden images in a file that `load_exported` has read."""
    return _kind(path)[1](path)
