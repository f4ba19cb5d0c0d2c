"""Logs of a run: metrics.jsonl, TensorBoard events and environment.json."""

import datetime
import importlib.metadata
import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from jaxseg.checks import UserError, printable
from jaxseg.files import is_finite, is_text, is_whole, read_text, set_aside, write_text

LARGEST = 2**28  # bytes of a metrics.jsonl that is read, about a million rows; as objects it takes ten times that
TRAIN_BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"  # of tqdm


def environment() -> dict[str, Any]:
    """Returns versions, devices and the commit of the code, which are needed to repeat a run.

    Where JAX finds no device, "backend" is None, and "failure" says why.
    """
    names = ["jaxseg", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        commit = None
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version_of(name) for name in names},
        **_devices(),
        "commit": commit,
    }


def _devices() -> dict[str, Any]:
    """What JAX runs on; where it cannot start, why."""
    try:
        return {
            "backend": jax.default_backend(),
            "devices": [str(d) for d in jax.devices()],
            "processes": jax.process_count(),
        }
    except (RuntimeError, AssertionError) as error:  # how JAX says that the platform it was told has no device
        reason = str(error).partition("\n")[0] or "no device of the platforms that JAX may use"
        return {"backend": None, "devices": [], "processes": None, "failure": reason}


def version_of(name: str) -> str | None:
    """Returns the version of an installed package by its name on PyPI; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics.jsonl; a last line that a kill cut short is left out, and whatever is no row."""
    return _read(path)[0]


def _read(path: str | Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a metrics.jsonl, and how many whole lines are none."""
    path = Path(path)
    rows, damaged = [], 0
    try:
        text = read_text(path, largest=LARGEST, errors="replace") if path.exists() else ""
    except ValueError as error:
        raise UserError(
            f"{path} can't be read: {error}. Move it away; the best checkpoint is then not known."
        ) from error
    for line in text.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and _is_row(row):
            rows.append(row)
        else:
            damaged += line.endswith("\n")
    return rows, damaged


def _is_row(row: dict[str, Any]) -> bool:
    """Says whether a line of a file that may be a stranger's is as `Log.write` writes it, and can be drawn."""
    numbers = (value for name, value in row.items() if name not in ("kind", "step", "time"))
    whole = is_whole(0, 2**62)(row.get("step")) and is_text(row.get("kind"))
    return whole and all(value is None or is_finite(value) for value in numbers)


class Log:
    """Appends rows to metrics.jsonl and, with `tensorboard`, to TensorBoard. Only the first process writes.

    A run that resumes at step n keeps the rows up to n and deletes those after it, as they will be written again. Where
    they will not, since the run begins anew or lines are damaged, the file is kept under another name, which is said.

    Args:
      workdir: of the run.
      resume_step: n, the step that the run resumes at; 0 for a new run.
      tensorboard: whether to write events of TensorBoard, too.
    """

    def __init__(self, workdir: str | Path, *, resume_step: int, tensorboard: bool):
        self.path = Path(workdir) / "metrics.jsonl"
        rows, damaged = _read(self.path)
        self.rows = [row for row in rows if row["step"] <= resume_step]
        self._file = self._events = None
        if jax.process_index():
            return
        self._keep_what_is_lost(resume_step, rows, damaged)
        self._rewrite()
        self._file = self.path.open("a", encoding="utf-8")
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=resume_step + 1)

    def _keep_what_is_lost(self, resume_step: int, rows: list[dict[str, Any]], damaged: int) -> None:
        why = ""
        if damaged:
            why = f"has {damaged} damaged line{'s' * (damaged > 1)}; scores that they told are not known any more"
        elif rows and not resume_step:
            why = f"is of a run up to step {max(row['step'] for row in rows)}, which has no checkpoint to go on from"
        elif resume_step and not self.rows:
            say(f"note: {self.path} says nothing of the steps up to {resume_step}: the best of them is not known.")
        if why:
            say(f"note: {self.path} {why}. It is kept as {set_aside(self.path).name}.")

    def _rewrite(self) -> None:
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Writes one row of numbers.

        Args:
          kind: "train" or "eval".
          step: of the run.
          **values: numbers by name; nan (of an absent class) and infinity become null.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        row = {"kind": kind, "step": step, "time": now, **values}
        self.rows.append(row)
        if self._file:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        if self._events:
            for name, value in values.items():
                if value is not None:
                    self._events.add_scalar(f"{kind}/{name}", value, step)

    def image(self, name: str, path: Path, step: int) -> None:
        """Writes a PNG file to TensorBoard, if that is on."""
        if self._events:
            import numpy as np
            from PIL import Image

            self._events.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._file:
            self._file.close()
        if self._events:
            self._events.close()


def say(text: str) -> None:
    """Prints one line to stderr, from the first process only."""
    if jax.process_index() == 0:
        print(printable(text), file=sys.stderr, flush=True)


def train_bar(steps: Iterable[int], **options: Any) -> Any:
    """Returns the progress bar of a training run, which fits into 80 columns."""
    return progress_bar(steps, desc="train", unit="step", bar_format=TRAIN_BAR, **options)


def train_line(loss: float, images_per_s: float, val_miou: float | None) -> str:
    """Returns the text beside the bar. The speed comes last, as a narrow terminal cuts the end.

    >>> train_line(0.12345, 43.21, 0.8562)
    'loss 0.1235, val mIoU 0.8562, 43.2 images/s'
    """
    score = "" if val_miou is None else f"val mIoU {val_miou:.4f}, "
    return f"loss {loss:.4f}, {score}{images_per_s:.1f} images/s"


def progress_bar(iterable: Iterable, **options: Any) -> Iterable:
    """Returns tqdm's progress bar over `iterable`, shown by the first process only.

    On a terminal it is drawn every 0.2 s, elsewhere (a log file) every 30 s. `options` are tqdm's.
    """
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(iterable, mininterval=interval, disable=jax.process_index() != 0, dynamic_ncols=True, **options)
