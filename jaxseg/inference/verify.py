"""Verification of a bundle: what it says of its golden image here, against what it said where it was written."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from jaxseg.checks import UserError
from jaxseg.files import is_text, plain, read_json
from jaxseg.inference.predict import Predictor
from jaxseg.pretrained.bundle import CONFIG, WEIGHTS, is_bundle
from jaxseg.pretrained.golden import Golden, digest, read_golden
from jaxseg.trained import load

TOLERANCE = 1e-3  # of probabilities: other devices and versions sum in another order
AGREEING = 0.999  # of the labels: where two classes are as likely, either may come out


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a golden image said there and here.

    Args:
      agreeing: labels that are the same.
      pixels: of the image.
      difference: the largest of the probabilities.
      compared: number of probabilities that were compared.
      tolerance: of the difference.
      intact: whether model.safetensors is byte for byte what was written; None where the bundle does not say.
      made: where and when the bundle was written, in words.
    """

    agreeing: int
    pixels: int
    difference: float
    compared: int
    tolerance: float = TOLERANCE
    intact: bool | None = None
    made: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bundle says here what it said there."""
        close = self.difference <= self.tolerance  # False for nan
        return close and self.agreeing >= AGREEING * self.pixels and self.intact is not False

    def lines(self) -> list[str]:
        """Returns what agrees, a line each, and what follows from it."""
        weights = {True: "unchanged", False: "CHANGED since it was written", None: "no digest to compare"}[self.intact]
        lines = [
            f"{'written':<17}  {self.made or 'not said where'}",
            f"{WEIGHTS:<17}  {weights}",
            f"{'labels':<17}  {self.agreeing} of {self.pixels} agree (at least {AGREEING:.1%} must)",
            f"{'probabilities':<17}  {self.compared} compared, max |difference| {self.difference:.2e} (at most"
            f" {self.tolerance:g})",
        ]
        return [*lines, "The bundle says here what it said where it was written." if self.holds else self._why()]

    def _why(self) -> str:
        if self.intact is False:
            return f"{WEIGHTS} is not the file that was written with the golden image. Copy or pull the bundle again."
        return (
            "The bundle does not say here what it said where it was written. With other versions, or on another kind of"
            " device, the last digits differ: --tolerance allows more. A large difference means damaged weights or a"
            " wrong result of this machine: do not use it before you know which."
        )


def verify(bundle: str | Path, *, tolerance: float = TOLERANCE) -> Verification:
    """Predicts the golden image of a bundle and compares.

    Args:
      bundle: the folder.
      tolerance: largest difference of a probability that is none.

    Raises:
      UserError: the folder is no bundle of a model, or has no golden image.
    """
    folder = Path(bundle).expanduser()
    if not is_bundle(folder):
        raise UserError(f"{folder} is not a bundle: expected a folder that `jaxseg bundle` or `jaxseg convert` wrote.")
    if not 0 <= tolerance <= 1:
        raise UserError(f"The tolerance is of probabilities, 0 to 1, got {tolerance}.")
    trained = load(folder)
    golden = read_golden(folder, trained.preprocessing, len(trained.classes))
    predictor = Predictor(trained, tile="none")
    found = compare(golden, predictor(golden.image), predictor.probabilities(golden.image), tolerance=tolerance)
    made = read_json(folder / CONFIG).get("made")
    made = made if isinstance(made, Mapping) else {}
    written = made.get("weights")
    intact = written == digest(folder / WEIGHTS) if is_text(written) else None
    return dataclasses.replace(found, intact=intact, made=_where(made))


def compare(
    golden: Golden,
    labels: Integer[np.ndarray, "h w"],
    probabilities: Float[np.ndarray, "h w k"],
    *,
    tolerance: float = TOLERANCE,
) -> Verification:
    """Compares a golden image with what something says of it, an exported program for example.

    Args:
      golden: of `jaxseg.pretrained.golden.read_golden`.
      labels: of `golden.image`.
      probabilities: of it.
      tolerance: largest difference of a probability that is none.
    """
    if labels.shape != golden.labels.shape or probabilities.shape[2:] != golden.probabilities.shape[1:]:
        raise UserError(
            f"Expected labels {golden.labels.shape} and {golden.probabilities.shape[-1]} probabilities a pixel, got"
            f" {labels.shape} and {probabilities.shape[-1]}."
        )
    differences = np.abs(probabilities[tuple(golden.places.T)] - golden.probabilities)
    agreeing = int((labels == golden.labels).sum())
    return Verification(agreeing, golden.labels.size, float(differences.max()), differences.size, tolerance)


def _where(made: Mapping[str, Any]) -> str:
    versions = made.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    words = [made.get("date"), *(f"{k} {v}" for k, v in list(versions.items())[:8]), made.get("backend")]
    return plain(", ".join(str(word)[:60] for word in words if word))
