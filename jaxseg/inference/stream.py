"""Images that are larger than the memory: read, predicted and written strip by strip.

The labels go to a raw file beside the output, whose rows any process can write, and a small JSON file says which rows
are done: what was stopped goes on there, and several processes share one image. Whoever completes the rows makes the
label map of them, a tiled TIFF with reduced versions for viewers, and removes both.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Num

from jaxseg.checks import UserError
from jaxseg.data import readers
from jaxseg.data.bands import empty_pixels, fill_empty
from jaxseg.data.readers import geo, opening
from jaxseg.inference.file_bands import Chosen, bands_for
from jaxseg.inference.files import DEFAULT, Outputs, locate, map_nodata, map_type, overlay_png, to_stored
from jaxseg.inference.folder import FAILURES, FULL
from jaxseg.inference.image_list import ImagePage
from jaxseg.inference.large_tiff import ReadRows, write_outlines, write_tiff
from jaxseg.inference.predict import Predictor
from jaxseg.inference.raw_rows import ALL, RawRows, Share
from jaxseg.inference.refine import FILE
from jaxseg.inference.tiling import Strip, Tiling
from jaxseg.models.describe import describe
from jaxseg.trained import Model, TrainedModel

SUFFIXES = (".tif", ".tiff", ".npy", opening.FOLDER, *geo.SUFFIXES)  # of files of which parts are read
LEAST = 2**26  # pixels of an image that is streamed; smaller ones are predicted in memory
_CHUNK = 32  # rows of the overlay whose pixels are read at a time
PREVIEW = 2048  # pixels of the longer side of the overlay
Progress = Callable[[Iterator[Strip], int], Iterator[Strip]]  # (strips, rows) -> the same, with a bar


def streamed(predictor: Predictor, page: ImagePage, *, least: int | None = None) -> Tiling | None:
    """Returns how an image is cut if it is to be predicted by `predict_stream`, else None.

    Args:
      predictor: the model.
      page: the image.
      least: pixels from which on it is; None is `LEAST`.
    """
    if opening.suffix(page.file) not in SUFFIXES:
        return None
    try:
        known = readers.header(page.file)
    except (UserError, OSError):  # which reading says
        return None
    size = known.height, known.width
    large = known.height * known.width >= (LEAST if least is None else least)
    return predictor.tiling(size) if large and not known.turned else None


def predict_stream(
    predictor: Predictor,
    page: ImagePage,
    tiling: Tiling,
    outputs: Outputs = DEFAULT,
    *,
    share: Share = ALL,
    progress: Progress = lambda strips, rows: strips,
) -> list[str]:
    """Predicts an image that need not fit into memory, and writes STEM_label.tif and a reduced STEM_overlay.png.

    Stopped, the same call goes on. With a share, the process that completes the image writes the files.

    Args:
      predictor: the model.
      page: the image, of a file of which parts can be read (`SUFFIXES`).
      tiling: how it is cut.
      outputs: as for `jaxseg.inference.files.predict_file`; values are STEM.tif, and there is then no overlay.
      share: of the image that this process predicts.
      progress: draws a bar.

    Returns:
      what is to be said of the image, sentences.
    """
    file, bands, trained = str(page.file), predictor.trained.bands, predictor.trained
    known, (values, probabilities) = readers.header(file), (outputs.values, outputs.probabilities)
    size = known.height, known.width
    chosen = bands_for(file, bands)
    place, lost = locate(file)
    kind = to_stored(np.array([[trained.ignore]]), trained).dtype if values else map_type(trained)
    empties: list[tuple[int, Bool[np.ndarray, "h w"]]] = []  # (top, pixels that hold nothing) of what was read

    def read(top: int, left: int, height: int, width: int) -> Num[np.ndarray, "h w c"]:
        image = chosen.read(page.page, (top, left, height, width))
        empty = empty_pixels(bands, image)
        if empty is not None:
            empties.append((top, empty))
        return image

    layers = {"label": (kind, 1)}
    if probabilities:
        layers["probabilities"] = (np.dtype(np.uint8), len(trained.classes))
    identity = _identity(predictor, page, tiling, [values, probabilities])
    with RawRows(page.stem, size, layers, identity, share) as rows:
        first, end = rows.left()
        found = predictor.label_strips(read, size, tiling, (first, end), probabilities=probabilities)
        for strip in progress(found if first < end else iter(()), end - first):
            result = strip.result if probabilities else {"label": strip.result}
            empty = _taken(empties, strip.top, len(result["label"]))
            label = fill_empty(result["label"], empty, trained.ignore)
            if probabilities:
                result = {**result, "probabilities": fill_empty(result["probabilities"], empty, 0)}
            label = (to_stored(label, trained) if values else label).astype(kind)
            rows.write(strip.top, {**result, "label": label})
        rows.note()
        notes = [f"{file} is predicted in {tiling}, strip by strip", *chosen.notes, *lost]
        if not rows.complete():
            last = "the process that ends last writes the file"
            return [*notes, f"{page.stem.name}: rows {first} to {end} are done; {last}"]
        if probabilities:
            read_rows, (dtype, _) = rows.reader("probabilities"), layers["probabilities"]
            write_tiff(f"{page.stem}_probabilities.tif", read_rows, size, dtype, place, names=trained.classes)
        if not values:
            _write_overlay(page, chosen, size, rows, predictor, outputs.alpha)
        _write_labels(page.stem, trained, outputs, rows.reader("label"), size, kind, place)
        rows.remove()
    return notes


def predict_streams(
    predictor: Predictor, pages: Mapping[ImagePage, Tiling], outputs: Outputs = DEFAULT, **options: Any
) -> Iterator[tuple[ImagePage, list[str] | Exception]]:
    """Does what `predict_stream` does for all `pages`, and yields each with what came of it, see `predict_pages`."""
    for page, tiling in pages.items():
        try:
            yield page, predict_stream(predictor, page, tiling, outputs, **options)
        except FAILURES as error:
            yield page, error
            if isinstance(error, OSError) and error.errno in FULL:
                return


def _write_labels(
    stem: Path,
    trained: TrainedModel,
    outputs: Outputs,
    read: ReadRows,
    size: tuple[int, int],
    dtype: np.dtype,
    place: geo.Georeference | None,
) -> None:
    """Writes the label map, with the palette where it is of labels, and the outlines of its regions."""
    path = f"{stem}.tif" if outputs.values else f"{stem}_label.tif"
    palette = () if outputs.values or dtype.itemsize > 1 else trained.palette
    write_tiff(path, read, size, dtype, place, palette=palette, nodata=None if outputs.values else map_nodata(trained))
    if outputs.geojson:
        stored = trained.values if outputs.values else range(len(trained.classes))
        write_outlines(f"{stem}.geojson", path, dict(zip(stored, enumerate(trained.classes), strict=True)))


def _write_overlay(
    page: ImagePage, chosen: Chosen, size: tuple[int, int], rows: RawRows, predictor: Predictor,
    alpha: float,
) -> None:  # fmt: skip
    """Writes the overlay of every nth pixel, read a few rows at a time."""
    every, read_labels = -(-max(size) // PREVIEW), rows.reader("label")
    images, labels = [], []
    for top in range(0, size[0], every * _CHUNK):
        count = min(every * _CHUNK, size[0] - top)
        part = chosen.read(page.page, (top, 0, count, size[1]))
        images.append(part[::every, ::every].copy())
        labels.append(read_labels(top, top + count)[::every, ::every, 0].copy())
    shown = predictor.trained.bands.to_show(np.concatenate(images))
    overlay_png(page.stem, shown, np.concatenate(labels), predictor.trained, alpha)


def _taken(empties: list[tuple[int, Bool[np.ndarray, "_h w"]]], top: int, count: int) -> Bool[np.ndarray, "h w"] | None:
    """The pixels that hold nothing of some rows; what lies above them is forgotten."""
    if not empties:
        return None
    while empties[0][0] + len(empties[0][1]) <= top:
        empties.pop(0)
    parts = [mask[max(top - at, 0) : max(top + count - at, 0)] for at, mask in empties]
    return np.concatenate(parts)[:count]


def _identity(predictor: Predictor, page: ImagePage, tiling: Tiling, wanted: list[bool]) -> str:
    """A digest of all that decides the labels: rows of another image, model or way are not gone on with."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(predictor.variables):
        digest.update(np.asarray(leaf).tobytes())
    found, trained = os.stat(page.file), predictor.trained
    told = [found.st_size, found.st_mtime_ns, page.page, str(tiling), tiling.blend, str(predictor.options.tta), wanted]
    told += [trained.preprocessing.to_json(), trained.threshold, trained.ignore, list(trained.classes)]
    told += [predictor.refined, predictor.calibration, trained.activation, trained.values, _network(trained.model)]
    if predictor.refined and trained.config is not None:
        told += [trained.config.eval.crf.to_dict(), trained.config.eval.guided.to_dict()]
    if predictor.refined and trained.workdir is not None and (trained.workdir / FILE).is_file():
        told += [(trained.workdir / FILE).read_text()]
    digest.update(json.dumps(told, default=str).encode())
    return digest.hexdigest()


def _network(model: Model) -> Any:
    """What distinguishes a network from one of the same weights; of a model that is not jaxseg's, the object."""
    try:
        types = [str(getattr(model, name)) for name in ("dtype", "head_dtype")]
        return [describe(model), *types]
    except (UserError, AttributeError):
        return model
