"""The record of a calibration, as a run's calibration.json and the config.json of a bundle hold it."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.files import Fields, is_finite, is_list, is_text, is_whole, plain, read_json, write_json

FILE = "calibration.json"
KINDS = ("temperature", "vector")


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibration of the logits before the softmax or the sigmoids: logits · scale + bias.

    Args:
      kind: "temperature" or "vector".
      scale: one number for all classes, 1 / temperature, or one per class.
      bias: as many numbers.
      checkpoint: the step whose scores were fitted.
      split: of the data set, that they were fitted on.
      report: what was measured: {"pixels": int, "nll": {"before": float, "after": float}, "ece": …}.
      activation: "softmax" or "sigmoid", of what it was fitted to.

    >>> calibration = Calibration("temperature", (0.5,), (0.0,), checkpoint=100, split="val")
    >>> calibration(jnp.array([[2.0, -4.0]])).tolist()
    [[1.0, -2.0]]
    """

    kind: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    checkpoint: int
    split: str
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    activation: str = "softmax"

    def __call__(self, logits: Float[Array | np.ndarray, "... c"]) -> Float[Array, "... c"]:
        """Returns the calibrated logits, float32."""
        scale, bias = (jnp.broadcast_to(jnp.array(v, jnp.float32), logits.shape) for v in (self.scale, self.bias))
        return logits.astype(jnp.float32) * scale + bias

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON holds them; of a temperature, the temperature too."""
        values = dataclasses.asdict(self)
        return values | ({"temperature": 1 / self.scale[0]} if self.kind == "temperature" else {})


def read_calibration(fields: Fields, num_labels: int | None = None) -> Calibration:
    """Returns the record that a JSON file holds, whoever wrote it.

    Args:
      fields: of the file.
      num_labels: that a scale for each class must have; None takes any number.

    Raises:
      UserError: an entry is not what it must be.
    """
    kind = fields.take("kind", lambda value: value in list(KINDS), " or ".join(KINDS))
    checkpoint = fields.take("checkpoint", is_whole(0, 2**63), "a step")
    to = fields.take("activation", ("softmax", "sigmoid").__contains__, "softmax or sigmoid", "softmax")
    counts = (1,) if kind == "temperature" else range(1, 2**16) if num_labels is None else (num_labels,)
    numbers = is_list(is_finite, counts)
    scale = fields.take("scale", numbers, "one finite number" if counts == (1,) else "a finite number for each class")
    bias = fields.take("bias", is_list(is_finite, (len(scale),)), f"{len(scale)} finite numbers")
    split = plain(fields.take("split", is_text, "text"))
    report = fields.take("report", lambda value: isinstance(value, Mapping), "an object")
    return Calibration(kind, tuple(scale), tuple(bias), checkpoint, split, report, to)


def save_calibration(calibration: Calibration, workdir: str | Path) -> Path:
    """Writes `workdir`/calibration.json and returns its path."""
    path = Path(workdir) / FILE
    write_json(path, calibration.to_json())
    return path


def load_calibration(workdir: str | Path, checkpoint: int, *, activation: str = "softmax") -> Calibration | None:
    """Returns the calibration of a checkpoint in `workdir`; None if there is none, with a warning if it is of another.

    Args:
      workdir: the folder that `jaxseg train` wrote.
      checkpoint: a step.
      activation: of the probabilities; a calibration that was fitted to the other's is not used either.
    """
    path = Path(workdir) / FILE
    if not path.exists():
        return None
    remedy = "Remove it, or fit it again with jaxseg eval --calibrate."
    found = read_calibration(Fields(read_json(path, remedy), path, remedy))
    if found.activation != activation:
        warnings.warn(
            f"{path} was fitted to the probabilities of a {found.activation}, and the model has {activation}s: it is"
            f" not used. Fit it again: jaxseg eval --calibrate {found.kind}",
            stacklevel=2,
        )
        return None
    if found.checkpoint != checkpoint:
        warnings.warn(
            f"{path} was fitted to checkpoint {found.checkpoint}, not to {checkpoint}, and is not used."
            f" Fit it again: jaxseg eval --calibrate {found.kind} --checkpoint {checkpoint}",
            stacklevel=2,
        )
        return None
    return found
