"""Trains each config of `configs/papers` for two steps on a tiny tree of its data set, evaluates, and prints a table.

python -m tests.end_to_end.papers FOLDER [NAME ...]

The networks, losses, optimizers and augmentation are the config's; crops are small (their phase stays), weights random,
batches two images. That the recipe runs on its named reader is all that is shown. The last column is what the paper's
schedule would take on one H100: images times the operations of a training step, three times those of the network on a
crop, at the rate that U-Net, FPN and DeepLabV3+ reached there in bfloat16 (docs/performance.md), 16 images of 512 x 512
in `MEASURED` seconds a step. About a minute a config on two cores.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from flax import linen as nn
from PIL import Image

from jaxseg.cli import recipes
from jaxseg.experiment.build import build_model
from jaxseg.experiment.log import read_rows
from jaxseg.models import create_model, init
from tests.data.trees import TREES

MEASURED = {("unet", "resnet34"): 22.8e-3, ("fpn", "resnet50"): 25.0e-3, ("deeplabv3plus", "resnet50"): 38.4e-3}
IMAGES = {"voc": 1464, "camvid": 367, "cityscapes": 2975, "ade20k": 20210, "isbi": 30}
WHOLE = ("isbi_unet", "lits_manet")  # whose crop is not changed: unpadded convolutions; attention over all positions


def tree(name: str, folder: Path) -> int:
    """Writes a tiny tree of the data set, and returns its number of classes."""
    if name in TREES:
        TREES[name][0](folder)
        return {"voc": 21, "camvid": 11, "cityscapes": 19, "ade20k": 150, "isbi": 2}[name]
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(2):
            label = np.random.default_rng(i).integers(0, 3, (24, 32), np.uint8)
            Image.fromarray(label).save(folder / split / "labels" / f"{i}.png")
            Image.fromarray(np.stack([label * 80] * 3, -1)).save(folder / split / "images" / f"{i}.png")
    (folder / "classes.json").write_text(json.dumps(["background", "liver", "tumor"]))
    return 3


def operations(model: nn.Module, crop: tuple[int, int]) -> float:
    """Floating-point operations of the network on one crop."""
    variables = jax.eval_shape(lambda: init(model, jax.random.key(0)))
    image = jax.ShapeDtypeStruct((1, *crop, 3), np.float32)
    return jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, image).cost_analysis()["flops"]


def rate() -> float:
    """Operations a second in training that the measured models reached, the mean."""
    rates = [
        3 * 16 * operations(create_model(name, encoder, num_classes=21), (512, 512)) / seconds
        for (name, encoder), seconds in MEASURED.items()
    ]
    print("TFLOP/s of", dict(zip(MEASURED, (round(r / 1e12) for r in rates), strict=True)), flush=True)
    return float(np.mean(rates))


def smoke(name: str, folder: Path, rate: float) -> str:
    """Runs one config, and returns its row; `rate` is in operations a second."""
    c, path = recipes.load(name), folder / name
    classes = tree(c.data.name, path / "data")
    crop = tuple(c.data.crop) if name in WHOLE else tuple(64 + n % 32 for n in c.data.crop)
    settings = {
        "data.root": path / "data", "data.crop": crop, "data.canvas": crop, "data.batch_size": 2,
        "data.resize.factor": 1.0, "data.resize.short_side": 0, "data.resize.size": "", "data.train_split": "train",
        "model.encoder_weights": "", "train.epochs": 0, "train.steps": 2 * c.optim.accumulate,
        "optim.warmup_steps": min(1, c.optim.warmup_steps), "eval.every": 0, "log.every": 1, "log.tensorboard": False,
        "train.compilation_cache": "",
    }  # fmt: skip
    words = [f"--config.{key}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in settings.items()]
    began = time.perf_counter()
    command = [sys.executable, "-m", "jaxseg", "train", name, "--workdir", path / "run", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        return f"| `{name}` | FAILED: {done.stderr.strip().splitlines()[-1][:300]} | | | |"
    rows = read_rows(path / "run" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert np.isfinite(losses).all(), losses
    assert any("miou" in row for row in rows)
    images = c.train.steps * c.data.batch_size or c.train.epochs * IMAGES.get(c.data.name, 0)
    work = operations(build_model(c, classes), tuple(c.data.crop))
    hours = 3 * work * images / rate / 3600 if images else None
    loss = ", ".join(f"{loss:.2f}" for loss in losses)
    schedule = f"{images:,} | {hours:.1f}" if hours else "of the data | of the data"
    return f"| `{name}` | {loss} | {seconds:.0f} s | {work / 1e9:.0f} | {schedule} |"


def main() -> int:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    found = rate()
    known = [name for name, path in recipes.recipes().items() if path.parent.name == "papers"]
    print("| config | loss of two steps | run | GFLOP a crop | images of the schedule | hours on an H100 |")
    print("|---|---|---|---|---|---|")
    failed = 0
    for name in names or known:
        row = smoke(name, folder, found)
        failed += "FAILED" in row
        print(row, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
