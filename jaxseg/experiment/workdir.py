"""The folder of a run: what it may be called, and what it says of the run."""

import warnings
from pathlib import Path

import jax
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.config import OPEN, default_config, with_current_names
from jaxseg.data.preprocessing import Preprocessing, read_preprocessing
from jaxseg.files import Fields, read_json


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


def has_checkpoint(workdir: str | Path) -> bool:
    """Says whether a folder holds a checkpoint, and so a run that may go on."""
    folder = Path(workdir) / "checkpoints"
    return folder.is_dir() and any(is_step(path.name) for path in folder.iterdir())


def is_step(name: str) -> bool:
    """Says whether a folder has the name of a checkpoint: a number as Python writes it.

    >>> [is_step(name) for name in ("18", "018", "-18", "18.damaged", "1٨")]
    [True, False, False, False, False]
    """
    return name.isascii() and name.isdecimal() and (name == "0" or not name.startswith("0"))


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
            found = with_current_names(read_json(path, "Copy it again, or train again."))
            found.pop("history", None)  # of the changes that `claim_workdir` let through
            config.update(found)
        except (TypeError, AttributeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{path} holds a value of another type than the setting: {str(error).splitlines()[0]}."
                " Copy it again, or train again."
            ) from error
    return config


def claimed_preprocessing(workdir: str | Path | None) -> Preprocessing | None:
    """Returns what a run that has a checkpoint found out about its images, None where there is no such run."""
    if workdir is None or not has_checkpoint(workdir):
        return None
    path = Path(workdir) / "dataset.json"
    if not path.exists():
        return None
    remedy = "Copy it again, or remove it to go on without comparing the data."
    fields = Fields(read_json(path, remedy), path, remedy)
    return read_preprocessing(fields.group("preprocessing")) if "preprocessing" in fields.values else None


def enable_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder`, so that the next run need not compile them again; "" is off.

    Where there can be no such folder, in the home of somebody who has none, a warning says so.
    """
    if folder:
        try:
            path = Path(folder).expanduser()
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            warnings.warn(
                f"Compiled programs can't be kept in {folder} ({reason}): each start compiles them again. Name another"
                " folder with config.train.compilation_cache."
            )
            return
        jax.config.update("jax_compilation_cache_dir", str(path))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
