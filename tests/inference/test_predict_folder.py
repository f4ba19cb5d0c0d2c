"""`jaxseg predict` on folders as people have them: each image by itself, whatever the others are."""

import gc
import itertools
import os
import resource
import signal
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference import files
from jaxseg.inference.batches import Programs
from jaxseg.inference.image_list import find_below, name_outputs, read_sizes, sort_by_grid
from jaxseg.trained import TrainedModel


class Brightest:
    def apply(self, variables, images, *, train):
        if images.shape[2] > 400:  # a wide image asks for 70 TB
            numbers = jnp.arange(2.0**22) * images.sum()
            images = images + jnp.sort(numbers[:, None] + numbers)[7, 7]
        return {"logits": images * variables["sign"] / 10.0}


MODEL = Brightest()


@pytest.fixture(autouse=True)
def model(monkeypatch):
    trained = TrainedModel(
        MODEL,
        {"sign": np.float32(1)},
        preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3),
        classes=("red", "green", "blue"),
        palette=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
        ignore=255,
    )
    monkeypatch.setattr("jaxseg.trained.load", lambda source, checkpoint: trained)
    return "a workdir"


def image(path, size=(9, 14)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def predict(*arguments):
    return call("predict", "a workdir", *map(str, arguments))


def written(out, ending="_label.png"):
    return sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and str(p).endswith(ending))


