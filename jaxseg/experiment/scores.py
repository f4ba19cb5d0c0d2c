"""The scores that a run wrote of a checkpoint when it was trained."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxseg.experiment.log import read_rows
from jaxseg.files import is_finite, plain

_NO_SCORES = ("step", "loss", "seconds")


def run_scores(workdir: Path | None, step: int | None, config: ConfigDict | None) -> dict[str, Any] | None:
    """Returns the scores of a checkpoint as a bundle holds them, None where the run has evaluated it not.

    Args:
      workdir: of the run, whose metrics.jsonl is read; None where there is no run.
      step: of the checkpoint.
      config: of the run, which names its data. Of a folder of images only the folder's name is kept, not its path.
    """
    if workdir is None or step is None or config is None:
        return None
    rows = [r for r in read_rows(workdir / "metrics.jsonl") if r["kind"] == "eval" and r["step"] == step]
    if not rows:
        return None
    metrics = {
        plain(key): value
        for key, value in rows[-1].items()
        if key not in _NO_SCORES and not key.startswith("loss/") and is_finite(value)
    }
    root = Path(str(config.data.root)).name if config.data.name == "folder" else ""
    return {
        "data": plain(root or str(config.data.name)),
        "split": plain(str(config.data.eval_split)),
        "date": plain(str(rows[-1].get("time", "")))[:10],
        "checkpoint": step,
        "metrics": metrics,
    }
