"""The league: every architecture, small, on the same data for the same steps; a table and an image."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.analysis.summary import tree
from jaxseg.config import default_config
from jaxseg.data import create_dataset
from jaxseg.files import atomic_path
from jaxseg.models import architecture

WIDTHS = (16, 32, 64, 96, 128)  # of the plain encoder
# Model -> options in place of the paper's widths, and of rates that look beyond images of 64 pixels.
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"decoder_channels": (96, 64, 48, 32, 24)},
    "unetplusplus": {"decoder_channels": (96, 64, 48, 32, 24)},
    "attention_unet": {"decoder_channels": (96, 64, 48, 32, 24)},
    "manet": {"decoder_channels": (96, 64, 48, 32, 24), "reduction": 4},
    "fpn": {"pyramid_features": 96, "features": 64},
    "panet": {"pyramid_features": 96, "features": 64},
    "bifpn": {"pyramid_features": 64, "repeats": 2, "features": 64, "convs": 2},
    "upernet": {"features": 64},
    "segformer": {"features": 96},
    "pspnet": {"features": 96},
    "deeplabv1": {"features": 128, "rate": 2},
    "deeplabv2": {"rates": (1, 2, 3, 4), "hidden": 96},
    "deeplabv3": {"features": 96, "rates": (1, 2, 3)},
    "deeplabv3plus": {"features": 96, "rates": (1, 2, 3)},
    "image_pyramid": {"features": 64, "scales": (1.0, 0.5)},
    "fcn32s": {"features": 128, "kernel_size": 3, "dropout": 0.1},
    "fcn16s": {"features": 128, "kernel_size": 3, "dropout": 0.1},
    "fcn8s": {"features": 128, "kernel_size": 3, "dropout": 0.1},
    "segnet": {"widths": (24, 48, 96, 128), "convs": (2, 2, 2, 2)},
    "segnet_basic": {"widths": (32, 32, 32, 32)},
    "deconvnet": {"widths": (24, 48, 96, 128), "convs": (2, 2, 2, 2), "features": 128, "kernel_size": 3},
    "unet_original": {"widths": (16, 32, 64, 96), "dropout": 0.1},
    "stacked_unet": {"features": 24, "stem_features": 24, "widths": (64, 96), "counts": (2, 2), "finest": 8},
    "cunet": {"units": 2, "features": 32, "growth": 16},
    "ddrnet": {"features": 16, "context_features": 32, "head_features": 32},
    "patch_cnn": {"widths": (16, 24, 32), "kernel_sizes": (4, 3, 3), "positions": 2, "hidden": 64},
}
FINER = ("fcn32s", "fcn16s", "deeplabv3_cascade", "lraspp")  # output stride 8: theirs leaves 2x2 or 4x4 of 64x64
VARIANTS = ("stacked_unet_128", "stacked_unet_7_128")  # that differ from another entry in what `SMALL` sets
SIZE = 64  # pixels a side


def make_config(name: str, steps: int) -> Any:
    """Returns the config that trains a small `name` on the embedded shapes."""
    c = default_config()
    c.data.update(name="shapes", canvas=(SIZE, SIZE), crop=(SIZE, SIZE), batch_size=16)
    c.data.options = {"size": SIZE, "train": 2048, "val": 128, "color": 0.9}  # few steps must be enough
    c.model.name = name
    c.model.options = SMALL.get(name, {})
    if architecture(name).default_encoder is not None:
        c.model.encoder = "plain"
        c.model.encoder_options = {"widths": WIDTHS}
        c.model.output_stride = 8 if name in FINER else None
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.loss.options = {"dice": {"per_image": False}}
    c.optim.update(lr=4e-3, warmup_steps=min(20, steps // 10), clip_norm=1.0)
    c.train.steps = steps
    c.eval.every = steps
    c.log.update(every=25, tensorboard=False)
    c.checkpoint.every = steps
    return c


def measure(name: str, workdir: Path, steps: int) -> dict[str, Any]:
    """Trains the small model `name` in the folder `workdir`, and returns its row of the table."""
    from jaxseg.experiment.build import build
    from jaxseg.experiment.log import read_rows
    from jaxseg.training.loop import train

    config = make_config(name, steps)
    began = time.perf_counter()
    scores = train(config, workdir)
    whole = tree(build(config, splits=()).model, (SIZE, SIZE))
    speeds = [row["images_per_s"] for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "train"]
    return {
        "model": name,
        "miou": scores["miou"],
        "parameters": whole.parameters,
        "macs": whole.macs,
        "step_s": config.data.batch_size / max(speeds),  # what else the machine does only slows
        "total_s": time.perf_counter() - began,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the Markdown table, best first."""
    lines = ["| model | val mIoU | parameters | MMAC | step, ms |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row["miou"]):
        lines.append(
            f"| {row['model']} | {row['miou']:.3f} | {row['parameters']:,} | {row['macs'] / 1e6:.0f} |"
            f" {1000 * row['step_s']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def figure(names: list[str], out: Path, count: int) -> None:
    """Writes league.png: images, their labels and the prediction of every model, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from jaxseg.inference import Predictor
    from jaxseg.trained import load
    from jaxseg.visualize import colorize

    dataset = create_dataset("shapes", **make_config(names[0], 1).data.options.to_dict())
    samples = [dataset.splits["val"][i] for i in range(count)]
    columns = {"image": [s["image"] for s in samples]}
    columns["label"] = [colorize(s["label"], dataset.palette, ignore=dataset.ignore) for s in samples]
    for name in names:
        predictor = Predictor(load(out / name, "latest"))
        columns[name] = [colorize(predictor(s["image"]), dataset.palette) for s in samples]
        jax.clear_caches()
    panels = 8
    rows = -(-len(columns) // panels)
    size = (1.5 * panels, (1.5 * count + 0.3) * rows)
    figure, axes = pyplot.subplots(rows, panels, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, cells) in zip(axes.flat, columns.items(), strict=False):
        gap = np.full((2, SIZE, 3), 255, np.uint8)
        axis.imshow(np.concatenate([part for cell in cells for part in (cell, gap)]), interpolation="nearest")
        axis.set_title(title, fontsize=9)
    with atomic_path(out / "league.png") as part:
        figure.savefig(part, dpi=110)
    pyplot.close(figure)
