"""The documentation does what it says: its Python runs, page by page from top to bottom, and so do its commands."""

import ast
import pkgutil
import re
import shlex
from importlib.util import find_spec

import pytest

from jaxseg.cli import recipes
from jaxseg.cli.program import main, make_parser
from jaxseg.experiment.limits import check_config
from tests.documents import PAGES, ROOT, blocks, commands, inline, lay_out, run, split

CONFIG = "from jaxseg.config import default_config\nc = default_config()\nc.train.steps = 1\n"
CHECK = "from jaxseg.experiment.build import check_config\ncheck_config(c)\n"
ARRAYS = """
import jax as _jax
import jax.numpy as _jnp
_key = _jax.random.key(0)
_small = {"widths": (4, 4), "convs": 1}
"""
# What the sentences of a page take as given: the reader's own arrays, models and folders.
GIVEN = {
    "docs/aerial.md": f"""
if {find_spec("rasterio") is not None}:
    import os as _os
    import numpy as _np
    import rasterio as _rasterio
    _random, _names = _np.random.default_rng(0), ("blue", "green", "red", "nir")
    _place = {{"crs": "EPSG:32633", "transform": _rasterio.transform.from_origin(500000, 5400000, 10, 10)}}
    _size = {{"height": 300, "width": 1000, "count": 4, "dtype": "uint16", "nodata": 0}}
    with _rasterio.open("scene.tif", "w", **_size, **_place) as _file:
        _file.write(_random.integers(1, 4000, (4, 300, 1000), _np.uint16))
        _file.descriptions = _names
    _half = {{"crs": "EPSG:32633", "transform": _rasterio.transform.from_origin(500100, 5400000, 20, 20)}}
    _size = {{"height": 150, "width": 495, "count": 1, "dtype": "uint8"}}
    with _rasterio.open("labels.tif", "w", **_size, **_half) as _file:
        _file.write(_np.tile(_np.resize(_np.uint8([0, 1, 2, 3]).repeat(5), 495), (1, 150, 1)))
    _os.mkdir("out")
    _size = {{"height": 300, "width": 1000, "count": 1, "dtype": "uint8", "nodata": 255}}
    with _rasterio.open("out/scene_label.tif", "w", **_size, **_place) as _file:
        _file.write(_np.repeat(_np.uint8([0, 1, 255]), [400, 500, 100])[None].repeat(300, 0)[None])
""",
    "docs/calibration.md": """
import numpy as _np
image = _np.random.default_rng(0).integers(0, 255, (32, 32, 3), _np.uint8)
""",
    "docs/clouds.md": f"""
if {find_spec("rasterio") is not None}:
    import os as _os
    import numpy as _np
    import rasterio as _rasterio
    _os.mkdir("out")
    _place = {{"crs": "EPSG:32632", "transform": _rasterio.transform.from_origin(500000, 5400000, 30, 30)}}
    _size = {{"height": 64, "width": 64, "count": 1, "dtype": "uint8"}}
    with _rasterio.open("out/scene_label.tif", "w", **_size, **_place) as _file:
        _file.write(_np.random.default_rng(0).integers(0, 3, (1, 64, 64), _np.uint8))
""",
    "docs/export.md": f"""
import numpy as _np
import jaxseg as _jaxseg
from jaxseg.export import Form as _Form
image = _np.random.default_rng(0).integers(0, 255, (24, 32, 3), _np.uint8)
_trained = _jaxseg.load({str(ROOT / "tests/data_before/bundle")!r})
_jaxseg.export.export_onnx(_trained, "camvid.onnx", _Form((24, 32)))
_jaxseg.export.export_stablehlo(_trained, "camvid.stablehlo", _Form((24, 32)))
if {find_spec("litert_converter") is not None}:
    _jaxseg.export.export_litert(_trained, "camvid.tflite", _Form((24, 32)))
""",
    "docs/large.md": """
import numpy as _np
import jaxseg
array = _np.random.default_rng(0).integers(0, 255, (600, 40, 3), _np.uint8)
out = _np.full((600, 40), 255, _np.uint8)
""",
    "docs/losses.md": ARRAYS
    + """
logits = _jax.random.normal(_key, (2, 8, 8, 3))
labels = _jax.random.randint(_key, (2, 8, 8), 0, 3)
where = labels != 1
cells = labels
images = _jax.random.normal(_key, (2, 8, 8, 3))
import jaxseg as _jaxseg
teacher = _jaxseg.create_model("unet", "plain", num_classes=3, decoder_channels=(4, 4), encoder_options=_small)
teacher_variables = _jaxseg.init(teacher, _key)
""",
    "docs/medical.md": f"""
if {find_spec("nibabel") is not None}:
    import os as _os
    import nibabel as _nibabel
    import numpy as _np
    for _folder, _name, _first in (("labels", "p03_label", 2), ("ct/labels", "p03", 3)):
        _os.makedirs(_folder, exist_ok=True)
        _voxels = _np.zeros((12, 10, 6), _np.uint8)
        _voxels[_first:8, 2:7, 1:4] = 1
        _nibabel.save(_nibabel.Nifti1Image(_voxels, _np.diag([0.8, 1.4, 5, 1])), f"{{_folder}}/{{_name}}.nii.gz")
""",
    "docs/metrics.md": ARRAYS
    + """
import jaxseg as _jaxseg
model = _jaxseg.create_model("unet", "plain", num_classes=21, decoder_channels=(4, 4), encoder_options=_small)
variables = _jaxseg.init(model, _key)
batches = [(_jnp.zeros((2, 8, 8, 3)), _jnp.full((2, 8, 8), 3))]
classes = [f"class {i}" for i in range(21)]
logits = _jax.random.normal(_key, (2, 8, 8, 3))
masks = _jax.random.randint(_key, (2, 8, 8), 0, 3)
""",
    "docs/pretrained.md": 'names, colors = [f"class {i}" for i in range(11)], [(i, i, i) for i in range(11)]',
    "docs/refinement.md": ARRAYS
    + """
key = _key
logits = _jax.random.normal(_key, (1, 6, 6, 2))
images = 255 * _jax.random.uniform(_key, (1, 6, 6, 3))
""",
}
# What is done with what a page has made, where its blocks only define it.
THEN = {
    "docs/aerial.md": f"""
if {find_spec("rasterio") is not None}:
    from jaxseg.data import create_dataset as _create
    from jaxseg.data.check import look as _look
    from jaxseg.data.verdict import judge as _judge
    _sets = _create("folder", "DIR")
    assert _judge(_sets, [_look(_sets, split) for split in ("train", "val")]).warnings == []
    assert [len(_sets.splits[split]) for split in ("train", "val")] == [3, 1]
    _first = _sets.splits["train"][0]
    assert _first["label"][0, :50].tolist() == [255] * 10 + [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    assert areas == {{0: 400 * 300 * 100.0, 1: 500 * 300 * 100.0}}
    with rasterio.open("masked.tif") as _file:
        assert _file.nodata == 0 and _file.descriptions == _names and _file.read().min() == 1
""",
    "README.md": """
shapes = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32), jax.ShapeDtypeStruct((2, 32, 32), jnp.int32)
value, updated = jax.eval_shape(loss, variables["params"], variables["batch_stats"], *shapes)
assert value.shape == ()
assert set(updated) == {"batch_stats"}
""",
    "docs/large.md": "assert out.max() < 255",
    "docs/models.md": """
model = jaxseg.create_model("unet", "plain", num_classes=19, dtype="bfloat16")
outputs, updates = jax.eval_shape(forward, jaxseg.init(model, jax.random.key(0)), images, jax.random.key(1))
assert set(outputs) == {"logits"}
assert set(updates) == {"batch_stats"}
from jaxseg.experiment.build import build_model, check_config
from jaxseg.config import default_config
c = default_config()
c.train.steps = 1
c.model.update(name="mynet", encoder="mine")
c.model.options, c.loss.terms, c.loss.options = {"features": 4}, {"powered": 1.0}, {"powered": {"power": 2.0}}
check_config(c)
shapes = jax.eval_shape(lambda: jaxseg.init(build_model(c, 3), jax.random.key(0)))
assert sorted(shapes["params"]["encoder"]) == ["conv1", "conv2"]
del jaxseg.MODELS["mynet"], jaxseg.ENCODERS["mine"], jaxseg.LOSSES["powered"]  # for the tests to come
""",
}
PEERS = "segmentation_models_pytorch"  # the block that needs it runs in tests/parity
SETS = {
    "tensorly",
    "nibabel",
    "nilearn",
    "ai_edge_litert",
    "skimage",
    "rasterio",
}  # packages; blocks that need them run where they are


