"""Georeferenced images by rasterio (GDAL): formats that nothing else here reads, and the place of an image on earth."""

import dataclasses
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import missing, unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

SUFFIXES = (".jp2", ".vrt", ".img")
BLOCK = 256  # sides of the tiles of files that are written, pixels
CACHE = 64  # MB of decoded tiles that GDAL keeps while a large file is written
_OPENING = threading.Lock()  # warnings are let by for all threads at once: of two, one would bring back the other's
_TAGS = (34735, 33550, 34264)  # of a TIFF, that hold GeoTIFF's keys, the size of a pixel, or the whole transform


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
        scaling = stored.scaling(file.scales, file.offsets)
        return Header(1, file.height, file.width, len(names), dtype, names, file.nodata, stored=known, scaling=scaling)


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


def place_of(path: str) -> Georeference | None:
    """Returns what `georeference` does, None for files that cannot say it, and where rasterio is not installed.

    None too for files that name a coordinate system and no place in it: without a transform, or with pixels of no size.
    """
    from jaxseg.data.readers import opening

    if opening.suffix(path) not in (".tif", ".tiff", *SUFFIXES) or not is_installed():
        return None
    try:
        place = georeference(path)
    except UserError:  # a TIFF that others read
        return None
    if place is None or place.transform == (1, 0, 0, 0, 1, 0):
        return None
    a, b, _, d, e, _ = place.transform
    return place if a * e != b * d else None


def same_system(one: Georeference, other: Georeference) -> bool:
    """Returns whether two places are in one coordinate reference system, in whatever words."""
    if one.crs == other.crs:
        return True
    crs = _rasterio("A map").crs.CRS
    return crs.from_wkt(one.crs) == crs.from_wkt(other.crs)


def has_transform(path: str) -> bool:
    """Returns whether a file says where its pixels lie, be it in a coordinate system that it does not name."""
    with _open(path, b"") as file:
        return not file.transform.is_identity


def has_control_points(path: str) -> bool:
    """Returns whether a file says where some of its pixels lie, from which the others follow only by warping."""
    with _open(path, b"") as file:
        return bool(file.gcps[0])


def is_georeferenced(path: str) -> bool:
    """Whether a file may say where its image lies: a TIFF with GeoTIFF's tags, or one of `SUFFIXES`.

    This does not need rasterio.
    """
    from jaxseg.data.readers import opening

    if opening.suffix(path) in SUFFIXES:
        return True
    if not opening.is_tiff(opening.check_file(path)):
        return False
    import tifffile

    with tifffile.TiffFile(path) as file:
        return any(tag in file.pages[0].tags for tag in _TAGS)


def polygons(values: np.ndarray, place: Georeference | None, where: np.ndarray) -> list[tuple[dict[str, Any], int]]:
    """Returns (geometry as in GeoJSON, value) of every connected region of one value.

    Args:
      values: whole numbers [h, w].
      place: whose coordinates are used; None uses (column, row), in pixels.
      where: bool [h, w], the pixels that count.
    """
    rasterio = _rasterio("A map")
    from rasterio import features

    transform = rasterio.Affine.identity() if place is None else rasterio.Affine(*place.transform)
    found = features.shapes(values.astype(np.int32), mask=where, transform=transform)
    return [(geometry, int(value)) for geometry, value in found]


def region_features(
    found: Iterable[tuple[dict[str, Any], int]], classes: Mapping[int, tuple[int, str]]
) -> Iterator[dict[str, Any]]:
    """Yields regions as GeoJSON's features, with the properties "label" and "class".

    Args:
      found: (geometry, value) of each, as `polygons` and `outlines` return them.
      classes: value -> (label, name); regions of other values are left out.

    >>> list(region_features([({"type": "Polygon"}, 7), ({"type": "Polygon"}, 255)], {7: (0, "road")}))
    [{'type': 'Feature', 'properties': {'label': 0, 'class': 'road'}, 'geometry': {'type': 'Polygon'}}]
    """
    for geometry, value in found:
        if value in classes:
            label, name = classes[value]
            yield {"type": "Feature", "properties": {"label": label, "class": name}, "geometry": geometry}


