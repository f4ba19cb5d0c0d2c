"""From the files to the score: `jaxseg eval` against a loop of NumPy, Pillow and scikit-learn that shares only the net.

Nothing of `jaxseg.data` and `jaxseg.inference` is used by the loop: it reads the files, resizes by the rule of
docs/data.md, pads to the crop's phase, enlarges the scores back, and counts.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tifffile
from PIL import Image
from sklearn.metrics import confusion_matrix

from jaxseg import load
from jaxseg.cli.program import call
from jaxseg.config import default_config
from jaxseg.evaluation.data import find_dataset
from jaxseg.evaluation.evaluator import Evaluator
from jaxseg.experiment import build
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.claim import claim_workdir
from jaxseg.experiment.state import create_state
from jaxseg.models import init

SIZES = [(37, 50), (52, 41)]
NODATA = {"uint8": None, "uint16": 65535, "float32": -9999.0}
IGNORE = 255


def write(root, dtype, nodata):
    """Blobs of three classes, their brightness, and a corner that holds nothing; one label is turned by no tag."""
    random = np.random.default_rng(5)
    for split in ("train", "val"):
        for i, (h, w) in enumerate(SIZES):
            coarse = random.integers(0, 3, (6, 6))
            label = np.kron(coarse, np.ones((9, 9), int))[:h, :w].astype(np.uint8)
            image = 60.0 * label[..., None] + random.normal(60, 12, (h, w, 3))
            image = image.clip(0, 255) if dtype == "uint8" else image * 7 + 100
            image = image.astype(dtype)
            if nodata is not None:
                image[:7, 20:35] = nodata
                image[20, 20, 0] = nodata  # one band of a pixel that is there
            label[-3:] = IGNORE
            for part, suffix in (("images", "png" if dtype == "uint8" else "tif"), ("labels", "png")):
                (root / split / part).mkdir(parents=True, exist_ok=True)
                path = root / split / part / f"{i}.{suffix}"
                if suffix == "tif":
                    tifffile.imwrite(path, image, photometric="rgb")
                else:
                    Image.fromarray(image if part == "images" else label).save(path)
    (root / "classes.json").write_text(json.dumps({"ignore": IGNORE, "classes": ["a", "b", "c"]}))


def make_run(root, workdir, dtype, resize, crop, fill):
    c = default_config()
    c.data.update(name="folder", root=str(root), crop=crop, canvas=(40, 40), batch_size=1)
    if NODATA[dtype] is not None:
        c.data.options = {"nodata": NODATA[dtype]}
    c.data.resize.update(**resize)
    c.model.update(name="unet", encoder="plain")
    c.model.encoder_options = {"widths": (4, 6, 6), "convs": 1}
    c.model.options = {"decoder_channels": (6, 4, 4)}
    c.eval.update(fill=fill, batch_size=2)
    c.train.update(steps=1, compilation_cache="")
    experiment = build.build(c, splits=("train", "val"))
    claim_workdir(c, experiment.dataset, workdir, experiment.preprocessing).write(0)
    variables = init(experiment.model, jax.random.key(2))
    head = variables["params"]["head"]["conv"]
    head |= {"kernel": 8 * head["kernel"]}
    checkpoints = Checkpoints(workdir, writable=True)
    checkpoints.save(1, create_state(variables, optax.identity(), ema=False), {"iterator": {}})
    checkpoints.close()
    return experiment, variables


def triangle(n, new):
    """The [new, n] matrix of the mean under a triangle, as wide as a new pixel where the image shrinks."""
    scale = n / new
    centers = (np.arange(new) + 0.5) * scale
    matrix = np.maximum(0, 1 - np.abs(np.arange(n) + 0.5 - centers[:, None]) / max(scale, 1))
    return matrix / matrix.sum(1, keepdims=True)


def point(n, new):
    """The [new, n] matrix of plain linear interpolation, corners in place."""
    at = ((np.arange(new) + 0.5) * n / new - 0.5).clip(0, n - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n)))


def along(matrices, x):
    return np.einsum("Hh,hwc,Ww->HWc", matrices[0], x, matrices[1])


def naive(root, fields, resize, crop, fill, nodata, apply):
    """The confusion matrix of the files of `val`; `fields` are dataset.json's."""
    seen = fields["preprocessing"]
    window = np.array(seen["bands"]["window"] or [[0, 255]] * 3, np.float64)
    matrix = 0
    for file in sorted((root / "val" / "images").iterdir()):
        stored = tifffile.imread(file) if file.suffix == ".tif" else np.asarray(Image.open(file))
        label = np.asarray(Image.open(root / "val" / "labels" / f"{file.stem}.png"))
        native = label.shape
        if "size" in resize:
            size = resize["size"]
        else:
            factor = resize["short_side"] / min(native) if "short_side" in resize else resize.get("factor", 1)
            size = tuple(round(n * factor) for n in native)
        there = np.ones(stored.shape) if nodata is None else (stored != nodata).astype(float)
        values = stored.astype(np.float64)
        if size != native and stored.dtype == np.uint8:  # Pillow rounds between the axes
            values = np.asarray(Image.fromarray(stored).resize(size[::-1], Image.Resampling.BILINEAR), np.float64)
            there_now = np.ones(values.shape, bool)
        elif size != native:
            ends = [triangle(n, new) for n, new in zip(native, size, strict=True)]
            share = along(ends, there)
            values = along(ends, values * there) / np.maximum(share, 1e-6)
            values = np.round(values) if stored.dtype != np.float32 else values
            there_now = share >= 0.5
        else:
            there_now = there == 1
        shown = ((values - window[:, 0]) * 255 / (window[:, 1] - window[:, 0])).clip(0, 255)
        shown = np.where(there_now, shown, 127)
        padded = []
        for n, phase in zip(size, crop, strict=True):
            step = 8
            while n >= 16 * step:
                step *= 2
            padded.append(n + (phase % 8 - n) % step)
        ends = [(0, p - n) for p, n in zip(padded, size, strict=True)]
        if fill == "reflect":
            whole = np.pad(shown, (*ends, (0, 0)), mode="symmetric")
        else:
            whole = np.pad(shown, (*ends, (0, 0)), constant_values=np.nan)
            color = 127 if fill == "gray" else np.array(seen["mean"])
            color = np.round(color) if stored.dtype == np.uint8 else color
            whole = np.where(np.isnan(whole), color, whole)
        whole = (whole - np.array(seen["mean"])) / np.array(seen["std"])
        scores = np.asarray(apply(jnp.asarray(whole[None], jnp.float32)))[0, : size[0], : size[1]]
        if size != native:
            scores = along([point(n, new) for n, new in zip(size, native, strict=True)], scores.astype(np.float64))
        counts = (label != IGNORE) & (there == 1).any(-1)
        matrix = matrix + confusion_matrix(label[counts], scores.argmax(-1)[counts], labels=range(3))
    return matrix


