"""Weights for images that were normalized in another way, as weights for images as an encoder normalizes them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import linen as nn

from jaxseg.pretrained.names.source import Pixels, Source


def own_pixels(encoder: nn.Module) -> Pixels:
    """Returns how images are normalized for an encoder."""
    return Pixels(encoder.pixel_mean, encoder.pixel_std)


def move_pixels(
    arrays: Mapping[str, np.ndarray], source: Source, encoder: nn.Module, pixels: Pixels
) -> dict[str, np.ndarray]:
    """Returns weights that make of an image as the encoder normalizes it what `arrays` make of it by `pixels`.

    A normalization is an affine map of each channel, which the first convolution takes up: its kernel is scaled, and
    what is shifted goes to its bias or to the mean of the normalization after it. The result is the same to rounding,
    but for the outermost features: zeros around the image were another color. Weights of other than 3 channels
    are returned as they are.

    Args:
      arrays: PyTorch's names and axis order; the names are those of `source`.
      source: how they are named.
      encoder: whose images they shall be for.
      pixels: how images were normalized for `arrays`.
    """
    own, (*stem, conv) = own_pixels(encoder), getattr(encoder, "stem", ("stem", "conv"))
    name = source.key((*stem, conv))
    kernel = arrays.get(f"{name}.weight")
    if kernel is None or kernel.ndim != 4 or kernel.shape[1] != 3 or own == pixels:
        return dict(arrays)
    kernel = np.asarray(kernel, np.float32)[:, ::-1] if pixels.bgr else np.asarray(kernel, np.float32)
    factor, shift = np.divide(own.std, pixels.std), np.subtract(own.mean, pixels.mean) / pixels.std
    moved = {f"{name}.weight": (kernel * factor[:, None, None]).astype(np.float32)}
    offset = np.einsum("oihw,i->o", kernel, shift)
    if f"{name}.bias" in arrays:
        moved[f"{name}.bias"] = (arrays[f"{name}.bias"] + offset).astype(np.float32)
    else:
        mean = f"{source.key((*stem, 'norm'))}.running_mean"
        if mean not in arrays:
            return dict(arrays)  # which the conversion will ask for
        moved[mean] = (arrays[mean] - offset).astype(np.float32)
    return {**arrays, **moved}


def timms_pixels(folder: Path) -> Pixels | None:
    """Returns how timm's repository says that images were normalized, in its config.json; None where it does not."""
    try:
        config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
        mean, std = ([255.0 * float(x) for x in config[name]] for name in ("mean", "std"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        return None
    return Pixels(tuple(mean), tuple(std))