def python(page):
    return [block for block in blocks(page) if block.language == "python"]


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)])
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDE", "64")  # of what a page draws, pixels
    lay_out(tmp_path, "".join(block.text for block in python(page)))
    names = {"__name__": "example"}
    exec(GIVEN.get(page, ""), names)
    for block in python(page):
        if PEERS in block.text or any(f"import {name}" in block.text and not find_spec(name) for name in SETS):
            continue
        configures = block.text.startswith("c.")
        if configures:
            exec(CONFIG, names)
        run(block, names)
        if configures:
            exec(CHECK, names)
    exec(THEN.get(page, ""), names)


COMMANDS = list({command.words: command for page in PAGES for command in commands(page)}.values())
NOT_OURS = {  # how a command of another program begins -> why it is not run
    ("pip", "install"): "it changes the environment",
    ("npm", "install"): ".ci/run installs it",
    ("git", "clone"): "it downloads",
    ("python", "mni.py"): "a block of docs/data.md, which runs there",
    ("python", "pines.py"): "a block of docs/data.md, which runs there",
    ("python", "-m", "docs.make.notebooks"): "minutes; tests/test_notebooks.py runs them in little",
    ("python", "scene.py"): "a block of the page, which runs there, smaller",
    ("python", "score.py"): "a block of the page, which runs there",
    ("python", "-m", "http.server"): "it never ends",
    ("ruff",): ".ci/run runs it",
    ("python", "-m", "pytest"): "it is what runs this test",
    ("python", "-m", "docs.make"): "tests/website builds the site; the pictures take minutes",
    ("python", "-c", "import tensorflow_datasets"): "it downloads",
    ("python", "tests/fuzz.py"): "minutes; tests/test_fuzz.py breaks a few files",
    ("python", "-m", "tests.drill"): "up to an hour of kills",
    ("python", "-m", "tests.end_to_end.papers"): "half an hour of short runs",
    ("python", "-m", "jaxseg.serve.load"): "it asks a server; tests/serve runs it",
    ("curl",): "it asks a server; tests/serve asks one",
}
# Commands that are read, but not run.
READ_ONLY = {
    "train": "minutes; tests/end_to_end trains",
    "export runs/camvid --format web": "needs a package of npm; tests/export writes a page and opens it",
    "export runs/camvid --out camvid.onnx --size 360 480 --weights int8": "tests/export scores images of its size",
    "export runs/camvid --out camvid.tflite": "needs a package; tests/export writes such a file",
    "export-table": "minutes; tests/export writes files of three of the models",
    "league": "hours; tests/bench measures a model of it",
    "ablation": "hours; the league's test measures the same",
    "bench": "minutes; tests/bench times a small model",
    "serve": "it ends when it is told to; tests/serve serves",
    "demo": "it ends when it is told to; tests/serve has its page",
    "refinement": "half a minute; tests/bench has it, smaller",
    "predict runs/camvid photos/ --out out --crf": "the CRF runs in eval --crf; predict runs without it",
    "data check ct": "needs volumes; tests/data/test_volumes.py checks some",
    "eval runs/ct": "needs a run of two classes; tests/evaluation/test_commands.py has these flags",
    "predict runs/ct new/": "needs volumes; tests/inference/test_volumes.py predicts some",
    "predict runs/mni mni/val/images": "needs a folder that a block writes; docs/calibration.md's commands run",
    "errors runs/camvid --split val": "the README's errors runs/shapes runs, on that split",
    "tune-crf runs/camvid --split train": "the shorter command of the same page runs",
    "convert smp": "needs a model of smp; tests/parity and tests/pretrained convert",
    "convert torchvision": "needs a model of torchvision; tests/parity converts",
    "convert onnx": "needs a model; tests/pretrained/test_onnx_file.py converts",
    "convert keras": "needs a file of Keras's; tests/pretrained/test_keras_file.py converts",
    "list": "it writes nothing; tests/cli/test_program.py and tests/pretrained/test_weights.py list",
    "verify": "it writes nothing; tests/pretrained/test_golden.py verifies",
    "push": "it sends; tests/pretrained/test_hub.py does, to a hub of its own",
    "pull": "it downloads; tests/pretrained/test_hub.py does, from a hub of its own",
}
FEWER = {  # what makes a command quick
    "receptive-field": ["--draws", "0"],  # the theory alone
    "tune-crf": ["--trials", "1", "--images", "1"],
}