def crs_name(place: Georeference) -> str | None:
    """Returns the coordinate reference system's name in the registry of OGC, None if it has none there."""
    rasterio = _rasterio("A map")
    known = rasterio.crs.CRS.from_wkt(place.crs).to_authority()
    return None if known is None else f"urn:ogc:def:crs:{known[0]}::{known[1]}"


def write_geotiff(
    path: str,
    values: np.ndarray,
    place: Georeference | None,
    *,
    nodata: float | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Writes [h, w] or [h, w, c] as a compressed, tiled GeoTIFF that lies where `place` says.

    Args:
      path: of the file.
      values: uint8, uint16, int16 or float32.
      place: of the image that the values are of; None writes a TIFF without one.
      nodata: the value that the file declares as holding nothing.
      palette: the color, 0..255, in which each value of one band of uint8 is shown.
    """
    rasterio = _rasterio(path)
    values = values[..., None] if values.ndim == 2 else values
    height, width, count = values.shape
    options = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    where = {} if place is None else {"crs": place.crs, "transform": rasterio.Affine(*place.transform)}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype.name, nodata=nodata,
        **options, **where,
    ) as file:  # fmt: skip
        if palette:  # before the pixels: the file's header says that there is one
            file.write_colormap(1, {i: (*color, 255) for i, color in enumerate(palette)})
        file.write(np.moveaxis(values, -1, 0))


def write_rows(
    path: str,
    rows: Iterable[tuple[int, np.ndarray]],
    size: tuple[int, int],
    dtype: np.dtype,
    place: Georeference | None,
    *,
    nodata: float | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
    overviews: Sequence[int] = (),
    names: Sequence[str] = ("",),
) -> None:
    """Writes bands, rows after rows, as `write_geotiff` writes what is in memory.

    Args:
      path: of the file.
      rows: (top, values [h, w, bands]) from top to bottom, `BLOCK` rows at a time.
      size: (height, width), pixels.
      dtype: of the values.
      place: as for `write_geotiff`, as are `nodata` and `palette`.
      nodata: see there.
      palette: see there.
      overviews: factors of the reduced versions, by nearest neighbors, that the file has too.
      names: of the bands.
    """
    rasterio = _rasterio(path)
    from rasterio.enums import Resampling
    from rasterio.windows import Window as Part

    options = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    where = {} if place is None else {"crs": place.crs, "transform": rasterio.Affine(*place.transform)}
    with rasterio.Env(GDAL_CACHEMAX=CACHE), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=size[0], width=size[1], count=len(names), dtype=dtype.name, nodata=nodata,
            **options, **where,
        ) as file:  # fmt: skip
            if palette:
                file.write_colormap(1, {i: (*color, 255) for i, color in enumerate(palette)})
            file.descriptions = tuple(name or None for name in names)
            for top, values in rows:
                file.write(np.moveaxis(values, -1, 0), window=Part(0, top, size[1], len(values)))
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews(list(overviews), Resampling.nearest)


def outlines(path: str) -> tuple[str | None, Iterator[tuple[dict[str, Any], int]]]:
    """Returns the name of the coordinate reference system of a file of one band, and what `polygons` does of it.

    The file need not fit into memory.
    """
    rasterio = _rasterio(path)
    from rasterio import features

    place = georeference(path)

    def found() -> Iterator[tuple[dict[str, Any], int]]:
        with rasterio.Env(GDAL_CACHEMAX=CACHE), _open(path, b"") as file:
            for geometry, value in features.shapes(rasterio.band(file, 1)):
                yield geometry, int(value)

    return None if place is None else crs_name(place), found()


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
    rasterio = _rasterio(path)
    try:
        with _OPENING, warnings.catch_warnings():
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
        pixel = len(bands) * np.dtype(file.dtypes[0]).itemsize
        stored.check_size(file.width, file.height, path, pixel)
    stored.check_window(box, (file.height, file.width))
    top, left, height, width = box
    try:
        values = file.read([b + 1 for b in bands], window=Part(left, top, width, height))
    except Exception as error:
        raise unreadable(path, error, start) from None
    return np.moveaxis(values, 0, -1)
