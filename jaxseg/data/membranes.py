"""The embedded data set of membranes: cells under an electron microscope, drawn on demand; nothing to download.

An image is a pure function of (seed, split, index). It looks somewhat like a slice of the challenge ISBI 2012: cells
are the regions of a Voronoi diagram, stretched and warped, and between two of them lies a dark membrane of 2 to 5
pixels, whatever the image's size. What makes it hard is drawn too: membranes that fade where they are cut at a slant,
dark bodies and vesicles in the cells whose outlines look like membranes and are none, blur, and the shot noise of few
electrons.

The label is exact, and comes before all this: a pixel is of class membrane if its distance to the border of two cells
is at most half of the membrane's width there. So cells never touch in the label: the regions of class cell that are
connected (over edges, not corners) are the cells.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxseg.checks import UserError
from jaxseg.data.dataset import Dataset
from jaxseg.data.drawn import drawn_splits

CLASSES = ("cell", "membrane")
PALETTE = ((230, 230, 225), (64, 64, 72))
CELL, MEMBRANE = range(2)
IGNORE = 255
WIDTH = (2.0, 5.0)  # of membranes, pixels
PITCH = 38.0  # the cells' mean distance, pixels
STRETCH = 1.6  # largest ratio of a cell's length to its width, but for the warp
REACH = 4  # pixels around the border of two cells in which distances are exact


class Specimen(NamedTuple):
    """What is under the microscope, while it is drawn."""

    image: Float[np.ndarray, "size size"]  # how much light passes, 0..1; drawn into
    cells: Int[np.ndarray, "size size"]  # which each pixel is in
    inside: Bool[np.ndarray, "size size"]  # of a cell, off its membrane

    def place(self, rng: np.random.Generator) -> tuple[int, int]:
        """Returns a random (row, column)."""
        row, column = (int(len(self.image) * part) for part in rng.random(2))
        return row, column

    def within(self, part: tuple[slice, slice], row: int, column: int) -> Bool[np.ndarray, "h w"]:
        """Returns where a part of the image is inside of the cell at a place."""
        return self.inside[part] & (self.cells[part] == self.cells[row, column])


def membranes(*, size: int = 128, train: int = 512, val: int = 64, seed: int = 0, wear: float = 1.0) -> Dataset:
    """Two classes of drawn electron micrographs: cell, membrane.

    Args:
      size: side of the images, pixels (ISBI 2012 has 512); a larger image shows more cells of the same size.
      train: number of images of the split "train".
      val: number of images of the split "val".
      seed: of all images; another seed is another data set of the same kind.
      wear: how faint membranes are in places, and how blurred and noisy the image is, 0 to 2; the labels do not depend
        on it.
    """
    given = {"size": size, "train": train, "val": val, "seed": seed, "wear": wear}
    splits = drawn_splits(membranes, draw, given, smallest=32)
    if not 0 <= wear <= 2:
        raise UserError(f"membranes: `wear` must be in [0, 2], got {wear}.")
    return Dataset("membranes", CLASSES, PALETTE, splits, IGNORE)


def draw(rng: np.random.Generator, size: int, wear: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image, uint8[size, size, 3], gray, and its label, uint8[size, size], that `rng` leads to."""
    cells = _cells(rng, size)
    distance = _distance(cells)
    width = WIDTH[0] + (WIDTH[1] - WIDTH[0]) * _field(rng, size, 2 * PITCH)
    label = np.where(distance <= width / 2, MEMBRANE, CELL).astype(np.uint8)

    tones = 0.62 + 0.2 * rng.random(cells.max() + 1, np.float32)  # each cell's own
    image = tones[cells] + 0.1 * (_field(rng, size, 3) - 0.5) + 0.12 * (_field(rng, size, 10) - 0.5)
    specimen = Specimen(image, cells, distance > width / 2 + 1)
    for _ in range(_count(rng, size, 0.6)):
        _add_body(rng, specimen)
    for _ in range(_count(rng, size, 0.5)):
        _add_vesicles(rng, specimen)
    faint = 0.85 * min(wear, 1.15) * np.clip(2.5 * _field(rng, size, PITCH / 2) - 1.5, 0, 1)  # where cut at a slant
    cover = np.clip(width / 2 + 0.5 - distance, 0, 1) * (1 - faint)
    image += cover * (0.2 + 0.1 * rng.random() - image)
    gray = _micrograph(rng, image, wear)
    return np.repeat(gray[..., None], 3, axis=-1), label  # gray files of 8 bits become RGB, too


def _count(rng: np.random.Generator, size: int, per_cell: float) -> int:
    """A random number of things, so many for each cell on average."""
    return int(2 * rng.random() * per_cell * (size / PITCH) ** 2 + rng.random())


