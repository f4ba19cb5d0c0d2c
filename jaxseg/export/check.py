"""Whether an exported function says what the model says: both are given one image of random pixels."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

from jaxseg.checks import UserError
from jaxseg.export.function import Form, network_size
from jaxseg.export.golden import answers, golden_images
from jaxseg.inference.batches import Grid, stack
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.logits import has_sigmoids, labels_of, native_logits, probabilities_of
from jaxseg.inference.predict import Predictor
from jaxseg.inference.verify import AGREEING
from jaxseg.trained import TrainedModel

Run = Callable[[Num[np.ndarray, "b h w c"]], Any]
TOLERANCE = 1e-3  # of probabilities
TIED = 2 * TOLERANCE  # how much less likely than the most probable label another one may be that is taken for it


class Agreement(NamedTuple):
    """How far an exported function is from the model, on the images of `golden_images`.

    Labels differ only where two are as good as equally probable, or `compare` raises.
    """

    difference: float  # the greatest of a probability; nan where labels alone come out
    labels: float  # share of the pixels whose most probable label is the same
    scores: Mapping[str, Any] | None = None  # of `jaxseg.export.score`, where data was given

    def __str__(self) -> str:
        told = "" if math.isnan(self.difference) else f", probabilities within {self.difference:.1e}"
        return f"the same label at {100 * self.labels:.3f} % of the pixels{told}"


def expected(
    trained: TrainedModel, form: Form, images: Num[np.ndarray, "b h w c"], calibration: Calibration | None = None
) -> tuple[Float[np.ndarray, "b h w k"], Num[np.ndarray, "b h w"]]:
    """Returns the probabilities and the labels that `Predictor` gives images, padded as the exported function does."""
    if form.tile is not None:
        return _in_tiles(trained, form, images, calibration)
    native = images.shape[1:3]
    canvas = native if trained.preprocessing.resize else network_size(trained, form)
    grid = Grid(network_size(trained, form), canvas)
    batch = stack(list(images), grid, trained.preprocessing, len(images))
    predict = partial(native_logits, partial(trained.model.apply, train=False), preprocessing=trained.preprocessing)
    predict = partial(predict, tta=form.tta, sigmoids=has_sigmoids(trained))
    logits = jax.jit(predict, static_argnames="canvas")(trained.variables, batch, canvas=grid.canvas)
    logits = logits[:, : native[0], : native[1]]
    scores = calibration(logits) if calibration else logits
    return np.asarray(probabilities_of(scores, trained)), np.asarray(labels_of(jax.numpy.asarray(logits), trained))


def _in_tiles(
    trained: TrainedModel, form: Form, images: Num[np.ndarray, "b h w c"], calibration: Calibration | None
) -> tuple[Float[np.ndarray, "b h w k"], Num[np.ndarray, "b h w"]]:
    """What `Predictor` itself says of images, in tiles."""
    alone = dataclasses.replace(trained, calibration=None, workdir=None)  # which have a calibration of their own
    options = {"tile": form.tile, "overlap": form.overlap, "blend": form.blend, "tta": form.tta}
    predictor = Predictor(alone, calibration=calibration, **options)
    return np.stack([predictor.probabilities(image) for image in images]), np.stack([*map(predictor, images)])


def compare(
    run: Run,
    trained: TrainedModel,
    form: Form,
    calibration: Calibration | None = None,
) -> Agreement:
    """Returns how far an exported function is from the model, or raises a `UserError` where it is too far.

    Args:
      run: the exported function.
      trained: the model.
      form: of the function.
      calibration: of the probabilities.
    """
    images = golden_images(trained.bands, form)
    probabilities, labels = expected(trained, form, images, calibration)
    got = np.asarray(run(images))
    wanted = labels.shape if form.output == "labels" else probabilities.shape
    if got.shape != wanted:
        raise UserError(f"The exported function returns {got.shape}, expected {wanted}. {REPORT}")
    if form.output == "logits":
        calibrated = calibration(got) if calibration else got
        found, got = np.asarray(probabilities_of(jax.numpy.asarray(calibrated), trained)), got
        said = np.asarray(labels_of(jax.numpy.asarray(got), trained))
    elif form.output == "probabilities":
        found, said = got, _most_probable(got, trained)
        labels = _most_probable(probabilities, trained)
    else:
        found, said = None, got
    difference = math.nan if found is None else float(np.abs(found - probabilities).max())
    same = said == labels
    close = found is None or difference <= TOLERANCE
    if not (close and (same | _tied(probabilities, trained)).all()):
        agreement = Agreement(difference, float(same.mean()))
        raise UserError(f"The exported function does not say what the model says: {agreement}. {REPORT}")
    return Agreement(difference, float(same.mean()))


def compare_rounded(
    images: Num[np.ndarray, "b h w c"], run: Run, rounded: Run, exact: Run, description: Mapping[str, Any]
) -> Agreement:
    """Returns how far a function of weights of fewer bits is from that of the model's own weights.

    Args:
      images: that they are given.
      run: the function of the file.
      rounded: the function of the same weights, stored in float32; the two must say the same, or a `UserError` is
        raised.
      exact: the function of the model's own weights, which `compare` has found to say what the model says.
      description: of the file.
    """
    (found, p), (same, same_p), (wanted, wanted_p) = (
        answers(one(images), description) for one in (run, rounded, exact)
    )
    if p is not None:
        right = bool(np.abs(p - same_p).max() <= TOLERANCE)
    else:
        right = bool((found == same).mean() >= AGREEING)
    if not right:
        raise UserError(f"onnxruntime does not compute with the smaller weights as it should. {REPORT}")
    return Agreement(math.nan if p is None else float(np.abs(p - wanted_p).max()), float((found == wanted).mean()))


REPORT = (
    "Nothing was written. This is an error of jaxseg or of the converter; please report the model and both versions."
)


def _most_probable(probabilities: Float[np.ndarray, "b h w k"], trained: TrainedModel) -> Shaped[np.ndarray, "b h w"]:
    if trained.num_logits == 1:
        return probabilities[..., 1] > trained.threshold
    return probabilities.argmax(-1)


def _tied(probabilities: Float[np.ndarray, "b h w k"], trained: TrainedModel) -> Bool[np.ndarray, "b h w"]:
    """Where rounding may decide which label it is."""
    if trained.num_logits == 1:
        return np.abs(probabilities[..., 1] - trained.threshold) < TIED
    second, first = np.sort(probabilities, axis=-1)[..., -2:].transpose(3, 0, 1, 2)
    return first - second < TIED