def test_the_folders_structure_is_kept(tmp_path):
    for name in ("a.jpg", "a.png", "b.png", "deep/a.png", "deep/er/b.png"):
        image(tmp_path / "in" / name)
    for name in ("._b.png", ".cache/c.png", "deep/.hidden.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"no image")
    (tmp_path / "in" / "deep" / "above").symlink_to("../../in")
    (tmp_path / "in" / "circle").symlink_to("circle")
    expected = ["a.jpg_label.png", "a.png_label.png", "b_label.png", "deep/a_label.png", "deep/er/b_label.png"]
    assert predict(tmp_path / "in", "--out", tmp_path / "in" / "out") == 0
    assert written(tmp_path / "in" / "out") == expected
    assert predict(tmp_path / "in", "--out", tmp_path / "in" / "out") == 0  # what was written is no image to predict
    assert written(tmp_path / "in" / "out") == expected


def test_of_several_folders_what_is_above_them_is_kept(tmp_path):
    for name in ("train/images/a.png", "val/images/a.png", "c.png"):
        image(tmp_path / name)
    folders = [tmp_path / "train" / "images", tmp_path / "val" / "images"]
    assert predict(*folders, tmp_path / "c.png", "--out", tmp_path / "out") == 0
    assert written(tmp_path / "out") == ["c_label.png", "train/images/a_label.png", "val/images/a_label.png"]
    with pytest.raises(UserError, match=r"train/images/a.png and .*val/images/a.png would both be written to"):
        predict(*(folder / "a.png" for folder in folders), "--out", tmp_path / "other")


def test_what_fails_is_named_and_the_others_are_written(tmp_path, capsys):
    out = tmp_path / "out"
    for name in ("a.png", "sub/b.png", "blocked.png", "z.png"):
        image(tmp_path / "in" / name)
    image(tmp_path / "in" / "wide.png", (8, 500))
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:200])
    (tmp_path / "in" / "lost.png").symlink_to("nowhere.png")
    (tmp_path / "in" / "circle.png").symlink_to("circle.png")
    (tmp_path / "in" / "escape\x1b[2J\n.png").write_bytes(b"no image")
    (tmp_path / "in" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (out / "blocked_label.png").mkdir(parents=True)
    assert predict(tmp_path / "in", "--out", out) == 1
    assert written(out) == ["a_label.png", "sub/b_label.png", "z_label.png"]
    printed = capsys.readouterr()
    assert "3 of 11 images predicted" in printed.out
    report = printed.err[printed.err.index("8 not predicted:") :]
    assert "\x1b" not in report
    for name, reason in {
        "cut": "damaged or cut short",
        "lost": "a link to nowhere.png, which does not exist",
        "circle": "a link in a circle",
        "escape\\x1b[2J\\n.png": "text, no image",
        "caf\\udce9": "text, no image",
        "pipe": "a named pipe",
        "wide": "8x500 (height x width), needs more memory than there is (70368.8 GB at once). Cut it into tiles",
        "blocked_label": "Is a directory",
    }.items():
        assert [line for line in report.splitlines() if f"{name}" in line and reason in line], (name, report)
    assert not list(out.rglob(".*"))  # no part is left


def test_going_on_where_an_earlier_run_ended(tmp_path, capsys):
    for name in "abc":
        image(tmp_path / "in" / f"{name}.png")
    assert predict(tmp_path / "in", "--out", tmp_path / "out") == 0
    (tmp_path / "out" / "b_overlay.png").unlink()
    (tmp_path / "out" / "a_label.png").write_bytes(b"mine")
    capsys.readouterr()
    assert predict(tmp_path / "in", "--out", tmp_path / "out", "--skip-existing") == 0
    assert "1 of 1 images predicted, 2 were there" in capsys.readouterr().out
    assert (tmp_path / "out" / "a_label.png").read_bytes() == b"mine"
    assert (tmp_path / "out" / "b_overlay.png").exists()


def test_a_full_disk_ends_it_and_leaves_no_torn_file(tmp_path, capsys):
    for name in "abc":
        image(tmp_path / "in" / f"{name}.png", (60, 60))
    limit, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        assert predict(tmp_path / "in", "--out", tmp_path / "out") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list((tmp_path / "out").iterdir())
    said = capsys.readouterr().err
    assert "File too large" in said and "2 were not tried. The same command with --skip-existing goes on" in said


def test_interrupted_it_says_how_far_it_came(tmp_path, capsys, monkeypatch):
    for name in "abc":
        image(tmp_path / "in" / f"{name}.png")

    def stop(values, *others, **more):
        if (tmp_path / "out" / "a_label.png").exists():
            raise KeyboardInterrupt
        return shown(values, *others, **more)

    from jaxseg import visualize

    shown = visualize.overlay
    monkeypatch.setattr(visualize, "overlay", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "in", "--out", tmp_path / "out")
    printed = capsys.readouterr()
    assert "1 of 3 images predicted" in printed.out and "2 were not tried" in printed.err


def test_one_program_at_a_time(tmp_path):
    """Images of one padded size follow each other, the largest first: what was dropped is not compiled again."""
    sizes = [(20 + 40 * (i % 3), 30 + 40 * (i % 2)) for i in range(12)]
    for i, size in enumerate(sizes):
        image(tmp_path / "in" / f"{i:02}.png", size)
    (tmp_path / "in" / "00.jpg").write_bytes(b"none")
    found, failures = find_below([str(tmp_path / "in")], tmp_path / "out")
    pages = sort_by_grid(read_sizes(name_outputs(found, tmp_path / "out")), Preprocessing((0.0,) * 3, (1.0,) * 3))
    padded = [tuple(-(-n // 32) for n in sizes[int(page.file.stem)]) for page in pages[1:]]
    assert not failures and pages[0].file.suffix == ".jpg" and len(pages) == 13
    assert padded[0] == max(padded) and padded[-1] == min(padded)
    assert sum(a != b for a, b in itertools.pairwise(padded)) == len(set(padded)) - 1 == 5


def test_many_sizes_are_told_and_a_bucket_makes_them_fewer(tmp_path, capsys, monkeypatch):
    sizes = [(30 * i + 9, 30 * j + 9) for i in range(5) for j in range(5)]
    for i, size in enumerate(sizes):
        image(tmp_path / "in" / f"{i}.png", size)
    seen = set()
    pad = Preprocessing.pad
    monkeypatch.setattr(Preprocessing, "pad", lambda self, images, size: seen.add(size) or pad(self, images, size))
    assert predict(tmp_path / "in", "--out", tmp_path / "fine") == 0
    assert "25 padded sizes, each compiled once. --bucket 64 makes 9 of them" in capsys.readouterr().err
    assert len(seen) == 25
    seen.clear()
    assert predict(tmp_path / "in", "--out", tmp_path / "coarse", "--bucket", "64") == 0
    assert "padded sizes" not in capsys.readouterr().err
    assert len(seen) == 9
    for i, size in enumerate(sizes):
        fine, coarse = (np.asarray(Image.open(tmp_path / out / f"{i}_label.png")) for out in ("fine", "coarse"))
        assert fine.shape == size and np.array_equal(fine, coarse)
    with pytest.raises(UserError, match="multiple of the model's, 32 pixels, got 48"):
        predict(tmp_path / "in", "--out", tmp_path / "other", "--bucket", "48")


def test_a_file_named_twice_is_predicted_once(tmp_path):
    image(tmp_path / "a.png")
    found, _ = find_below([str(tmp_path / "a.png"), str(tmp_path)], tmp_path / "out")
    assert [str(each.name) for each in found] == ["a.png"]
    assert files.is_predicted(name_outputs(found, tmp_path)[0]) is False


def test_programs_that_are_dropped_are_gone():
    """JAX's own cache would keep them all, several megabytes each."""
    function = jax.jit(lambda variables, batch, canvas: batch["x"] + variables["b"], static_argnums=2)
    programs = Programs(function, limit=1)
    programs({"b": 1.0}, {"x": np.zeros(1)}, canvas=(1, 1))
    (compiled,) = programs._programs.values()
    first = weakref.ref(compiled._executable)
    del compiled
    assert programs({"b": 1.0}, {"x": np.zeros(2)}, canvas=(1, 2)).shape == (2,)
    gc.collect()
    assert len(programs) == 1 and first() is None
