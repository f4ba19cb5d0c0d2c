"""Whether a command may go on with the run of a workdir: first everything is compared, then it is written."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.config import with_current_names
from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment import devices as shard
from jaxseg.experiment.changes import ABSENT, STARTED_FROM, Change, changes, check_changes
from jaxseg.experiment.identity import Difference, describe_data, differences
from jaxseg.experiment.limits import flatten
from jaxseg.experiment.log import environment
from jaxseg.experiment.starts import append_start, moved
from jaxseg.experiment.workdir import check_workdir, has_checkpoint, read_config
from jaxseg.files import read_json, write_json

LENGTH = ("train.steps", "train.epochs")
FALL = ("optim.schedule", "optim.power", "optim.drops", "optim.drop_factor")
RATE = (*LENGTH, "optim.lr", "optim.warmup_steps", *FALL)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a command will write to a workdir once its first step is done, and what is to be said before.

    Args:
      workdir: of the run.
      config: what config.json will hold.
      data: what dataset.json will hold.
      changed: the settings that the run goes on with another value of.
      accepted: what of the data is not as it was.
      notes: sentences on the rest.
      before: what dataset.json held; {} for a new run.
    """

    workdir: Path
    config: dict[str, Any]
    data: dict[str, Any]
    changed: tuple[Change, ...] = ()
    accepted: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    before: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    here: Mapping[str, Any] = dataclasses.field(default_factory=environment)

    def write(self, step: int) -> None:
        """Writes config.json and dataset.json, each with its history, and adds this start to environment.json.

        Args:
          step: that the run starts at, or goes on from.
        """
        if jax.process_index():
            return
        self.workdir.mkdir(parents=True, exist_ok=True)
        now = {"step": step, "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        config, data = dict(self.config), dict(self.data)
        if self.changed:
            entry = {**now, "changed": {change.key: [change.there, change.here] for change in self.changed}}
            config["history"] = [*_list(config, "history"), entry]
        if self.accepted:
            kept = {key: self.before[key] for key in ("classes", "ignore", "values", "splits") if key in self.before}
            entry = {**now, "accepted": [difference.text for difference in self.accepted], "before": kept}
            data["history"] = [*_list(data, "history"), entry]
        write_json(self.workdir / "config.json", config)
        write_json(self.workdir / "dataset.json", data)
        append_start(self.workdir, step, self.here)

    def check_end(self, step: int, steps: int) -> None:
        """Raises a `UserError` for a run that has made more steps than it is to have.

        Args:
          step: that it is at.
          steps: of the whole run.
        """
        if step > steps:
            key = next(key for key in LENGTH if flatten(self.config)[key])
            raise UserError(
                f"The run in {self.workdir} is at step {step}, past its end: config.{key}={flatten(self.config)[key]}"
                f" makes {steps} steps of the data that there is now. Set a larger one to train on, or use the run as"
                f" it is: jaxseg eval {self.workdir}."
            )

    def sentences(self, step: int, steps: int, schedule: optax.Schedule) -> list[str]:
        """Returns what is to be said of a run that goes on: what changed since its last start.

        Args:
          step: that it goes on from.
          steps: of the whole run.
          schedule: from the number of updates to the learning rate.
        """
        said = [*self.notes]
        if self.accepted:
            said.append("the data is not what it was: " + "; ".join(difference.text for difference in self.accepted))
        if self.changed:
            said.append("changed: " + "; ".join(map(str, self.changed)))
        if any(change.key in RATE for change in self.changed) or (self.accepted and flatten(self.config)[LENGTH[1]]):
            c = self.config["optim"]
            now, last = (float(schedule(batch // c["accumulate"])) for batch in (step, max(steps - 1, step)))
            said.append(
                f"the run is now {steps} steps long; from step {step} on the learning rate follows the schedule"
                f" '{c['schedule']}' of a run of that length, {now:.3g} at first and {last:.3g} at the end"
            )
        own_norms = self.config["train"]["batch_norm"] == "device"
        return [*said, *moved(self.workdir, self.here, own_norms=own_norms)] if step else said


def claim_workdir(
    config: ConfigDict,
    dataset: Dataset,
    workdir: str | Path,
    preprocessing: Preprocessing | None = None,
    *,
    accept_data: bool = False,
) -> Claim:
    """Compares a config and its data with what a workdir says of its run; `write` of the result then claims it.

    As long as the workdir has no checkpoint there is nothing to go on with: a run that failed at once can be repaired
    and started again in the same folder.

    Args:
      config: of the command.
      dataset: of the config.
      workdir: of the run.
      preprocessing: what is done to images.
      accept_data: go on with data that is not what it was, which is recorded.

    Raises:
      UserError: the workdir holds a run of another config or of other data; the message lists what differs.
    """
    workdir = check_workdir(workdir)
    here = json.loads(config.to_json())
    splits = (config.data.train_split, config.data.eval_split)
    data = describe_data(dataset, [split for split in splits if split in dataset.splits], preprocessing)
    goes_on = has_checkpoint(workdir)
    shard.wait_for_all("the workdir is looked at")
    if not goes_on:
        return Claim(workdir, here, data)
    notes, changed, before = [], [], {}
    lost = "is missing: whether this is {} of the run can't be told. It is written anew"
    if (workdir / "config.json").exists():
        read_config(workdir)  # which says of a damaged file what it is
        there = with_current_names(read_json(workdir / "config.json"))
        history = {"history": _list(there, "history")} if _list(there, "history") else {}
        there.pop("history", None)
        changed = changes(there, here)
        check_changes(changed, workdir)
        for key in STARTED_FROM:
            group, name = key.split(".")
            if flatten(there).get(key, ABSENT) is not ABSENT:
                here[group][name] = there[group][name]
        here |= history
    else:
        notes.append(f"{workdir / 'config.json'} {lost.format('the config')}.")
    if (workdir / "dataset.json").exists():
        before = read_json(workdir / "dataset.json", "Remove it to go on without comparing the data.")
        if history := _list(before, "history"):
            data["history"] = history
    else:
        notes.append(f"{workdir / 'dataset.json'} {lost.format('the data')}.")
    found = differences(before, data)
    _check_data(found, workdir, accept_data)
    return Claim(workdir, here, data, tuple(changed), tuple(found), tuple(notes), before)


def _check_data(found: list[Difference], workdir: Path, accept: bool) -> None:
    if not found or (accept and not any(difference.fatal for difference in found)):
        return
    text = "\n  ".join(difference.text for difference in found)
    cure = "Give back the data that it had"
    if any(difference.fatal for difference in found):
        cure += f", or start a new run from its weights with --from {workdir} and another --workdir."
    else:
        cure += ", name a new --workdir, or go on with what there is now, --accept-data, which is recorded."
    raise UserError(f"--workdir {workdir} holds a run of other data:\n  {text}\n{cure}")


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    """The list that a file which may be a stranger's holds under a key."""
    found = values.get(key)
    return found if isinstance(found, list) else []