@pytest.mark.parametrize(
    "dtype, resize, crop, fill",
    [
        ("uint8", {"factor": 0.6}, (27, 30), "reflect"),
        ("uint8", {"short_side": 45}, (32, 33), "mean"),
        ("uint16", {"short_side": 25}, (21, 24), "reflect"),
        ("uint16", {"factor": 1.4}, (31, 26), "gray"),
        ("float32", {"size": (30, 44)}, (24, 25), "mean"),
    ],
)
def test_a_resized_phased_score_is_that_of_a_loop_over_the_files(dtype, resize, crop, fill, tmp_path):
    root, workdir = tmp_path / "data", tmp_path / "run"
    write(root, dtype, NODATA[dtype])
    experiment, variables = make_run(root, workdir, dtype, resize, crop, fill)
    trained = load(workdir)
    dataset, split = find_dataset(trained)
    found = Evaluator(trained, dataset, batch_size=2)(split).matrix
    fields = json.loads((workdir / "dataset.json").read_text())

    @jax.jit
    def apply(images):
        return experiment.model.apply(variables, images, train=False)["logits"]

    matrix = naive(root, fields, resize, crop, fill, NODATA[dtype], apply)
    assert (np.diag(matrix) > 0).sum() > 1 and (matrix.sum(0) > 0).sum() > 1  # the net says several classes
    moved = np.abs(found - matrix).sum()
    assert moved <= 4, f"{found.tolist()} and {matrix.tolist()}"  # two pixels, by rounding


def test_the_page_of_errors_counts_the_pixels_that_the_evaluation_counts(tmp_path):
    root, workdir = tmp_path / "data", tmp_path / "run"
    write(root, "uint16", NODATA["uint16"])
    make_run(root, workdir, "uint16", {}, (37, 37), "gray")
    assert call("errors", str(workdir)) == 0
    counted = sum((h - 3) * w - 7 * 15 for h, w in SIZES)  # without the ignored rows and the corner
    assert f"{counted:,} pixels with a label" in (workdir / "errors" / "val" / "errors.html").read_text()


def test_the_command_writes_the_scores_of_the_loop(tmp_path):
    root, workdir, crop = tmp_path / "data", tmp_path / "run", (37, 37)
    write(root, "uint16", NODATA["uint16"])
    experiment, variables = make_run(root, workdir, "uint16", {}, crop, "gray")
    assert call("eval", str(workdir)) == 0
    found = json.loads((workdir / "eval" / "val" / "scores.json").read_text())
    fields = json.loads((workdir / "dataset.json").read_text())
    apply = jax.jit(lambda x: experiment.model.apply(variables, x, train=False)["logits"])
    matrix = naive(root, fields, {}, crop, "gray", NODATA["uint16"], apply)
    ious = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    np.testing.assert_allclose(found["miou"], ious.mean(), atol=1e-3)
    np.testing.assert_allclose(found["pixel_accuracy"], np.diag(matrix).sum() / matrix.sum(), atol=1e-3)
