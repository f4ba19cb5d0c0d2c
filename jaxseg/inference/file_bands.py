"""The bands that a model takes of an image file."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseg.checks import listing
from jaxseg.data import readers
from jaxseg.data.bands import Bands
from jaxseg.data.readers.stored import Window, is_stated


def read_for(file: str, page: int | None, bands: Bands) -> tuple[np.ndarray, list[str]]:
    """Returns an image as a model of these bands needs it, and what is to be said: which others were left out.

    Bands are found by their names; where the file calls them otherwise, by their order. What holds nothing by the file
    holds nothing for the model.

    Args:
      file: the image.
      page: of the file, None if it holds one image.
      bands: of the model.
    """
    chosen = bands_for(file, bands)
    return chosen.read(page), chosen.notes


class Chosen(NamedTuple):
    """What a model takes of a file.

    Args:
      file: the image.
      bands: of the model.
      numbers: of the stored bands that it needs, None if they are as they come.
      nodata: the value that holds nothing by the file, where the model has another.
      notes: what is to be said.
    """

    file: str
    bands: Bands
    numbers: tuple[int, ...] | None
    nodata: float | None
    notes: list[str]

    def read(self, page: int | None, window: Window | None = None) -> np.ndarray:
        """Returns the pixels of a page, or a (top, left, height, width) of it, as the model has them."""
        image = readers.read_image(self.file, page=page or 0, window=window, bands=self.numbers)
        image = self.bands.check(image, self.file)
        if self.nodata is None:
            return image
        return np.where(image == self.nodata, np.asarray(nothing(self.bands), image.dtype), image)


def nothing(bands: Bands) -> float | None:
    """Returns a value that holds nothing for a model, None where there is none.

    There is none either where files declare one that their type does not hold, such as -9999 of 8 bits.

    >>> nothing(Bands(nodata=255.0)), nothing(Bands(nodata=-9999.0)), nothing(Bands(("gray",), "float32"))
    (255.0, None, nan)
    """
    if bands.dtype == "float32":
        return math.nan if bands.nodata is None else bands.nodata
    if bands.nodata is None:
        return None
    limits = np.iinfo(bands.dtype)
    return bands.nodata if limits.min <= bands.nodata <= limits.max and bands.nodata == int(bands.nodata) else None


def bands_for(file: str, bands: Bands) -> Chosen:
    """Returns what a model takes of a file, and what is to be said of it.

    Args:
      file: the image.
      bands: of the model.
    """
    known = readers.header(file)
    chosen, notes = None, []
    stored, wanted = ([name.lower() for name in names] for names in (known.stored, bands.names))
    if known.names != bands.names and set(wanted) <= set(stored):
        chosen = tuple(stored.index(name) for name in wanted)
        left = [name for name in known.stored if name.lower() not in (*wanted, "alpha")]
        if left:
            notes = [f"{file}: the model sees {listing(bands.names, 8)}; not {listing(left, 8)}."]
    elif known.names != bands.names and is_stated(known.names) and is_stated(bands.names):
        notes = [
            f"{file}: its bands are called {listing(known.names, 8)}, the model's {listing(bands.names, 8)}: they are"
            " taken in this order. If it is another, name them as the model does (GDAL's descriptions)."
        ]
    if "alpha" in known.stored and "alpha" not in bands.names:  # the same words for all of a folder: said once
        notes.append(f"{Path(file).parent}: the transparency of images is dropped; the colors beneath are used.")
    if known.masked:
        notes.append(
            f"{Path(file).parent}: the mask that files have inside is not used: what it hides is labeled, too. Store"
            " nodata instead, docs/aerial.md says how."
        )
    told, nodata = known.nodata, None
    if told is not None and not math.isnan(told) and told != bands.nodata:
        if nothing(bands) is None:
            notes.append(
                f"{Path(file).parent}: {told:g} holds nothing by what files say; the model knows no such value, and"
                " labels its pixels as others. Train with data.options.nodata to have them left out."
            )
        else:
            nodata = told
    return Chosen(file, bands, chosen, nodata, notes)
