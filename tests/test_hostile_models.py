"""Bundles, runs and smp's folders from strangers: each is refused in a sentence that names the file."""

import json
import resource
import shutil
import tarfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.cli import launch, source
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.inference.calibration import load_calibration
from jaxseg.inference.refine import find_refiner
from jaxseg.trained import load

BEFORE = Path(__file__).parent / "data_before"
ABSENT = object()


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(BEFORE / "bundle", tmp_path / "bundle")


@pytest.fixture
def run(tmp_path):
    with tarfile.open(BEFORE / "workdir.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "workdir"


def change(path, key, value):
    """Sets an entry "a.b" of a JSON file, or takes it out."""
    content = json.loads(path.read_text())
    *groups, name = key.split(".")
    inside = content
    for group in groups:
        inside = inside[group]
    if value is ABSENT:
        del inside[name]
    else:
        inside[name] = value
    path.write_text(json.dumps(content, indent=1))


def refused(folder, said="", seconds=20.0):
    """Asserts a `UserError` of one screen, that names a file of the folder, soon and in little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with pytest.raises(UserError, match=said) as error:
        load(folder)
    assert str(folder) in str(error.value) and len(str(error.value)) < 1500
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert time.perf_counter() - began < seconds and grown < 500_000  # kB


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("format", 3, "not a bundle|no trained model"),
        ("format", "jaxseg 2", "Update jaxseg"),
        ("model", [1], "'model' must be an object"),
        ("model.name", 7, "describes no model"),
        ("model.name", "../../etc/passwd", "Unknown model"),
        ("model.num_classes", 10**9, "at most 8192"),
        ("model.num_classes", -1, "at least 1"),
        ("model.num_classes", "3", "at least 1"),
        ("model.num_classes", 4, "does not fit the model"),
        ("model.options", ABSENT, "KeyError: 'options'"),
        ("model.options", 3, "describes no model"),
        ("model.options", {"decoder_channels": 3}, "describes no model"),
        ("model.options", {"decoder_channels": [10**12] * 3}, "at most 8192"),
        ("model.options", {"decoder_channels": [[[[[[1]]]]]]}, "which no model has"),
        ("model.options", {"decoder_channels": [8] * 10**5}, "which no model has"),
        ("model.options", {"num_classes": 3}, "multiple values"),
        ("model.encoder_options", {"widths": [8000, 8000, 8000]}, "does not fit the model"),
        ("model.encoder_options", {"widths": ["a", "b"]}, "describes no model"),
        ("model.encoder_options", {"widths": [4, 6, 8], "convs": 8000}, "far more layers"),
        ("model.output_stride", float("nan"), "which no model has"),
        ("in_channels", -3, "'in_channels' must be a whole number"),
        ("in_channels", 10**9, "'in_channels' must be a whole number"),
        ("preprocessing", None, "'preprocessing' must be an object"),
        ("preprocessing.mean", [1.0], "'preprocessing.mean' must be 3 finite numbers"),
        ("preprocessing.mean", [1.0, 2.0, float("nan")], "'preprocessing.mean' must be 3 finite numbers"),
        ("preprocessing.std", [1.0, 0.0, 1.0], "above 0"),
        ("preprocessing.std", [1.0, 10**400, 1.0], "above 0"),
        ("preprocessing.bucket", 0, "'preprocessing.bucket' must be a whole number"),
        ("preprocessing.bucket", 10**12, "'preprocessing.bucket' must be a whole number"),
        ("classes", ABSENT, "'classes' must be a name for each class, or none, got no such entry"),
        ("classes", ["a"], "'classes' must be"),
        ("classes", [1, 2, 3], "'classes' must be"),
        ("palette", [[1, 2], [3], []], "'palette' must be"),
        ("palette", [[256, 0, 0]] * 3, "'palette' must be"),
        ("ignore", "255", "'ignore' must be"),
        ("ignore", True, "'ignore' must be"),
        ("ignore", 1, "'ignore' must be a whole number, a label that no class has, got 1"),
        ("activation", "os.system", "'activation' must be"),
        ("activation", ["softmax"], "'activation' must be"),
        ("source", {"a": 1}, "'source' must be"),
    ],
)
def test_a_bundles_config(bundle, key, value, said):
    change(bundle / "config.json", key, value)
    refused(bundle, said)


def test_a_text_steers_no_terminal(bundle):
    change(bundle / "config.json", "source", "a\x1b[2Jb\r\nc")
    change(bundle / "config.json", "classes", ["\x1b[31mroad", "car", "sky"])
    trained = load(bundle)
    assert trained.source == "a [2Jb  c" and trained.classes[0] == " [31mroad"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 10**6,
        b'{"data":' * 10**5,
        b"null",
        b"3",
        b'{"a": ' + b"9" * 5000 + b"}",
        b" " * 2**25,
    ],
)
@pytest.mark.parametrize("kind", ["bundle", "run"])
def test_what_is_no_json(request, kind, content):
    folder = request.getfixturevalue(kind)
    (folder / "config.json").write_bytes(content)
    refused(folder, r"config\.json can't be read")


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, (10**12).to_bytes(8, "little") + b"{}", b"\x02\0\0\0\0\0\0\0{}"]
)
def test_weights_that_are_none(bundle, content):
    (bundle / "model.safetensors").write_bytes(content)
    refused(bundle, "model.safetensors is no .safetensors file|does not fit the model")


def _safetensors(path, header, data=b""):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_weights_of_other_kinds(bundle):
    path = bundle / "model.safetensors"
    _safetensors(path, {"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}}, bytes(4))
    refused(bundle, "no .safetensors file")
    _safetensors(path, {"a": {"dtype": "F8_E5M2", "shape": [4], "data_offsets": [0, 4]}}, bytes(4))
    refused(bundle, "no .safetensors file|does not fit")
    deep = "/".join(["a"] * 5000)
    both = {"params/a": "x", "params/a/b": "x", deep: "x"}
    entry = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    header = {n: {**entry, "data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(both)}
    _safetensors(path, header, bytes(12))
    refused(bundle, "does not fit the model")


def test_weights_of_whole_numbers(bundle):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(bundle / "model.safetensors")
    save_file({name: array.astype(np.int32) for name, array in arrays.items()}, bundle / "model.safetensors")
    refused(bundle, "holds int32, expected float32")


@pytest.mark.parametrize("wrong", [np.nan, -np.inf])
def test_weights_that_are_no_numbers(bundle, wrong):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(bundle / "model.safetensors")
    arrays[sorted(arrays)[0]].flat[-1] = wrong
    save_file(arrays, bundle / "model.safetensors")
    refused(bundle, "model.safetensors: the array .* holds nan or infinity")


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("data", 5, "another type"),
        ("optim", [1], "another type"),
        ("model", None, ""),
        ("model.name", 3, "another type"),
        ("model.name", "unet/../x", "Unknown model"),
        ("model.options", [1], "another type"),
        ("model.options", {"decoder_channels": 3}, "describes no model"),
        ("model.encoder_options", {"widths": [10**9, 2]}, "at most 8192"),
        ("model.encoder_options", {"widths": "x"}, "describes no model"),
        ("eval.bucket", 10**9, "config.eval.bucket must be from 0 to 8192"),
        ("eval.bucket", None, "config.eval.bucket must be from 0 to 8192"),
        ("eval.batch_size", -1, "config.eval.batch_size must be at least 1"),
        ("loss.terms", {"no_such": 1.0}, "Unknown loss"),
        ("loss", 1, "another type"),
    ],
)
def test_a_runs_config(run, key, value, said):
    change(run / "config.json", key, value)
    with pytest.raises(UserError, match=said) as error:
        load(run)
    assert "config" in str(error.value) or "loss" in str(error.value)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("classes", ABSENT, "'classes' must be the names of the classes, got no such entry"),
        ("classes", 10**9, "'classes' must be"),
        ("classes", [], "'classes' must be"),
        ("classes", {"a": 1}, "'classes' must be"),
        ("palette", [[1, 2, "x"]], "'palette' must be"),
        ("palette", None, "'palette' must be"),
        ("ignore", 1.5, "'ignore' must be"),
        ("ignore", 0, "'ignore' must be a whole number, a label that no class has, got 0"),
        ("name", ["a"], "'name' must be"),
    ],
)
def test_a_runs_dataset(run, key, value, said):
    change(run / "dataset.json", key, value)
    refused(run, said)


def test_a_runs_checkpoint_of_another_model(run):
    change(run / "dataset.json", "classes", ["a", "b"])
    refused(run, "does not fit the model")


def test_a_checkpoint_in_pieces(run):
    step = run / "checkpoints" / "2"
    for path in sorted(step.rglob("*"), reverse=True):
        if path.is_file() and "ocdbt.process" in str(path):
            path.unlink()
    with pytest.raises(UserError, match=r"Checkpoint .* can't be read"):
        load(run)


def test_a_tiny_checkpoint_of_giant_arrays(run, monkeypatch):
    """What Zarr's metadata claims and no file holds would be read as zeros."""
    from orbax.checkpoint import PyTreeCheckpointHandler

    known = PyTreeCheckpointHandler.metadata

    def claim(self, folder):
        found = known(self, folder)
        leaves = found.tree["params"]["head"]
        while "kernel" not in leaves:
            leaves = next(iter(leaves.values()))
        leaves["kernel"].shape = (10**6, 10**6)
        found.tree["ema"] = {}
        return found

    monkeypatch.setattr(PyTreeCheckpointHandler, "metadata", claim)
    with pytest.raises(UserError, match="it is not whole"):
        Checkpoints(run).restore_variables(2)


def test_rows_of_a_log_that_are_none(run):
    path = run / "metrics.jsonl"
    lines = ["[1]", "3", "null", '{"kind": "eval"}', '{"kind": "eval", "step": "2", "miou": 1}', "[" * 10**5, "\xff{"]
    lines += [
        '{"kind": "eval", "step": 2, "miou": "1"}',
        '{"kind": "eval", "step": 2, "miou": [1]}',
        '{"kind": "eval", "step": 2}',
    ]
    path.write_text(path.read_text() + "\n".join(lines), encoding="latin-1")
    assert load(run).step == 2


def test_a_strangers_run_chooses_no_folder_of_programs(run, monkeypatch, tmp_path):
    """Compiled programs are run as they are: those of a folder that came with a run are not."""
    chosen = []
    monkeypatch.setattr("jaxseg.experiment.workdir.enable_compilation_cache", chosen.append)
    change(run / "config.json", "train.compilation_cache", str(tmp_path / "theirs"))
    source.open_model(str(run), "best")
    assert chosen == ["~/.cache/jaxseg/compiled"]
    change(run / "config.json", "train.compilation_cache", "")
    source.open_model(str(run), "best")
    assert chosen == ["~/.cache/jaxseg/compiled"]


GOOD = {"kind": "vector", "scale": [1.0, 2.0], "bias": [0.0, 0.0], "checkpoint": 2, "split": "val", "report": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "os"},
        {"kind": ["vector"]},
        {"scale": [float("nan"), 1.0]},
        {"scale": 3},
        {"scale": ["1", "2"]},
        {"scale": []},
        {"bias": [0.0]},
        {"bias": [10**400, 0]},
        {"kind": "temperature"},
        {"checkpoint": "2"},
        {"split": 5},
        {"report": [1]},
    ],
)
def test_a_calibration(tmp_path, change):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(GOOD))
    assert load_calibration(tmp_path, 2).scale == (1.0, 2.0)
    path.write_text(json.dumps(GOOD | change))
    with pytest.raises(UserError, match=r"calibration\.json: '.*' must be .*fit it again"):
        load_calibration(tmp_path, 2)


