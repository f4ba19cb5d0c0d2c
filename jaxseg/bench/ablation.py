"""The ablation: every loss by itself, on the same small U-Net and data; a table of what each does."""

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.bench.league import make_config
from jaxseg.bench.timing import alternate
from jaxseg.data import create_dataset
from jaxseg.losses import weighted_sum

COMBINED = ("cross_entropy+dice", "focal+dice", "cross_entropy+boundary")  # what is used more than each alone
MODEL = "unet"  # as the league makes it
SHAPE = (4, 256, 256, 11)  # of the logits that a loss is timed on; the step is that of a U-Net on ResNet-34


def rarest_class() -> str:
    """Returns the name of the class with the fewest pixels in the validation split."""
    dataset = create_dataset("shapes", **make_config(MODEL, 1).data.options.to_dict())
    counts = sum(
        np.bincount(sample["label"].ravel(), minlength=dataset.num_classes) for sample in dataset.splits["val"]
    )
    return dataset.classes[int(np.argmin(counts))]


def measure(name: str, rarest: str, workdir: Path, steps: int) -> dict[str, float]:
    """Trains the small U-Net with the loss `name` in the folder `workdir`, and returns its validation scores."""
    from jaxseg.experiment.log import read_rows
    from jaxseg.training.loop import train

    config = make_config(MODEL, steps)
    config.loss.terms = dict.fromkeys(name.split("+"), 1.0)
    config.loss.options = {}
    config.eval.metrics = ("confusion", "boundary_f")
    train(config, workdir)
    last = [row for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "eval"][-1]
    return {"miou": last["miou"], "rarest_iou": last[f"iou/{rarest}"], "boundary_f": last["mean_boundary_f"]}


def seconds(name: str, *, repeats: int = 5) -> tuple[float, float]:
    """Returns the median seconds that a loss and its gradient take, and those of cross entropy, measured in turns."""
    logits = jax.random.normal(jax.random.key(0), SHAPE)
    labels = jax.random.randint(jax.random.key(1), (SHAPE[0], 8, 8), 0, SHAPE[3])
    labels = jnp.repeat(jnp.repeat(labels, SHAPE[1] // 8, 1), SHAPE[2] // 8, 2)  # regions, not noise

    def timed(terms: Mapping[str, float]) -> Callable[[], Float[Array, "b h w c"]]:
        def total(logits: Float[Array, "b h w c"]) -> Float[Array, ""]:
            return weighted_sum({"logits": logits}, labels, None, terms=terms, heads={"logits": 1.0}, options={})[0]

        gradient = jax.jit(jax.grad(total))
        return lambda: jax.block_until_ready(gradient(logits))

    times = alternate([timed(dict.fromkeys(name.split("+"), 1.0)), timed({"cross_entropy": 1.0})], repeats)
    return tuple(map(statistics.median, times))


def table(rows: list[dict[str, Any]], rarest: str) -> str:
    """Returns the Markdown table, best first."""
    lines = [
        f"| loss | val mIoU | IoU of the rarest class, {rarest} | boundary F | step, % longer |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row["miou"]):
        name = row["loss"].replace("+", " + ")
        lines.append(
            f"| {name} | {row['miou']:.3f} | {row['rarest_iou']:.3f} | {row['boundary_f']:.3f} |"
            f" {100 * row['overhead']:+.1f} |"
        )
    return "\n".join(lines) + "\n"
