"""What may change of a run's config when it goes on, and what each change does to the run's exactness."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxseg.checks import UserError
from jaxseg.config import OPEN, default_config
from jaxseg.experiment.limits import flatten

NONE = "none: the same bits"
ROUNDING = "rounding: sums are made in another order"
SCORES = "none to the training; scores before and after are of two kinds"
FUTURE = "from here on another run; what is past stays"

# Key -> what a change of it does to the exactness of a run that goes on. A key that ends in "." stands for all below.
MAY_CHANGE = {
    "data.root": "none where the data is the same, which is compared",
    "data.workers": NONE,
    "data.threads": NONE,
    "train.compilation_cache": NONE,
    "train.xla": "rounding: what is compiled with other flags may sum in another order",
    "train.autotune_cache": "none on a CPU; rounding on a GPU, whose kernels may be others",
    "train.devices": f'{ROUNDING}; with `train.batch_norm` "device" statistics of other parts of the batch',
    "train.fsdp": ROUNDING,
    "train.remat": "rounding: what is computed again is compiled anew",
    "log.": "none; rounding for `log.grad_norm`, which is part of the step's program",
    "checkpoint.": NONE,
    "eval.every": "none to the training; the best checkpoint is chosen among those that were evaluated",
    "eval.batch_size": NONE,
    "eval.strict": NONE,
    "eval.threshold": SCORES,
    "eval.tile": SCORES,
    "eval.overlap": SCORES,
    "eval.blend": SCORES,
    "eval.tta": SCORES,
    "eval.metrics": NONE,
    "eval.metric_options": SCORES,
    "eval.crf.": NONE,
    "eval.guided.": NONE,
    "train.steps": f"{FUTURE}. The schedule goes on as that of a run of the new length",
    "train.epochs": f"{FUTURE}. The schedule goes on as that of a run of the new length",
    "optim.lr": FUTURE,
    "optim.encoder_lr_factor": f"{FUTURE}. Not from 1 or to 1, where the optimizer has one part less",
    "optim.lr_factors": FUTURE,
    "optim.schedule": FUTURE,
    "optim.power": FUTURE,
    "optim.drops": FUTURE,
    "optim.drop_factor": FUTURE,
    "optim.warmup_steps": FUTURE,
    "optim.weight_decay": FUTURE,
    "optim.clip_norm": f"{FUTURE}. Not from 0 or to 0, where the optimizer has one part less",
}
SWITCHES = {"optim.clip_norm": 0.0, "optim.encoder_lr_factor": 1.0}  # the value without the part of the optimizer
# What a run started from is past. Where it is left out now, as by a command without --from, the run's own stays.
STARTED_FROM = ("model.weights", "model.encoder_weights", "model.replace_head")
FORMER = ("eval.metric",)  # settings that there were once, and that never changed a number
ABSENT = "absent"
OPEN_ENTRIES = tuple(f"{key}." for key in OPEN)


@dataclasses.dataclass(frozen=True)
class Change:
    """Of one setting: its key, its value so far, and the new one."""

    key: str
    there: Any
    here: Any

    def __str__(self) -> str:
        there, here = (value if value != "" else "''" for value in (self.there, self.here))
        return f"config.{self.key}: {there} there, {here} here"


def changes(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Change]:
    """Returns the settings that differ between two configs as JSON has them, those left out that a start only knows.

    A setting that did not exist when a run began had its default.

    Args:
      there: of the run.
      here: of the command.
    """
    default = flatten(_plain(default_config().to_dict()))
    there, here = flatten(there), flatten(here)
    # Entries of the open mappings are no settings with a default: a loss that is not there is not summed.
    closed = {key: value for key, value in default.items() if key in here and not key.startswith(OPEN_ENTRIES)}
    there = {**closed, **there}
    found = []
    for key in sorted(there.keys() | here.keys()):
        change = Change(key, there.get(key, ABSENT), here.get(key, ABSENT))
        kept = key in STARTED_FROM and change.here == default[key]
        if _plain(change.there) != _plain(change.here) and not kept and key not in FORMER:
            found.append(change)
    return found


def _plain(value: Any) -> Any:
    """Lists for tuples, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def may_change(key: str) -> str | None:
    """Returns what a change of a setting does to a run that goes on; None where it must stay.

    >>> may_change("eval.batch_size"), may_change("model.name")
    ('none: the same bits', None)
    """
    fits = (name for name in MAY_CHANGE if key == name or key.startswith(name.rstrip(".") + "."))
    return next((MAY_CHANGE[name] for name in fits), None)


def check_changes(found: list[Change], workdir: object) -> None:
    """Raises a `UserError` that names every setting that differs and must stay.

    Args:
      found: of `changes`.
      workdir: of the run.
    """
    refused = [str(change) for change in found if may_change(change.key) is None]
    for change in found:
        off = SWITCHES.get(change.key)
        if off is not None and (change.there == off) != (change.here == off):
            refused.append(f"{change}: the optimizer has no memory for it, as it is off at {off:g}")
    if refused:
        rest = f"\n  and {len(refused) - 12} more" if len(refused) > 12 else ""
        raise UserError(
            f"--workdir {workdir} holds a run of another config:\n  "
            + "\n  ".join(refused[:12])
            + f"{rest}\nGive the old values to go on with that run, or start a new one from its weights with --from"
            f" {workdir} and another --workdir. docs/reliability.md lists what may change."
        )