@pytest.mark.parametrize(
    "parameters, said",
    [
        ([1], "'parameters' must be an object"),
        ({"iterations": "5"}, "'parameters.iterations' must be a finite number"),
        ({"spatial_weight": float("nan")}, "'parameters.spatial_weight' must be a finite number"),
        ({"iterations": 10**9}, "iterations"),
        ({"iterations": 2.5}, "iterations"),
        ({"__class__": 1}, "not what tune-crf writes"),
        ({"spatial_sigma": -1.0}, "must be positive"),
    ],
)
def test_a_tuned_crf(tmp_path, bundle, parameters, said):
    import dataclasses

    (tmp_path / "crf.json").write_text(json.dumps({"parameters": parameters}))
    trained = dataclasses.replace(load(bundle), workdir=tmp_path)
    with pytest.raises(UserError, match=said):
        find_refiner("crf", trained)


SMP = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 2, "in_channels": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"_model_class": 3},
        {"_model_class": "../Unet"},
        {"encoder_name": 5},
        {"encoder_name": ["resnet18"]},
        {"classes": 10**9},
        {"classes": "2"},
        {"classes": None},
        {"in_channels": 10**9},
        {"in_channels": "3"},
        {"encoder_depth": 10**6},
        {"encoder_depth": "x"},
        {"decoder_channels": 5},
        {"decoder_channels": [10**9]},
        {"decoder_use_norm": [1]},
        {"activation": ["sigmoid"]},
        {"aux_params": {"a": 1}},
        {"no_such": 1},
    ],
)
def test_a_folder_of_smp(tmp_path, change):
    from safetensors.numpy import save_file

    (tmp_path / "config.json").write_text(json.dumps(SMP | change))
    save_file({"segmentation_head.0.bias": np.zeros(2, "f4")}, tmp_path / "model.safetensors")
    refused(tmp_path, "")


def test_at_the_command_line_it_is_a_line(bundle, capsys):
    change(bundle / "config.json", "preprocessing.std", [0, 0, 0])
    with warnings.catch_warnings():
        assert launch.guard(load, bundle) == 1
    assert "Traceback" not in capsys.readouterr().err
