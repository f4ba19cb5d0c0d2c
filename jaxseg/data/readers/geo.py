"""Georeferenced images by rasterio (GDAL): formats that nothing else here reads, and the place of an image on earth."""

import dataclasses
from typing import Any

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import missing, unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

SUFFIXES = (".jp2", ".vrt", ".img")


@dataclasses.dataclass(frozen=True)
class Georeference:
    """Where an image lies: its coordinate reference system, as WKT, and the six numbers of the affine transform.

    The transform takes (column, row) to (x, y): x = a column + b row + c, y = d column + e row + f.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    with _open(path, start) as file:
        dtype = stored.record_type(file.dtypes[0], path)
        known = _names(file)
        names = _kept(file, dtype, known)
        return Header(1, file.height, file.width, len(names), dtype, names, file.nodata, stored=known)


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the pixels, as `readers.read_image` describes."""
    with _open(path, start) as file:
        stored.check_page(page, 1, path)
        known = _names(file)
        stored.check_bands(bands, known, path)
        kept = _kept(file, stored.record_type(file.dtypes[0], path), known)
        wanted = bands
        if bands is None:
            wanted = tuple(i for i, n in enumerate(known) if n in kept) if known != ("gray",) else (0,)
        image = stored.to_record(_pixels(file, path, start, window, wanted), path)
    return np.repeat(image, 3, 2) if bands is None and image.dtype == np.uint8 and image.shape[2] == 1 else image


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values of the only band."""
    with _open(path, start) as file:
        stored.check_page(page, 1, path)
        if file.count != 1:
            raise UserError(f"{path} has {file.count} bands. A label has one, of class ids.")
        return StoredLabel(stored.to_label(_pixels(file, path, start, window, (0,))[..., 0], path))


def georeference(path: str) -> Georeference | None:
    """Returns where the image in `path` lies, None if the file does not say."""
    with _open(path, b"") as file:
        if file.crs is None:
            return None
        return Georeference(file.crs.to_wkt(), tuple(file.transform)[:6])


def write_geotiff(path: str, values: np.ndarray, place: Georeference | None, *, nodata: float | None = None) -> None:
    """Writes [h, w] or [h, w, c] as a compressed, tiled GeoTIFF that lies where `place` says.

    Args:
      path: of the file.
      values: uint8, uint16, int16 or float32.
      place: of the image that the values are of; None writes a TIFF without one.
      nodata: the value that the file declares as holding nothing.
    """
    rasterio = _rasterio(path)
    values = values[..., None] if values.ndim == 2 else values
    height, width, count = values.shape
    options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    where = {} if place is None else {"crs": place.crs, "transform": rasterio.Affine(*place.transform)}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype.name, nodata=nodata,
        **options, **where,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(values, -1, 0))


def is_installed() -> bool:
    """Whether the extra is."""
    import importlib.util

    return importlib.util.find_spec("rasterio") is not None


def _rasterio(path: str) -> Any:
    try:
        import rasterio
    except ImportError:
        raise missing(path, "geo", "rasterio") from None
    return rasterio


def _open(path: str, start: bytes) -> Any:
    import warnings

    rasterio = _rasterio(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path)
    except Exception as error:
        raise unreadable(path, error, start) from None


def _names(file: Any) -> tuple[str, ...]:
    from rasterio.enums import ColorInterp

    colors = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue", ColorInterp.alpha: "alpha"}
    fallback = stored.band_names(file.count)
    said = zip(file.descriptions, file.colorinterp, fallback, strict=True)
    return tuple(description or colors.get(color, name) for description, color, name in said)


def _kept(file: Any, dtype: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if dtype == "uint8" and known == ("gray",):
        return stored.RGB
    return tuple(n for n in known if n != "alpha")


def _pixels(file: Any, path: str, start: bytes, window: Window | None, bands: tuple[int, ...]) -> np.ndarray:
    from rasterio.windows import Window as Part

    box = window or (0, 0, file.height, file.width)
    if window is None:
        stored.check_size(file.width, file.height, path)
    stored.check_window(box, (file.height, file.width))
    top, left, height, width = box
    try:
        values = file.read([b + 1 for b in bands], window=Part(left, top, width, height))
    except Exception as error:
        raise unreadable(path, error, start) from None
    return np.moveaxis(values, 0, -1)
