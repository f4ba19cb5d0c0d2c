"""Label maps and overlays of image files: what `jaxseg predict` writes."""

import dataclasses
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.bands import empty_pixels, fill_empty
from jaxseg.data.readers import geo
from jaxseg.files import atomic_path, write_text
from jaxseg.inference.file_bands import read_for
from jaxseg.inference.image_list import ImagePage
from jaxseg.inference.large_tiff import write_tiff
from jaxseg.inference.memory import saying_what_to_lower
from jaxseg.inference.predict import Predictor
from jaxseg.inference.uncertainty import Ensemble
from jaxseg.trained import TrainedModel


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is written of an image.

    Args:
      alpha: weight of the overlay's tint, 0 to 1.
      values: writes STEM.png alone (of a georeferenced image STEM.tif), gray: the values that the data set's own label
        files have, as its server wants them.
      geojson: also writes STEM.geojson, the outlines of the connected regions of every class.
      probabilities: also writes STEM_probabilities.tif, a band a label, in units of 1/255.
    """

    alpha: float = 0.5
    values: bool = False
    geojson: bool = False
    probabilities: bool = False


DEFAULT = Outputs()


def predict_file(predictor: Predictor | Ensemble, page: ImagePage, outputs: Outputs = DEFAULT) -> list[str]:
    """Writes STEM_label.png, a palette PNG of class ids, and STEM_overlay.png, the tinted image with a legend.

    Where the image says where on earth it lies, the label map is STEM_label.tif, a GeoTIFF that lies there too. Pixels
    that hold nothing (`Bands.nodata`) get the ignore label. Of an ensemble, STEM_uncertainty.png shows the entropy and
    the mutual information too. Every file is written whole or not at all, the label map last.

    Raises a `UserError` for an image that does not read or is too large for the memory, an `OSError` for what cannot
    be written.

    Args:
      predictor: the model, or several.
      page: the image, a file or a page of one.
      outputs: what is written.

    Returns:
      what is to be said of the image, sentences.
    """
    opened = open_page(predictor.trained, page)
    predicted = label_page(predictor, page, opened, outputs)
    write_page(predictor.trained, page, opened, predicted, outputs)
    return opened.notes


class Opened(NamedTuple):
    """An image that was read."""

    image: np.ndarray  # as the model's bands have it
    place: geo.Georeference | None
    notes: list[str]  # what is to be said of it


class Predicted(NamedTuple):
    """What a model says of an image."""

    label: np.ndarray
    maps: dict[str, np.ndarray]  # of an ensemble's uncertainty
    probabilities: np.ndarray | None = None  # uint8[h, w, labels], where they are wanted


def open_page(trained: TrainedModel, page: ImagePage) -> Opened:
    """Reads an image: the first part of `predict_file`."""
    with saying_what_to_lower(f"{page.file}", _LESS_MEMORY):
        image, notes = read_for(str(page.file), page.page, trained.bands)
    place, note = locate(str(page.file))
    return Opened(image, place, notes + note)


def label_page(
    predictor: Predictor | Ensemble, page: ImagePage, opened: Opened, outputs: Outputs = DEFAULT
) -> Predicted:
    """Predicts an image: the second part of `predict_file`."""
    if tiling := predictor.tiling(opened.image.shape[:2]):
        opened.notes.append(f"images of {'x'.join(map(str, opened.image.shape[:2]))} are predicted in {tiling}")
    with _naming(page, opened):
        if isinstance(predictor, Ensemble):
            maps = predictor.uncertainty(opened.image)
            p = maps.pop("probabilities")
            small = np.round(255 * p).astype(np.uint8) if outputs.probabilities else None
            return Predicted(predictor.label_of(p), maps, small)
        if outputs.probabilities:
            label, p = predictor.label_and_probabilities(opened.image)
            return Predicted(label, {}, p)
        return Predicted(predictor(opened.image), {})


def write_page(
    trained: TrainedModel,
    page: ImagePage,
    opened: Opened,
    predicted: Predicted,
    outputs: Outputs = DEFAULT,
) -> None:
    """Writes what was predicted of an image: the third part of `predict_file`."""
    image, label, place = opened.image, predicted.label, opened.place
    with _naming(page, opened):
        empty = empty_pixels(trained.bands, image)
        label = fill_empty(label, empty, trained.ignore)
        if outputs.geojson:
            _write_geojson(page.stem, label, trained, place)
        if (p := predicted.probabilities) is not None:
            p = fill_empty(p, empty, 0)
            path = f"{page.stem}_probabilities.tif"
            write_tiff(path, lambda a, b: p[a:b], label.shape, p.dtype, place, names=trained.classes)
        if outputs.values:
            _write_gray(page.stem, to_stored(label, trained), place)
        else:
            _write_figures(page.stem, image, label, predicted.maps, trained, outputs.alpha, place)


def _naming(page: ImagePage, opened: Opened) -> AbstractContextManager:
    height, width = opened.image.shape[:2]
    return saying_what_to_lower(f"{page.file}, an image of {height}x{width} (height x width),", _LESS_MEMORY)


_LESS_MEMORY = (
    "Cut it into tiles (--tile 512); or leave out --refine, --dropout or --with, which take more; or predict where more"
    " memory is free, such as on the CPU (JAX_PLATFORMS=cpu)."
)


def is_predicted(page: ImagePage, outputs: Outputs = DEFAULT, *, ensemble: bool = False) -> bool:
    """Says whether all files of an image that `predict_file` writes are there, of whatever model.

    Args:
      page: the image.
      outputs: as for `predict_file`.
      ensemble: whether it is of an ensemble, which writes STEM_uncertainty.png.
    """
    kinds = [(".png", ".tif")] if outputs.values else [("_label.png", "_label.tif"), ("_overlay.png",)]
    kinds += [("_uncertainty.png",)] * (ensemble and not outputs.values) + [(".geojson",)] * outputs.geojson
    kinds += [("_probabilities.tif",)] * outputs.probabilities
    return all(any(page.stem.with_name(page.stem.name + ending).exists() for ending in kind) for kind in kinds)


def to_stored(label: np.ndarray, trained: TrainedModel) -> np.ndarray:
    """Returns the values that stand for labels in the data set's files, uint8 or uint16 [h, w].

    Raises a `UserError` if the model does not know them. The ignore label, which pixels without data have, becomes
    itself.
    """
    if trained.values is None:
        raise UserError(
            "The model does not know other values than its class ids, which NAME_label.png holds: its data set stores"
            " the ids themselves, in colors, or the model was not trained by jaxseg. Leave out --values."
        )
    largest = max(trained.values)
    if min(trained.values) < 0 or largest > 65535:
        raise UserError(f"The data set stores values up to {largest}; a PNG holds 0 to 65535. Leave out --values.")
    table = np.full(max(trained.ignore, len(trained.values)) + 1, trained.ignore)
    table[: len(trained.values)] = trained.values
    stored = table[label]
    return stored.astype(np.uint8 if max(largest, int(stored.max())) <= 255 else np.uint16)


def map_type(trained: TrainedModel) -> np.dtype:
    """Returns the type of georeferenced label maps, one for all of a mosaic: it holds every id and the ignore label."""
    return np.dtype(np.uint8 if max(len(trained.classes), trained.ignore + 1) <= 256 else np.uint16)


def map_nodata(trained: TrainedModel) -> int | None:
    """Returns the value that all of them declare, used or not; None where the ignore label is below 0."""
    return trained.ignore if trained.ignore >= 0 else None


def locate(file: str) -> tuple[geo.Georeference | None, list[str]]:
    """Returns where an image lies, and what is to be said if that is lost."""
    if not geo.is_georeferenced(file):
        return None, []
    if geo.is_installed():
        place = geo.georeference(file)
        if place is None and geo.has_control_points(file):
            lost = f"{file} lies by ground control points: its label is not georeferenced."
            return None, [f"{lost} Warp the image first: gdalwarp {file} warped.tif"]
        lost = f"{file} lies somewhere, but its coordinate system is not in it: its label is not georeferenced. Add it:"
        return place, [f"{lost} gdal_edit.py -a_srs EPSG:…"] if place is None and geo.has_transform(file) else []
    return None, [f"{file} is georeferenced; its label is not, since rasterio is missing: pip install 'jaxseg[geo]'"]


def _write_figures(
    stem: Path,
    image: np.ndarray,
    label: np.ndarray,
    maps: dict[str, np.ndarray],
    trained: TrainedModel,
    alpha: float,
    place: geo.Georeference | None,
) -> None:
    from PIL import Image

    from jaxseg import visualize

    shown = trained.bands.to_show(image)
    small = len(trained.classes) <= 256 and label.max() <= 255
    if maps:
        maps = {name.replace("_", " "): values for name, values in maps.items()}
        with atomic_path(f"{stem}_uncertainty.png") as part:
            visualize.uncertainty_figure(shown, maps, part)
    overlay_png(stem, shown, label, trained, alpha)
    if place is not None:
        stored, nodata = label.astype(map_type(trained)), map_nodata(trained)
        colors = trained.palette if stored.dtype == np.uint8 else ()
        with atomic_path(f"{stem}_label.tif") as part:
            geo.write_geotiff(str(part), stored, place, nodata=nodata, palette=colors)
        return
    with atomic_path(f"{stem}_label.png") as part:
        if small:
            visualize.save_label_png(part, label, trained.palette, ignore=trained.ignore)
        else:
            Image.fromarray(label.astype(np.uint16)).save(part)


def overlay_png(stem: Path, shown: np.ndarray, label: np.ndarray, trained: TrainedModel, alpha: float) -> None:
    """Writes STEM_overlay.png: the image, as people see it, tinted by its labels, with a legend."""
    from PIL import Image

    from jaxseg import visualize

    tinted = visualize.overlay(shown, label, trained.palette, trained.classes, alpha=alpha, ignore=trained.ignore)
    with atomic_path(f"{stem}_overlay.png") as part:
        Image.fromarray(tinted).save(part)


def _write_gray(stem: Path, stored: np.ndarray, place: geo.Georeference | None) -> None:
    from PIL import Image

    with atomic_path(f"{stem}.png" if place is None else f"{stem}.tif") as part:
        if place is None:
            Image.fromarray(stored).save(part)
        else:
            geo.write_geotiff(str(part), stored, place)


def _write_geojson(stem: Path, label: np.ndarray, trained: TrainedModel, place: geo.Georeference | None) -> None:
    """Writes a feature for each region; in the coordinates of the image, which "crs" names as GeoJSON did in 2008."""
    found = geo.polygons(label, place, label != trained.ignore)
    features = list(geo.region_features(found, dict(enumerate(enumerate(trained.classes)))))
    document = {"type": "FeatureCollection", "features": features}
    name = None if place is None else geo.crs_name(place)
    if name is not None:
        document["crs"] = {"type": "name", "properties": {"name": name}}
    write_text(f"{stem}.geojson", json.dumps(document))
