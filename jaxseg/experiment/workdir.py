"""The folder of a run: whose it is, and what it says of the run."""

import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.config import OPEN, default_config, with_current_names
from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing, read_preprocessing
from jaxseg.experiment import devices as shard
from jaxseg.experiment.limits import flatten
from jaxseg.files import Fields, read_json, write_json

# A run may go on with another value of these: they change where things are or what is shown, not the numbers.
FREE_KEYS = (
    "data.root",
    "data.workers",
    "data.threads",
    "train.compilation_cache",
    "log.",
    "checkpoint.",
    "eval.metric",
    "eval.crf.",
    "eval.guided.",
)


def check_workdir(workdir: str | Path) -> Path:
    """Returns the folder of a run as a `Path`; raises a `UserError` if the name is empty or names a file."""
    if not str(workdir):
        raise UserError("--workdir is empty. Name the folder of the run.")
    workdir = Path(workdir)
    if workdir.is_symlink() and not workdir.exists():
        raise UserError(f"--workdir {workdir} is a link to {workdir.readlink()}, which is not there. Make that folder.")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file. Name a folder.")
    return workdir


def claim_workdir(
    config: ConfigDict, dataset: Dataset, workdir: str | Path, preprocessing: Preprocessing | None = None
) -> None:
    """Writes config.json and dataset.json to the workdir.

    If the workdir already has a checkpoint, its config must be the same. As long as there is no checkpoint, the config
    may still be changed: a run that failed at once can be repaired and started again in the same folder.

    Raises:
      UserError: the workdir holds a run of another config; the message lists the settings that differ.
    """
    workdir = check_workdir(workdir)
    path = workdir / "config.json"
    ours = flatten(json.loads(config.to_json()))
    if path.exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        theirs = flatten(with_current_names(read_json(path)))
        changed = [
            f"  config.{key}: {theirs.get(key, 'absent')} there, {ours.get(key, 'absent')} here"
            for key in sorted(ours.keys() | theirs.keys())
            if not key.startswith(FREE_KEYS) and ours.get(key, "absent") != theirs.get(key, "absent")
        ]
        if changed:
            raise UserError(
                f"--workdir {workdir} holds a run of another config:\n" + "\n".join(changed[:12]) + "\n"
                "Name a new workdir, or give the old values to go on with that run."
            )
    shard.wait_for_all("the workdir is checked")
    if jax.process_index():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, json.loads(config.to_json()))
    write_json(
        workdir / "dataset.json",
        {
            "name": dataset.name,
            "classes": list(dataset.classes),
            "palette": [list(map(int, color)) for color in dataset.palette],
            "ignore": dataset.ignore,
            "values": dataset.values,
            **({"preprocessing": preprocessing.to_json()} if preprocessing else {}),
        },
    )


def read_config(workdir: str | Path) -> ConfigDict:
    """Returns the config of a run. Settings that did not exist when the run began have their defaults.

    Raises:
      UserError: the folder has no config.json.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"No run in {workdir}: {path} is missing. Check --workdir.")
    config = default_config()
    with config.unlocked():
        for key in OPEN:  # the run's own mapping, not one joined with the defaults
            group, name = key.split(".")
            config[group][name] = ConfigDict()
        try:
            config.update(with_current_names(read_json(path, "Copy it again, or train again.")))
        except (TypeError, AttributeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{path} holds a value of another type than the setting: {str(error).splitlines()[0]}."
                " Copy it again, or train again."
            ) from error
    return config


def claimed_preprocessing(workdir: str | Path | None) -> Preprocessing | None:
    """Returns what a run that has a checkpoint found out about its images, None where there is no such run."""
    if workdir is None or not any((Path(workdir) / "checkpoints").glob("[0-9]*")):
        return None
    path = Path(workdir) / "dataset.json"
    if not path.exists():
        return None
    fields = Fields(read_json(path), path, "Copy it again, or train again.")
    return read_preprocessing(fields.group("preprocessing")) if "preprocessing" in fields.values else None


def enable_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder`, so that the next run need not compile them again; "" is off."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
