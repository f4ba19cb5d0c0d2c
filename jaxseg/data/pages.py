"""The embedded data set of printed pages: cut-outs of scans, drawn on demand; nothing to download.

An image is a pure function of (seed, split, index) and of the version of Pillow, which draws the letters; the fonts are
those that matplotlib ships. A page has one or two columns of blocks, set in type of 9 to 15 pixels whatever the image's
size, and somebody may have written on it. It is drawn at twice the size, turned a little, and reduced. Then comes what
scanners and cameras add: colored and grainy paper, faded print, the mirrored print of the other side, uneven light,
blur and noise.

The label of a pixel is what covers at least two fifths of it before all this: the strokes of letters, lines and pens,
not their boxes. Of a figure it is the whole rectangle. What the pen writes lies on what is printed.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from jaxseg.checks import UserError
from jaxseg.data.dataset import Dataset
from jaxseg.data.drawn import drawn_splits
from jaxseg.data.sheet import FIGURE, INK, SUPER, Sheet

if TYPE_CHECKING:
    from PIL import Image

CLASSES = ("background", "title", "text", "figure", "table", "rule", "ink")
PALETTE = (
    (245, 243, 235),
    (215, 60, 60),
    (50, 50, 60),
    (90, 160, 90),
    (225, 150, 40),
    (150, 90, 200),
    (40, 110, 230),
)
IGNORE = 255
COVER = 102  # of 255: how much of a pixel must be covered to be labeled, so that thin strokes stay whole
SKEW = math.radians(3)  # largest turn of a page


def pages(*, size: int = 128, train: int = 512, val: int = 64, seed: int = 0, wear: float = 1.0) -> Dataset:
    """Seven classes of drawn pages: background, title, text, figure, table, rule (a line), ink (handwriting).

    Args:
      size: side of the images, pixels; type has the same size in all, so a larger image shows more of a page.
      train: number of images of the split "train".
      val: number of images of the split "val".
      seed: of all images; another seed is another data set of the same kind.
      wear: how much the page and its scan have suffered, 0 (black on white) to 2; the labels do not depend on it.
    """
    given = {"size": size, "train": train, "val": val, "seed": seed, "wear": wear}
    splits = drawn_splits(pages, draw, given, smallest=32)
    if not 0 <= wear <= 2:
        raise UserError(f"pages: `wear` must be in [0, 2], got {wear}.")
    return Dataset("pages", CLASSES, PALETTE, splits, IGNORE)


def draw(rng: np.random.Generator, size: int, wear: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image, uint8[size, size, 3], and its label, uint8[size, size], that `rng` leads to."""
    from PIL import Image

    sheet = Sheet(rng, math.ceil(SUPER * size * (math.cos(SKEW) + math.sin(SKEW))))
    sheet.fill()
    angle = SKEW * (2 * rng.random() - 1)
    figures = sheet.kinds.point([255 * (kind == FIGURE) for kind in range(256)])
    layers = (sheet.printed, sheet.penned, figures)
    printed, penned, figure = (_reduce(layer, size, angle, Image.Resampling.BILINEAR) for layer in layers)
    kinds = _reduce(sheet.kinds, size, angle, Image.Resampling.NEAREST)
    label = np.where(printed >= COVER, kinds, 0).astype(np.uint8)
    label[figure >= COVER] = FIGURE
    label[penned >= COVER] = INK
    return _scan(rng, printed.astype(np.float32) / 255, penned.astype(np.float32) / 255, wear), label


def _reduce(
    layer: "Image.Image", size: int, angle: float, resample: "Image.Resampling"
) -> UInt8[np.ndarray, "size size"]:
    """Returns the middle of a drawing, turned; every pixel is the mean of SUPER x SUPER, or one of them."""
    from PIL import Image

    c, s, half = SUPER * math.cos(angle), SUPER * math.sin(angle), layer.width / 2
    middle = size / 2
    matrix = (c, s, half - (c + s) * middle, -s, c, half - (c - s) * middle)
    return np.asarray(layer.transform((size, size), Image.Transform.AFFINE, matrix, resample))


def _scan(rng: np.random.Generator, printed: np.ndarray, penned: np.ndarray, wear: float) -> np.ndarray:
    """Returns what a camera sees, uint8[size, size, 3], of how dark print is and how much the pen covers, 0..1."""
    size = printed.shape[0]
    gray = rng.random() < 0.5  # a scan without color
    paper = 1 - wear * rng.random(3) * (0.08, 0.09, 0.16) - 0.04 * wear * _clouds(rng, size, 12)
    toner = 0.25 * wear * rng.random() * np.ones(3)
    pen = np.array([(0.1, 0.15, 0.6), (0.15, 0.15, 0.15), (0.65, 0.1, 0.1)][int(3 * rng.random())]) + 0.1 * rng.random()

    back = np.roll(printed[:, ::-1], tuple((size * rng.random(2)).astype(int)), axis=(0, 1))  # the other side's print
    through = 0.3 * wear * max(rng.random() - 0.4, 0) * _blur(back, 1 + rng.random())
    fade = 1 - 0.35 * wear * rng.random() * _clouds(rng, size, 6)
    image = paper * (1 - through[..., None])
    image += (printed[..., None] * fade) * (toner - image)
    image += (penned[..., None] * (1 - 0.2 * wear * rng.random())) * (pen - image)
    image *= 1 - min(0.65 * wear * rng.random(), 0.8) * _clouds(rng, size, 2)  # the light
    if gray:
        image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    image = _blur(np.clip(image, 0, 1), 0.8 * wear * rng.random())
    image += 0.03 * wear * rng.random() * rng.standard_normal((size, size, 1 if gray else 3), np.float32)
    return np.clip(255 * image + 0.5, 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Returns smooth noise, float32[size, size, 1] in 0..1."""
    from PIL import Image

    grid = Image.fromarray(rng.random((cells + 1, cells + 1), np.float32))
    return np.clip(np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)[..., None]


def _blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Returns an image in 0..1, of one band or three, blurred; it is rounded to 8 bits on the way."""
    from PIL import Image, ImageFilter

    picture = Image.fromarray((255 * image + 0.5).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))).astype(np.float32) / 255
