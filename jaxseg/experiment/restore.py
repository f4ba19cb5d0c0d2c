"""From a workdir back to a model: what evaluation and prediction start from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.experiment.build import build_model, read_config
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.models import pixel_statistics


@dataclasses.dataclass(frozen=True)
class Restored:
    """A trained model and what its pictures and labels mean."""

    config: ConfigDict
    step: int
    model: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore: int
    mean: tuple[float, ...]  # of each channel, in units of the uint8 picture
    std: tuple[float, ...]
    bucket: int  # pictures are padded to a multiple of this, pixels


def load_for_inference(workdir: str | Path, checkpoint: str | int = "best") -> Restored:
    """Rebuilds the model of `workdir` and loads a checkpoint; the data set itself is not needed.

    Args:
      workdir: the folder that train.py wrote.
      checkpoint: "best" (by validation mIoU), "latest" or a step.
    """
    config = read_config(workdir)
    path = Path(workdir) / "dataset.json"
    if not path.exists():
        raise UserError(f"{path} is missing: the run was not started by train.py, or the file was removed.")
    info = json.loads(path.read_text())
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    try:
        step = checkpoints.resolve(str(checkpoint))
        variables = checkpoints.restore_variables(step)
    finally:
        checkpoints.close()
    model = build_model(config, len(info["classes"]))
    mean, std = pixel_statistics(model)
    return Restored(
        config=config,
        step=step,
        model=model,
        variables=variables,
        classes=tuple(info["classes"]),
        palette=tuple(tuple(colour) for colour in info["palette"]),
        ignore=info["ignore"],
        mean=mean,
        std=std,
        bucket=config.eval.bucket,
    )