def arguments(words):
    """The words behind `jaxseg` of a command, None if it is another program's."""
    if words[0] == "jaxseg":
        return list(words[1:])
    if words[:3] == ("python", "-m", "jaxseg"):
        return list(words[3:])
    if words[:2] in (("python", "train.py"), ("python", "eval.py")):
        return [words[1].removesuffix(".py"), *words[2:]]
    return None


def read(words):
    """Reads a command as the program does, its config with it."""
    args = make_parser(words[0]).parse_args(words[1:])
    if words[0] == "train":
        check_config(recipes.load(args.recipe or args.config, args.settings))
    return args


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_read_and_runs(command, tmp_path, monkeypatch):
    words = arguments(command.words)
    if words is None:
        line = " ".join(command.words)
        assert any(line.startswith(" ".join(start)) for start in NOT_OURS), f"{command}: what program is this? {line}"
        return
    monkeypatch.chdir(ROOT)  # where configs/ is
    read(words)
    if " ".join(words).startswith(tuple(READ_ONLY)):
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    reads = [word for i, word in enumerate(words) if not i or words[i - 1] != "--out"]
    lay_out(tmp_path, " ".join(reads))
    before = set(tmp_path.rglob("*"))
    assert main([*words, *FEWER.get(words[0], [])]) == 0
    assert set(tmp_path.rglob("*")) > before


