"""Label maps and probabilities of large images, by rows: tiled TIFFs with overviews, and outlines of regions."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from jaxseg.data.readers import geo
from jaxseg.data.readers.geo import BLOCK
from jaxseg.files import atomic_path

SMALLEST = 512  # pixels of the longer side of the most reduced version
ReadRows = Callable[[int, int], Shaped[np.ndarray, "h w c"]]  # (first, end) -> those rows


def write_tiff(
    path: str | Path,
    read: ReadRows,
    size: tuple[int, int],
    dtype: np.dtype,
    place: geo.Georeference | None,
    *,
    palette: Sequence[tuple[int, int, int]] = (),
    nodata: int | None = None,
    names: Sequence[str] = ("",),
) -> None:
    """Writes a compressed, tiled (Big)TIFF of labels or probabilities, whole or not at all.

    With rasterio installed it lies where `place` says and has reduced versions (overviews) by nearest neighbors.

    Args:
      path: of the file.
      read: reads rows.
      size: (height, width), pixels.
      dtype: uint8 or uint16.
      place: where the image lies; None if it does not say.
      palette: the color, 0..255, of each label, of one band of uint8.
      nodata: the value that the file declares as holding nothing.
      names: of the bands.
    """
    with atomic_path(path) as part:
        if geo.is_installed():
            chunks = ((top, read(top, min(top + BLOCK, size[0]))) for top in range(0, size[0], BLOCK))
            factors = [2**n for n in range(1, 20) if max(size) / 2**n >= SMALLEST]
            options = {"nodata": nodata, "palette": palette, "overviews": factors, "names": names}
            geo.write_rows(str(part), chunks, size, dtype, place, **options)
            return
        import tifffile

        options = {"photometric": "minisblack", "planarconfig": "contig" if len(names) > 1 else None}
        if palette:
            colors = np.zeros((3, 256), np.uint16)
            colors[:, : len(palette)] = np.asarray(palette, np.uint16).T * 257
            options = {"photometric": "palette", "colormap": colors}
        shape = (*size, len(names)) if len(names) > 1 else size
        with tifffile.TiffWriter(part, bigtiff=math.prod(shape) * dtype.itemsize > 2**31) as file:
            blocks = _blocks(read, size, dtype, len(names))
            file.write(blocks, shape=shape, dtype=dtype, tile=(BLOCK, BLOCK), compression="zlib", **options)


def _blocks(
    read: ReadRows, size: tuple[int, int], dtype: np.dtype, bands: int
) -> Iterator[Shaped[np.ndarray, "h w *c"]]:
    """The tiles of the file, from left to right and top to bottom, those at the edges filled up with zeros."""
    for top in range(0, size[0], BLOCK):
        rows = np.zeros((BLOCK, -(-size[1] // BLOCK) * BLOCK, bands), dtype)
        found = read(top, min(top + BLOCK, size[0]))
        rows[: len(found), : size[1]] = found
        for left in range(0, rows.shape[1], BLOCK):
            block = np.ascontiguousarray(rows[:, left : left + BLOCK])
            yield block if bands > 1 else block[..., 0]


def write_outlines(path: str | Path, tiff: str | Path, classes: Mapping[int, tuple[int, str]]) -> None:
    """Writes GeoJSON: the outline of every connected region of a label TIFF, one feature after the other.

    Args:
      path: of the file.
      tiff: of `write_tiff`.
      classes: stored value -> (label, name); regions of other values are left out.
    """
    name, found = geo.outlines(str(tiff))
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection"')
        if name is not None:
            file.write(f', "crs": {json.dumps({"type": "name", "properties": {"name": name}})}')
        file.write(', "features": [')
        for i, feature in enumerate(geo.region_features(found, classes)):
            file.write((",\n" if i else "") + json.dumps(feature))
        file.write("]}")
