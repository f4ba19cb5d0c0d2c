"""Statistics of the stored values of a split: the window, mean and standard deviation of every band."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Num

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.data.dataset import Source

IMAGES = 64  # that are looked at, evenly spread over a split
PIXELS = 2**14  # that are looked at in each

Pixels = tuple[tuple[float, ...], tuple[float, ...]]  # mean, standard deviation


def spread(source: Source, count: int = IMAGES) -> Iterable[Num[np.ndarray, "h w c"]]:
    """Yields the images of `count` records, evenly spread over the source: always the same ones."""
    for index in np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)):
        yield np.asarray(source[int(index)]["image"])


def fit_window(images: Iterable[Num[np.ndarray, "h w c"]], bands: Bands) -> tuple[tuple[float, float], ...]:
    """Returns the window of every band between `bands.percentiles` of its values in the images.

    >>> ramp = np.arange(1001, dtype=np.uint16).reshape(7, 143, 1)
    >>> fit_window([ramp], Bands(("gray",), "uint16", percentiles=(1, 99)))
    ((10.0, 990.0),)
    """
    values = _values(images, bands)
    window = []
    for name, band in zip(bands.names, values, strict=True):
        if not band.size:
            raise UserError(
                f"The band '{name}' holds no number in the images that were looked at. Leave it out: bands=."
            )
        low, high = np.percentile(band, bands.percentiles)
        if low == high:  # of a band that is nearly constant, the whole range
            low, high = float(band.min()), float(band.max())
        window.append((float(low), float(high) if high > low else float(low) + 1.0))
    return tuple(window)


def fit_mean_and_std(images: Iterable[Num[np.ndarray, "h w c"]], bands: Bands) -> Pixels:
    """Returns the mean and the standard deviation of every band, in 0..255 after the window; nodata does not count."""
    values = _values(images, bands)
    low, high = np.asarray(bands.window or ((0, 255),) * bands.count, np.float64).T
    scaled = [np.clip((v - l) * 255 / (h - l), 0, 255) for v, l, h in zip(values, low, high, strict=True)]
    # A band that says nothing is not to be blown up.
    return tuple(float(v.mean()) for v in scaled), tuple(max(float(v.std()), 1.0) for v in scaled)


def far_value(images: Iterable[Num[np.ndarray, "h w c"]], bands: Bands) -> tuple[float, float, float, float] | None:
    """Returns a value that seems to stand for nothing: further from all others than these are from each other.

    It is the least or the greatest of all bands. The result is (value, its share, least and greatest of the others),
    None if there is none.

    >>> image = np.array([[65535, 65535, 900, 1010, 1020, 1100, 1200]], np.uint16)[..., None]
    >>> far_value([image], Bands(("gray",), "uint16"))
    (65535.0, 0.2857142857142857, 900.0, 1200.0)
    """
    values = np.concatenate(_values(images, bands))
    for end, side in ((np.max, -1), (np.min, 0)):
        if not values.size:
            return None
        value = end(values)
        others = values[values != value]
        if len(np.unique(others[:PIXELS])) < 5:  # a mask, or nearly
            continue
        low, high = others.min(), others.max()
        if values.size - others.size > 1 and abs(value - (low, high)[side]) > high - low:
            return float(value), 1 - others.size / values.size, float(low), float(high)
    return None


def _values(images: Iterable[Num[np.ndarray, "h w c"]], bands: Bands) -> list[np.ndarray]:
    """The values of each band, float64, less those that hold nothing, thinned out evenly."""
    found: list[list[np.ndarray]] = [[] for _ in bands.names]
    for image in images:
        flat = np.asarray(image).reshape(-1, bands.count)
        flat = flat[:: max(1, len(flat) // PIXELS)]
        empty = np.asarray(bands.empty(flat))
        for i, values in enumerate(found):
            values.append(flat[~empty[:, i], i].astype(np.float64))
    return [np.concatenate(values) if values else np.zeros(0) for values in found]