def test_extras_are_in_quotes():
    """zsh, the shell of a Mac, takes brackets for a pattern of file names: `no matches found: jaxseg[imagenet]`."""
    files = [ROOT / page for page in PAGES]
    files += [path for folder in ("jaxseg", "configs") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 300
    bare = re.compile(r"pip install [^'\"`\n]*\w\[")
    assert [f"{path.relative_to(ROOT)}: {found}" for path in files for found in bare.findall(path.read_text())] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_in_its_sentences_exist(page):
    for text in inline(page):
        name, *words = shlex.split(text)[1:]
        if name.startswith("--"):
            assert main([name]) == 0
            continue
        parser = make_parser(name)
        for word in words:
            flag = word.partition("=")[0]
            known = flag in parser._option_string_actions or (parser.takes_settings and flag.startswith("--config."))
            assert known or not flag.startswith("-"), f"{page}: {text}: {flag}"
        if name == "train" and any(word.startswith("--config.") for word in words):  # whole, to be copied
            parser.parse_args(words)


@pytest.mark.parametrize("page", PAGES)
def test_its_tables_have_no_gap(page):
    """Rows behind an empty line are no part of the table above: they are shown with their bars, as text."""
    text = (ROOT / page).read_text()
    assert re.findall(r"^\|.*\n\n+(\|.*)\n(?!\|[-: |]+$)", text, re.MULTILINE) == []


PACKAGES = [path.parent.name for path in (ROOT / "jaxseg").glob("*/__init__.py")]


@pytest.mark.parametrize("page", PAGES)
def test_the_names_and_files_of_jaxseg_in_its_sentences_exist(page):
    text = (ROOT / page).read_text()
    for name in set(re.findall(r"`(jaxseg(?:\.[A-Za-z]\w*)+)", text)):
        assert pkgutil.resolve_name(name) is not None
    if page == "docs/papers.md":  # of other repositories
        return
    files = set(re.findall(rf"`(?:jaxseg/)?((?:{'|'.join(PACKAGES)})/[\w/]+\.py)`", text))
    assert [
        file for file in sorted(files) if not re.search(r"/my\w*\.py$", file) and not (ROOT / "jaxseg" / file).exists()
    ] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.py")), ids=lambda path: path.stem)
def test_the_command_of_a_recipe_is_read(path):
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[2]
    (command,) = split(line, f"configs/{path.name}", 3)
    words = arguments(command.words)
    assert words[:2] == ["train", path.stem]
    assert read(words).workdir.startswith("runs/")
