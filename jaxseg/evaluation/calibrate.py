"""Fitting a calibration to a split of a run's data set: what jaxseg eval --calibrate does before it scores."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg.checks import UserError
from jaxseg.evaluation.evaluator import Evaluator
from jaxseg.experiment.devices import batched, replicated
from jaxseg.inference.batches import Programs
from jaxseg.inference.calibration import Calibration, fit_calibration
from jaxseg.inference.logits import has_sigmoids, native_logits

_PIXELS = 2**20  # that are fitted at most
_NUMBERS = 2**26  # logits that are kept at most


def sample_logits(
    evaluator: Evaluator,
    split: str,
    *,
    seed: int = 0,
    progress: Callable[[Iterator], Iterator] = iter,
) -> tuple[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]:
    """Returns logits and labels of valid pixels drawn at random, equally many from each image.

    Args:
      evaluator: of the model and the data set.
      split: a key of the data set's splits.
      seed: of the draw.
      progress: wraps the iterator of records.
    """
    trained, dataset, mesh = evaluator.trained, evaluator.dataset, evaluator.mesh
    total = min(_PIXELS, _NUMBERS // dataset.num_classes)
    each = max(total // len(dataset.splits[split]), 1)

    apply = partial(trained.model.apply, train=False)
    scoring = {"preprocessing": trained.preprocessing, "tta": evaluator.options.tta, "sigmoids": has_sigmoids(trained)}

    def step(
        variables: Mapping[str, Any], batch: Mapping[str, Array], canvas: tuple[int, int]
    ) -> Float[Array, "b n c"]:
        places = batch["places"]
        logits = native_logits(apply, variables, batch, canvas=canvas, **scoring)
        flat = logits.reshape(logits.shape[0], -1, logits.shape[-1])
        return jnp.take_along_axis(flat, places[..., None], axis=1)

    whole, apart = replicated(mesh), batched(mesh)
    step = Programs(jax.jit(step, static_argnums=2, in_shardings=(whole, apart), out_shardings=apart))
    logits, labels = [], []
    for batch, records, grid in evaluator.batches(split, progress):
        places, taken = np.zeros((len(batch["image"]), each), np.int32), []
        for i, (label, record) in enumerate(zip(batch["label"], records, strict=False)):
            counted = np.flatnonzero(label.ravel() != dataset.ignore)
            generator = np.random.default_rng((seed, record["index"]))
            chosen = generator.choice(counted, min(each, len(counted)), replace=False)
            places[i, : len(chosen)] = chosen
            taken.append((i, len(chosen), label.ravel()[chosen]))
        batch = jax.device_put({**batch, "places": places}, apart)
        found = np.asarray(step(evaluator.variables, batch, canvas=grid.canvas))
        logits += [found[i, :count] for i, count, _ in taken]
        labels += [label for _, _, label in taken]
    return np.concatenate(logits), np.concatenate(labels).astype(np.int32)


def calibrate_split(
    evaluator: Evaluator, split: str, kind: str, *, checkpoint: int, progress: Callable[[Iterator], Iterator] = iter
) -> Calibration:
    """Fits a calibration of `kind` on a split; see `fit_calibration` and `sample_logits`."""
    if jax.process_count() > 1:
        raise UserError("A calibration is fitted in one process. Run jaxseg eval --calibrate without jax.distributed.")
    logits, labels = sample_logits(evaluator, split, progress=progress)
    if not len(labels):
        raise UserError(f"The split '{split}' has no pixel that counts: nothing to calibrate on. Name another --split.")
    activation = "sigmoid" if has_sigmoids(evaluator.trained) else "softmax"
    calibration = fit_calibration(kind, logits, labels, checkpoint=checkpoint, split=split, activation=activation)
    return dataclasses.replace(calibration, report={"pixels": len(labels)})
