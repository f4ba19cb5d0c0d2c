"""Where a run was started, each time: environment.json, and what is said when it goes on somewhere else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxseg.files import plain, read_text, set_aside, short, write_text


def read_starts(workdir: str | Path) -> list[dict[str, Any]]:
    """Returns what environment.json of a run says of each start, the first one first; [] where it says nothing.

    Runs of before 2026-11-27 have the first start alone.

    Raises:
      ValueError: the file is damaged.
    """
    path = Path(workdir) / "environment.json"
    if not path.exists():
        return []
    try:
        found = json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(start, dict) for start in found):
        raise ValueError("it is no list of objects")
    return found


def append_start(workdir: str | Path, step: int, here: Mapping[str, Any]) -> None:
    """Adds a start to environment.json. A damaged file is kept beside the new one.

    Args:
      workdir: of the run.
      step: that the run starts at, or goes on from.
      here: of `jaxseg.experiment.log.environment`.
    """
    path = Path(workdir) / "environment.json"
    try:
        starts = read_starts(workdir)
    except ValueError:
        starts = []
        set_aside(path)
    lines = [json.dumps(start) for start in (*starts, {"step": step, **here})]
    write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")


def moved(workdir: str | Path, here: Mapping[str, Any], *, own_norms: bool = False) -> list[str]:
    """Returns sentences on what is not as it was at the last start of the run: versions, devices, the commit.

    Args:
      workdir: of the run.
      here: of `jaxseg.experiment.log.environment`.
      own_norms: whether each device normalizes its own part of a batch, which is another with other devices.
    """
    try:
        starts = read_starts(workdir)
    except ValueError as error:
        return [f"{Path(workdir) / 'environment.json'} can't be read ({short(str(error))}); it will be kept beside."]
    if not starts:
        return []
    there, now = (_facts(start) for start in (starts[-1], here))
    changed = [f"{name} {there[name]} -> {now[name]}" for name in now if name in there and there[name] != now[name]]
    if not changed:
        return []
    said = [f"since this run's last start: {', '.join(changed)}. Numbers may differ in their last digits from now on."]
    if own_norms and there.get("devices", now["devices"]) != now["devices"]:
        said.append("with config.train.batch_norm=device, statistics are of other parts of a batch from now on")
    return said


def _facts(start: Mapping[str, Any]) -> dict[str, str]:
    """What changes numbers, by name, in a few characters each; what a start does not say is left out."""
    versions, devices = start.get("versions"), start.get("devices")
    facts = dict(versions) if isinstance(versions, Mapping) else {}
    facts |= {name: start[name] for name in ("backend", "processes") if name in start}
    if isinstance(devices, list):
        facts["devices"] = len(devices)
    if start.get("commit"):
        facts["commit"] = str(start["commit"])[:9]
    return {name: plain(str(value))[:40] for name, value in facts.items()}
