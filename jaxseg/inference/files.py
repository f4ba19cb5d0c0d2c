"""Label maps and overlays of image files: what `jaxseg predict` writes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import IMAGE_SUFFIXES
from jaxseg.inference.predict import Predictor
from jaxseg.inference.uncertainty import Ensemble


def predict_file(predictor: Predictor | Ensemble, file: Path, stem: Path, *, alpha: float = 0.5) -> None:
    """Writes STEM_label.png, a palette PNG of class ids, and STEM_overlay.png, the tinted image with a legend.

    Of an ensemble, STEM_uncertainty.png shows the entropy and the mutual information too.

    Args:
      predictor: the model, or several.
      file: the image.
      stem: the outputs' path, less `_label.png`.
      alpha: weight of the tint, 0 to 1.
    """
    from PIL import Image

    from jaxseg import visualize
    from jaxseg.data.readers import read_rgb as read_image

    image = read_image(str(file))
    trained = predictor.trained
    if isinstance(predictor, Ensemble):
        maps = predictor.uncertainty(image)
        label = maps.pop("probabilities").argmax(-1).astype(np.int32)
        maps = {name.replace("_", " "): values for name, values in maps.items()}
        visualize.uncertainty_figure(trained.bands.to_show(image), maps, f"{stem}_uncertainty.png")
    else:
        label = predictor(image)
    visualize.save_label_png(f"{stem}_label.png", label, trained.palette)
    tinted = visualize.overlay(
        trained.bands.to_show(image), label, trained.palette, trained.classes, alpha=alpha, ignore=trained.ignore
    )
    Image.fromarray(tinted).save(f"{stem}_overlay.png")


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files named, and the images in the folders named, in order and once each."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(f"The folder {path} holds no image ({' '.join(IMAGE_SUFFIXES)}).")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{path} does not exist. Give image files or folders of them.")
    return list(found)


def name_outputs(files: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Returns file -> stem of its outputs; raises if two files would share one, or an output would replace an input."""
    stems, inputs = {}, {file.resolve() for file in files}
    for file in files:
        stem = out / file.stem
        if stem in stems:
            raise UserError(
                f"{stems[stem]} and {file} would both be written to {stem}_label.png. Predict them into"
                " different --out folders."
            )
        for output in (f"{stem}_{what}.png" for what in ("label", "overlay", "uncertainty")):
            if Path(output).resolve() in inputs:
                raise UserError(f"{output} is one of the images and would be overwritten. Choose another --out.")
        stems[stem] = file
    return {file: stem for stem, file in stems.items()}
