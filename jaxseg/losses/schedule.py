"""Loss weights that change with the training step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer

from jaxseg.checks import UserError, suggest

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]
Weight = float | Mapping[str, float] | Schedule

_KEYS = {"start": 0.0, "end": 1.0, "begin_step": 0, "end_step": 1000}  # of a ramp, with an example of each


def ramp(*, start: float, end: float, end_step: int, begin_step: int = 0) -> Schedule:
    """Returns a schedule, step -> weight, that changes linearly from `start` to `end`.

    Args:
      start: weight up to `begin_step`, >= 0.
      end: weight from `end_step` on, >= 0.
      end_step: in training steps, > `begin_step`.
      begin_step: in training steps, >= 0.

    >>> weight = ramp(start=1.0, end=0.5, begin_step=100, end_step=300)
    >>> [float(weight(step)) for step in (0, 100, 200, 300, 1000)]
    [1.0, 1.0, 0.75, 0.5, 0.5]
    """
    check_weight({"start": start, "end": end, "begin_step": begin_step, "end_step": end_step}, "ramp")

    def schedule(step: Integer[ArrayLike, ""]) -> Float[Array, ""]:
        part = jnp.clip((step - begin_step) / (end_step - begin_step), 0.0, 1.0)
        return (1 - part) * start + part * end  # exact at both ends

    return schedule


def weight_at(weight: Weight, step: Integer[ArrayLike, ""] | int | None, name: str) -> float | Float[Array, ""]:
    """Returns the value of a weight at `step`; it may be a number, the arguments of `ramp`, or a schedule.

    >>> float(weight_at({"start": 0.0, "end": 1.0, "end_step": 10}, 5, "loss.terms.dice"))
    0.5
    """
    if isinstance(weight, Mapping):
        check_weight(weight, name)
        weight = ramp(**weight)
    if not callable(weight):
        return weight
    if step is None:
        raise UserError(f"{name} changes over the steps: give `weighted_sum` the `step`, e.g. step=state.step.")
    return weight(step)


def check_weight(weight: Any, name: str) -> None:
    """Raises a `UserError` unless `weight` is a number >= 0, the arguments of `ramp`, or a function of the step.

    >>> check_weight({"start": 0.4, "end": -1.0, "end_step": 900}, "loss.heads.auxiliary")
    Traceback (most recent call last):
    jaxseg.checks.UserError: loss.heads.auxiliary.end must be a weight, a number >= 0, got -1.0.
    """
    if callable(weight):
        return
    if not isinstance(weight, Mapping):
        if not _is_number(weight) or not 0 <= weight < float("inf"):
            raise UserError(f"{name} must be a weight, a number >= 0, got {weight!r}.")
        return
    for key in weight:
        if key not in _KEYS:
            raise UserError(f"Unknown key '{key}' of {name}. {suggest(key, _KEYS)}")
    for key in _KEYS:
        if key not in weight and key != "begin_step":
            raise UserError(f"{name} lacks '{key}'. A weight that changes over the steps is, for example, {_KEYS}.")
    for key in ("start", "end"):
        check_weight(weight[key] if not isinstance(weight[key], Mapping) else "a mapping", f"{name}.{key}")
    steps = weight.get("begin_step", 0), weight["end_step"]
    if any(isinstance(step, bool) or not isinstance(step, int) for step in steps) or not 0 <= steps[0] < steps[1]:
        raise UserError(f"{name} must have whole steps, 0 <= begin_step < end_step, got {steps[0]!r} and {steps[1]!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
