"""Label maps and overlays of image files: what `jaxseg predict` writes."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.data import readers
from jaxseg.data.bands import Bands, empty_pixels
from jaxseg.data.readers import IMAGE_SUFFIXES, geo, opening
from jaxseg.inference.predict import Predictor
from jaxseg.inference.uncertainty import Ensemble
from jaxseg.trained import TrainedModel


@dataclasses.dataclass(frozen=True)
class ImagePage:
    """An image to predict.

    Args:
      file: that holds it.
      page: of the file, None if it holds one image.
      stem: the path of what is written, without `_label.png` and the like.
    """

    file: Path
    page: int | None
    stem: Path


def predict_file(
    predictor: Predictor | Ensemble,
    page: ImagePage,
    *,
    alpha: float = 0.5,
    values: bool = False,
    geojson: bool = False,
) -> list[str]:
    """Writes STEM_label.png, a palette PNG of class ids, and STEM_overlay.png, the tinted image with a legend.

    Where the image says where on earth it lies, the label map is STEM_label.tif, a GeoTIFF that lies there too. Pixels
    that hold nothing (`Bands.nodata`) get the ignore label. Of an ensemble, STEM_uncertainty.png shows the entropy and
    the mutual information too.

    Args:
      predictor: the model, or several.
      page: the image, a file or a page of one.
      alpha: weight of the tint, 0 to 1.
      values: writes STEM.png alone (of a georeferenced image STEM.tif), gray: the values that the data set's own label
        files have, as its server wants them.
      geojson: also writes STEM.geojson, the outlines of the connected regions of every class.

    Returns:
      what is to be said of the image, sentences.
    """
    trained = predictor.trained
    image, notes = read_for(str(page.file), page.page, trained.bands)
    place, note = _place(str(page.file))
    notes += note
    maps = {}
    if isinstance(predictor, Ensemble):
        maps = predictor.uncertainty(image)
        label = predictor.label_of(maps.pop("probabilities"))
    else:
        label = predictor(image)
    empty = empty_pixels(trained.bands, image)
    if empty is not None:
        label = np.where(empty, trained.ignore, label)
    if values:
        stored = to_stored(label, trained)
        _write_gray(page.stem, stored, place)
    else:
        _write_figures(page.stem, image, label, maps, trained, alpha, place)
    if geojson:
        _write_geojson(page.stem, label, trained, place)
    return notes


def read_for(file: str, page: int | None, bands: Bands) -> tuple[np.ndarray, list[str]]:
    """Returns an image as a model of these bands needs it, and what is to be said: that others were left out.

    Bands are found by their names; where the file calls them otherwise, by their order.

    Args:
      file: the image.
      page: of the file, None if it holds one image.
      bands: of the model.
    """
    known = readers.header(file)
    chosen, notes = None, []
    if known.names != bands.names and set(bands.names) <= set(known.stored):
        chosen = tuple(known.stored.index(name) for name in bands.names)
        left = [name for name in known.stored if name not in (*bands.names, "alpha")]
        if left:
            notes = [f"{file}: the model sees {listing(bands.names, 8)}; not {listing(left, 8)}."]
    return bands.check(readers.read_image(file, page=page or 0, bands=chosen), file), notes


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


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files named, and the images in the folders named, in order and once each."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if opening.suffix(file) in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(f"The folder {path} holds no image ({' '.join(IMAGE_SUFFIXES)}).")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{path} does not exist. Give image files or folders of them.")
    return list(found)


def name_outputs(files: Iterable[Path], out: Path, *, values: bool = False) -> list[ImagePage]:
    """Returns the images of the files, every page of a stack, and where their outputs go.

    Raises a `UserError` if two images would share an output, or an output would replace an input.

    Args:
      files: that hold the images.
      out: the folder of the outputs.
      values: whether `predict_file` is to write values.
    """
    files = list(files)
    found: dict[Path, ImagePage] = {}
    inputs = {file.resolve() for file in files}
    endings = (".png", ".tif") if values else ("_label.png", "_label.tif", "_overlay.png", "_uncertainty.png")
    for file in files:
        for page, name in _pages(file):
            stem = out / name
            if stem in found:
                raise UserError(
                    f"{found[stem].file} and {file} would both be written to {stem}{endings[0]}. Predict them into"
                    " different --out folders."
                )
            for output in (f"{stem}{ending}" for ending in (*endings, ".geojson")):
                if Path(output).resolve() in inputs:
                    raise UserError(f"{output} is one of the images and would be overwritten. Choose another --out.")
            found[stem] = ImagePage(file, page, stem)
    return list(found.values())


def _pages(file: Path) -> list[tuple[int | None, str]]:
    """The page and the name of every image of a file; what does not open is one image, and says why when it is read."""
    try:
        return [(page, name) for _, page, name in readers.list_pages([file])]
    except UserError:
        return [(None, opening.stem(file))]


def _place(file: str) -> tuple[geo.Georeference | None, list[str]]:
    """Where an image lies, and what is to be said if that is lost."""
    if not geo.is_georeferenced(file):
        return None, []
    if geo.is_installed():
        return geo.georeference(file), []
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
        visualize.uncertainty_figure(shown, maps, f"{stem}_uncertainty.png")
    if place is not None:
        colors = trained.palette if small else ()
        stored = label.astype(np.uint8 if small else np.uint16)
        nodata = trained.ignore if (label == trained.ignore).any() else None
        geo.write_geotiff(f"{stem}_label.tif", stored, place, nodata=nodata, palette=colors)
    elif small:
        visualize.save_label_png(f"{stem}_label.png", label, trained.palette, ignore=trained.ignore)
    else:
        Image.fromarray(label.astype(np.uint16)).save(f"{stem}_label.png")
    tinted = visualize.overlay(shown, label, trained.palette, trained.classes, alpha=alpha, ignore=trained.ignore)
    Image.fromarray(tinted).save(f"{stem}_overlay.png")


def _write_gray(stem: Path, stored: np.ndarray, place: geo.Georeference | None) -> None:
    from PIL import Image

    if place is None:
        Image.fromarray(stored).save(f"{stem}.png")
    else:
        geo.write_geotiff(f"{stem}.tif", stored, place)


def _write_geojson(stem: Path, label: np.ndarray, trained: TrainedModel, place: geo.Georeference | None) -> None:
    """Writes a feature for each region; in the coordinates of the image, which "crs" names as GeoJSON did in 2008."""
    import json

    features = [
        {
            "type": "Feature",
            "properties": {"label": value, "class": trained.classes[value]},
            "geometry": geometry,
        }
        for geometry, value in geo.polygons(label, place, label != trained.ignore)
    ]
    document = {"type": "FeatureCollection", "features": features}
    name = None if place is None else geo.crs_name(place)
    if name is not None:
        document["crs"] = {"type": "name", "properties": {"name": name}}
    Path(f"{stem}.geojson").write_text(json.dumps(document), encoding="utf-8")
