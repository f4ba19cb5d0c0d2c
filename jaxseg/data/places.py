"""What the files of a data set say of themselves and a network does not see: where they lie, and what bands are called.

A label beside its image, tiles that lie over each other in two splits, bands in another order: the arrays fit all the
same, and a run learns or scores what is wrong.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxseg.checks import listing, percent
from jaxseg.data.check import Facts, Look
from jaxseg.data.dataset import Dataset
from jaxseg.data.readers import geo
from jaxseg.data.readers.geo import Georeference
from jaxseg.data.readers.stored import is_stated

SHIFTED = 0.5  # pixels by which a corner of a label may lie off that of its image; programs round
OVERLAP = 0.01  # share of an image that is trained on and validated on, from which on that is said


def label_warnings(dataset: Dataset, seen: Look) -> list[str]:
    """Returns the warnings about the labels of a split that say to lie elsewhere, or to hold nothing where they count.

    Args:
      dataset: that the split is of.
      seen: the look at the split.
    """
    said, apart = [], [(fact.name, off) for fact in seen.facts if (off := offset(fact)) is not None]
    if apart:
        worst = max(off for _, off in apart)
        there = "in another coordinate system" if np.isinf(worst) else f"up to {_rounded(worst)} pixels away"
        said.append(
            f"{seen.split}: {len(apart)} labels lie elsewhere than their images, {there}, by what the files say:"
            f" {listing([name for name, _ in apart])}. They have as many pixels, but of another place. Bring each onto"
            " the pixels of its image: rio warp LABEL OUT --like IMAGE --resampling nearest."
        )
    counts: dict[int, int] = {}
    for fact in seen.facts:
        for label, count in fact.unheeded.items():
            counts[label] = counts.get(label, 0) + count
    if counts:
        classes = ("not of the class", *dataset.classes) if dataset.num_classes == 1 else dataset.classes
        names = listing([classes[label] for label in sorted(counts)], 4)
        share = sum(counts.values()) / max(seen.counts.sum(), 1)
        files = sum(bool(fact.unheeded) for fact in seen.facts)
        said.append(
            f"{seen.split}: {files} labels say (GDAL's nodata) that {percent(share)} of the pixels hold nothing,"
            f" which count as {names} all the same. To ignore them, list the value in data.label_ignore; where it is a"
            " class, this is as it should be."
        )
    return said


def _rounded(number: float) -> str:
    """Three digits, without an exponent: 5420000."""
    return np.format_float_positional(number, 3, fractional=False, trim="-")


def order_warnings(seen: Look) -> list[str]:
    """Returns a warning where files name their bands otherwise than the data set: bands are taken in their order."""
    if not is_stated(seen.bands.names):
        return []
    mine = [name.lower() for name in seen.bands.names]
    others = [f for f in seen.facts if len(f.names) == len(mine) and is_stated(f.names)]
    others = [f for f in others if [name.lower() for name in f.names] != mine]
    if not others:
        return []
    return [
        f"{seen.split}: {len(others)} images name their bands {listing(others[0].names, 6)}, the data set"
        f" {listing(seen.bands.names, 6)}: {listing([f.name for f in others])}. A run takes bands in the order of the"
        " files. Store them in one order."
    ]


def scaling_warnings(seen: Look) -> list[str]:
    """Returns a warning where files say to be scaled: numbers are taken as stored, whatever they stand for."""
    first: dict[tuple[tuple[float, float], ...], str] = {}  # what files say -> the first that does
    for fact in seen.facts:
        first.setdefault(fact.scaling, fact.name)
    if set(first) <= {()}:
        return []
    scaled = sum(bool(fact.scaling) for fact in seen.facts)
    said = f"{seen.split}: {scaled} images say (GDAL) that their numbers are to be scaled, which is not done"
    if len(first) == 1:
        return [f"{said}: {_factors(next(iter(first)))}. Predict on images that say the same."]
    told = listing([f"{name} {_factors(scaling)}" for scaling, name in first.items()], 3)
    return [
        f"{said}, and not all in one way: {told}. Equal numbers are then not equal amounts. Bring all images into one"
        " unit: gdal_translate -unscale -ot Float32 IMAGE OUT."
    ]


def _factors(scaling: tuple[tuple[float, float], ...]) -> str:
    pairs = list(dict.fromkeys(scaling)) or [(1.0, 0.0)]
    return " and ".join(f"times {scale:g} plus {offset:g}" for scale, offset in pairs[:2]) + " …" * (len(pairs) > 2)


def offset(fact: Facts) -> float | None:
    """Returns by how many pixels a label lies off its image, inf in another system; None where it does not."""
    image, label = fact.places
    if image is None or label is None:
        return None
    if not geo.same_system(image, label):
        return float("inf")
    height, width = fact.size
    there, here = _to_pixels(image, corners(label, fact.size)), ((0, 0), (width, 0), (0, height), (width, height))
    off = float(np.hypot(*(there - here).T).max())
    return off if off > SHIFTED else None


def overlap_warnings(looks: Sequence[Look]) -> list[str]:
    """Returns a warning where images of other splits lie over those of the first, the one to train on."""
    train = [fact for fact in looks[0].facts if fact.places[0] is not None] if looks else []
    if not train:
        return []
    edges = np.stack([corners(fact.places[0], fact.size) for fact in train])
    low, high = edges.min(1).T, edges.max(1).T  # (x, y) of the boxes around: of thousands of tiles few are near one
    systems = _systems([fact.places[0] for seen in looks for fact in seen.facts if fact.places[0] is not None])
    own = np.array([systems[fact.places[0].crs] for fact in train])
    said = []
    for seen in looks[1:]:
        found: list[tuple[float, str, str]] = []  # (share, name, that of the image over it)
        for fact in seen.facts:
            if (place := fact.places[0]) is None:
                continue
            here = corners(place, fact.size)
            left, top, right, bottom = *here.min(0), *here.max(0)
            near = (low[0] < right) & (high[0] > left) & (low[1] < bottom) & (high[1] > top)
            others = np.flatnonzero(near & (own == systems[place.crs]))
            if not others.size:
                continue
            shares = _shares(place, fact.size, edges[others])
            if shares.max() > OVERLAP:
                found.append((float(shares.max()), fact.name, train[int(others[shares.argmax()])].name))
        if found:
            share, name, other = max(found)
            said.append(
                f"{len(found)} images of '{seen.split}' lie over images of '{looks[0].split}', {name} by"
                f" {100 * share:.0f} % over {other}. Scores on pixels that were trained on say little."
                " Divide the scene first and cut the tiles then, or keep the tiles of a scene on one side:"
                " data.options.group."
            )
    return said


def _systems(places: Sequence[Georeference]) -> dict[str, int]:
    """A number for the words of each coordinate reference system, one for all words of the same."""
    known: list[Georeference] = []
    numbers: dict[str, int] = {}
    for place in places:
        if place.crs not in numbers:
            numbers[place.crs] = next((i for i, one in enumerate(known) if geo.same_system(one, place)), len(known))
            known += [place] * (numbers[place.crs] == len(known))
    return numbers


def _shares(place: Georeference, size: tuple[int, int], others: Float[np.ndarray, "n 4 2"]) -> Float[np.ndarray, " n"]:
    """The share of an image that each other lies over, by their corners; 0 of those that are turned otherwise."""
    x, y = np.moveaxis(_to_pixels(place, others), -1, 0)
    turned = (abs(y[:, 1] - y[:, 0]) > SHIFTED) | (abs(x[:, 2] - x[:, 0]) > SHIFTED)
    height, width = size
    wide = np.minimum(x.max(1), width) - np.maximum(x.min(1), 0)
    high = np.minimum(y.max(1), height) - np.maximum(y.min(1), 0)
    return np.where(turned, 0, np.maximum(wide, 0) * np.maximum(high, 0) / (height * width))


def corners(place: Georeference, size: tuple[int, int]) -> Float[np.ndarray, "4 2"]:
    """Returns (x, y) of the corners of an image, row by row.

    >>> corners(Georeference("", (10, 0, 500, 0, -10, 900)), (2, 3)).tolist()
    [[500.0, 900.0], [530.0, 900.0], [500.0, 880.0], [530.0, 880.0]]
    """
    a, b, c, d, e, f = place.transform
    height, width = size
    pixels = np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64)
    return pixels @ np.array([(a, d), (b, e)], np.float64) + (c, f)


def _to_pixels(place: Georeference, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """The (column, row) of an image at which points lie."""
    a, b, c, d, e, f = place.transform
    return (points - (c, f)) @ np.linalg.inv(np.array([(a, d), (b, e)], np.float64))
