"""Reading image and label files: every mode that Pillow knows, to uint8 RGB and to class ids."""

import numpy as np

from jaxseg.checks import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")


def read_image(file: str) -> np.ndarray:
    """Returns the image in `file` as uint8[h, w, 3], upright and RGB.

    Gray is repeated over the channels, palettes are looked up, transparency is dropped (the colors beneath stay as
    they are stored), 16-bit gray is divided by 257 and rounded, and an orientation in the EXIF data is applied.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if image.mode == "F":
                raise UserError(f"{file} holds floating point numbers. Convert it to 8 or 16 bit integers.")
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):
                return _from_16_bit(file, np.asarray(image))
            if image.mode == "P":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            return np.array(image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(file, error) from None


def read_label(file: str) -> np.ndarray:
    """Returns the values in a label file: integers[h, w] if gray or palette, uint8[h, w, 3] if colored."""
    from PIL import Image

    try:
        with Image.open(file) as label:
            if label.format == "JPEG":
                raise UserError(f"{file} is a JPEG, whose compression invents labels. Save labels as PNG.")
            if label.mode in ("L", "P") or label.mode.startswith("I"):
                return np.asarray(label)
            if label.mode == "1":
                return np.asarray(label).astype(np.uint8)
            if label.mode == "LA":
                return np.asarray(label)[..., 0]
            if label.mode in ("RGB", "RGBA"):
                return np.asarray(label)[..., :3]
            raise UserError(f"{file} has the color mode {label.mode}. Labels are gray, palette or RGB files, best PNG.")
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(file, error) from None


def _from_16_bit(file: str, values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise UserError(
            f"{file} holds integers from {values.min()} to {values.max()}, expected 0 to 65535 (16 bit). Rescale it."
        )
    gray = ((values.astype(np.int32) + 128) // 257).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def _unreadable(file: str, error: Exception) -> UserError:
    return UserError(
        f"{file} does not read ({error}). The file is damaged, cut short or no image: replace it, or remove it with"
        " its counterpart."
    )