def _cells(rng: np.random.Generator, size: int) -> Int[np.ndarray, "size size"]:
    """Returns which cell each pixel is in: the nearest of random sites, of places that are stretched and warped."""
    margin = 2 * PITCH
    side = size + 2 * margin
    sites = (side * rng.random((int((side / PITCH) ** 2), 2)) - margin).astype(np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    for amplitude, scale in ((14.0, 1.2 * PITCH), (4.0, 0.4 * PITCH)):
        y, x = (axis + amplitude * (2 * _field(rng, size, scale) - 1) for axis in (y, x))
    angle, stretch = math.pi * rng.random(), math.sqrt(STRETCH ** rng.random())
    c, s = math.cos(angle), math.sin(angle)
    middle = size / 2
    u, v = (c * (x - middle) + s * (y - middle)) / stretch, (c * (y - middle) - s * (x - middle)) * stretch
    y, x = middle + s * u + c * v, middle + c * u - s * v
    nearest, cells = np.full((size, size), np.inf, np.float32), np.zeros((size, size), np.int32)
    for i, (row, column) in enumerate(sites.tolist()):
        squared = np.square(y - row) + np.square(x - column)
        closer = squared < nearest
        nearest[closer], cells[closer] = squared[closer], i
    return cells


def _distance(cells: Int[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    """Returns each pixel's distance to the border of its cell, pixels: half a pixel less than to the next cell's pixel.

    Beyond REACH it is REACH.
    """
    size = cells.shape[0]
    padded = np.pad(cells, REACH, mode="edge")
    distance = np.full(cells.shape, REACH, np.float32)
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            far = math.hypot(dy, dx) - 0.5
            if 0 < far < REACH:
                other = padded[REACH + dy : REACH + dy + size, REACH + dx : REACH + dx + size] != cells
                np.minimum(distance, np.where(other, np.float32(far), np.float32(REACH)), out=distance)
    return distance


def _add_body(rng: np.random.Generator, specimen: Specimen) -> None:
    """Draws a mitochondrion into one cell: a dark oval with a darker rim and folds across."""
    image, (row, column) = specimen.image, specimen.place(rng)
    long, angle = 5 + 7 * rng.random(), math.pi * rng.random()
    wide, tone, folds = long * (0.45 + 0.35 * rng.random()), 0.35 + 0.12 * rng.random(), 0.8 + 0.5 * rng.random()
    part, y, x = _window(len(image), row, column, 14)
    c, s = math.cos(angle), math.sin(angle)
    u, v = c * x + s * y, c * y - s * x
    out = (np.hypot(u / long, v / wide) - 1) * wide  # distance to the rim, about
    body = tone + 0.06 * np.sin(folds * u) - 0.15 * np.exp(-np.square(out + 0.8))
    cover = np.clip(0.5 - out, 0, 1) * specimen.within(part, row, column)
    image[part] += cover * (body - image[part])


def _add_vesicles(rng: np.random.Generator, specimen: Specimen) -> None:
    """Draws some vesicles into one cell: little rings."""
    image, (row, column) = specimen.image, specimen.place(rng)
    size = len(image)
    for dy, dx in (rng.standard_normal((2 + int(5 * rng.random()), 2)) * 6).astype(int).tolist():
        radius = 1.8 + 1.5 * rng.random()
        y, x = row + dy, column + dx
        if not (0 <= y < size and 0 <= x < size):
            continue
        part, v, u = _window(size, y, x, 6)
        ring = 0.35 * np.exp(-np.square((np.hypot(u, v) - radius) / 0.7))
        here = specimen.within(part, row, column)
        image[part] = np.where(here, np.maximum(image[part] - ring, np.minimum(image[part], 0.3)), image[part])


def _window(size: int, row: int, column: int, reach: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Returns what lies around a place, and each pixel's (y, x) from there."""
    rows = slice(max(row - reach, 0), min(row + reach + 1, size))
    columns = slice(max(column - reach, 0), min(column + reach + 1, size))
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - row
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None] - column
    return (rows, columns), y, x


def _micrograph(
    rng: np.random.Generator, image: Float[np.ndarray, "size size"], wear: float
) -> UInt8[np.ndarray, "size size"]:
    """Returns what the microscope's camera counts of a specimen that lets through 0..1."""
    from scipy.ndimage import gaussian_filter

    size = image.shape[0]
    image = gaussian_filter(image, 0.6 + 0.6 * wear * rng.random())
    image = image * (1 + 0.3 * wear * (_field(rng, size, 2 * PITCH) - 0.5))
    electrons = 120 / max(wear, 1e-3) * (0.4 + 0.6 * rng.random())  # of a white pixel
    # Many enough that their Poisson distribution is a normal one.
    image = image + np.sqrt(np.clip(image, 0, None) / electrons) * rng.standard_normal((size, size), np.float32)
    contrast, level = 1 + 0.3 * (rng.random() - 0.5), 0.1 * (rng.random() - 0.5)
    return np.clip(255 * (0.55 + contrast * (image - 0.55) + level) + 0.5, 0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, size: int, scale: float) -> Float[np.ndarray, "size size"]:
    """Returns smooth noise in 0..1, whose hills are about `scale` pixels apart."""
    from PIL import Image

    count = math.ceil(size / scale) + 3
    grid = Image.fromarray(rng.random((count, count), np.float32))
    left, top = (1 + rng.random(2)).tolist()  # of what is seen of the grid
    box = (left, top, left + size / scale, top + size / scale)
    return np.clip(np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC, box)), 0, 1)
