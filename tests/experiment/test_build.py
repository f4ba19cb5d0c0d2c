"""From a config to a run: what is checked, what a workdir remembers."""

import json
import re

import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data import create_dataset
from jaxseg.experiment import build as experiment
from jaxseg.experiment import inputs, limits
from jaxseg.experiment import workdir as workdirs
from jaxseg.experiment.claim import claim_workdir


def _config(**train):
    c = default_config()
    c.train.update(train or {"steps": 3})
    return c


@pytest.fixture
def dataset():
    return create_dataset("shapes", size=32, train=4, val=2)


def test_config_comes_back_from_the_workdir(tmp_path, dataset):
    c = _config()
    c.loss.terms = {"dice": 2.0}
    c.optim.freeze = ("encoder",)
    c.model.output_stride = 16
    claim_workdir(c, dataset, tmp_path / "run").write(0)
    assert workdirs.read_config(tmp_path / "run").to_dict() == c.to_dict()


def test_workdir_of_another_config_is_refused(tmp_path, dataset):
    claim_workdir(_config(), dataset, tmp_path).write(0)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    other = _config()
    other.optim.beta1 = 0.5
    other.loss.terms = {"dice": 1.0}
    with pytest.raises(UserError) as error:
        claim_workdir(other, dataset, tmp_path).write(0)
    assert "config.optim.beta1: 0.9 there, 0.5 here" in str(error.value)
    assert "config.loss.terms.dice: absent there, 1.0 here" in str(error.value)


def test_what_changes_no_number_may_change(tmp_path, dataset):
    claim_workdir(_config(), dataset, tmp_path).write(0)
    other = _config()
    other.data.workers = 3
    other.log.every = 1
    claim_workdir(other, dataset, tmp_path).write(0)
    assert json.loads((tmp_path / "config.json").read_text())["data"]["workers"] == 3


def test_an_empty_name_is_no_workdir(tmp_path, monkeypatch):
    """As `train` is given it where a variable of the shell is not set; the current folder gets nothing."""
    from jaxseg.training.loop import train

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--workdir is empty"):
        train(_config(), "")
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_workdir(tmp_path, dataset):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        claim_workdir(_config(), dataset, tmp_path / "file").write(0)


@pytest.mark.parametrize(
    "key,value,words",
    [
        ("train.steps", 0, "Set one of"),
        ("train.epochs", 2, "Set one of"),
        ("data.batch_size", 0, "must be at least 1"),
        ("optim.lr", float("nan"), "optim.lr must be a finite number of at least 0, got nan"),
        ("optim.lr", float("inf"), "optim.lr must be a finite number"),
        ("optim.lr", -1.0, "at least 0, got -1"),
        ("optim.ema", 1.0, "optim.ema must be at least 0 and less than 1, got 1"),
        ("optim.momentum", 1.0, "optim.momentum must be at least 0 and less than 1, got 1"),
        ("optim.beta1", -0.1, "optim.beta1 must be at least 0 and less than 1"),
        ("train.devices", -1, "train.devices must be a finite number of at least 0"),
        ("eval.bucket", -1, "eval.bucket must be from 0 to 8192"),
        ("checkpoint.keep", 0, "checkpoint.keep must be at least 1"),
        ("augment.flip", 2.0, "augment.flip must be from 0 to 1"),
        ("augment.scale", (2.0, 0.5), "augment.scale must be .smallest, largest."),
        ("data.crop", (0, 8), "both positive"),
        ("data.crop", (8,), "both positive"),
        ("data.crop", (500, 8), "can never be filled: its height is 500"),
        ("model.dtype", "float16", "Known: bfloat16, float32"),
        ("model.head_dtype", "bfloat16", "Unknown config.model.head_dtype 'bfloat16'"),
        ("loss.terms", {"dise": 1.0}, "Did you mean 'dice'"),
        ("eval.metrics", ("confusion", "spraed"), "Unknown metric 'spraed'. Did you mean 'spread'"),
        ("eval.metrics", (3,), "config.eval.metrics must have texts only"),
        ("data.label_ignore", ("abc",), "config.data.label_ignore must have whole numbers only"),
        ("train.steps", None, "config.train.steps is None; it needs a value such as 0"),
        ("augment.scale", (), "augment.scale must be .smallest, largest."),
        ("data.crop", None, "config.data.crop is None"),
        ("augment.scale", (1.0, "x"), "config.augment.scale must have numbers only"),
        ("optim.beta1", 1.0, "config.optim.beta1 must be at least 0 and less than 1"),
        ("optim.accumulate", 8, "accumulate=8 batches make one update, and config.train.steps is 3: nothing would"),
        ("optim.freeze", ("encoder",), "optim.freeze has the whole encoder, and no weights are given"),
        ("eval.metric_options", {"confusion": {"bta": 2}}, "Unknown option 'bta' of metric 'confusion'"),
    ],
)
def test_impossible_values(key, value, words):
    c = _config()
    group, name = key.split(".")
    c[group][name] = value
    with pytest.raises(UserError, match=words):
        limits.check_config(c)


def test_confusion_is_always_among_the_metrics():
    assert list(limits.check_metrics(("calibration",), {})) == ["confusion", "calibration"]


def test_what_has_no_effect_is_said():
    c = _config()
    parts = {"encoder", "head"}
    assert limits.without_effect(c, parts) == []
    c.optim.update(name="sgd", beta1=0.5, momentum=0.5, schedule="cosine", power=2.0)
    c.augment.update(elastic_grid=3, blur_sigma=(1.0, 3.0))
    c.model.update(name="deconvnet", encoder="", replace_head=True)
    c.optim.encoder_lr_factor = 0.1
    said = "\n".join(limits.without_effect(c, parts))  # a model that is its own encoder has that part, too
    keys = "optim.beta1 optim.power augment.elastic_grid augment.blur_sigma model.replace_head"
    assert [line.split("=")[0].removeprefix("config.") for line in said.splitlines()] == keys.split()
    assert "config.optim.beta1=0.5 has no effect: optim.name is 'sgd'." in said
    c.optim.update(name="adamw", schedule="poly")
    c.model.name = "unet_original"
    said = "\n".join(limits.without_effect(c, {"decoder", "head"}))
    assert "config.optim.momentum=0.5 has no effect" in said
    assert "config.optim.encoder_lr_factor=0.1 has no effect: the model 'unet_original' has no part 'encoder'." in said


@pytest.mark.parametrize(
    "name, options, crop, words",
    [
        ("deeplabv3plus", {}, (65, 65), None),
        ("deeplabv3plus", {}, (64, 65), "16 pixels, plus 1: at the far side it sees 15 .*crop=.65, 65.;"),
        ("deeplabv3", {"align_corners": False}, (65, 65), "8 pixels: at the far side it sees 7 .*crop=.72, 72.;"),
        ("deeplabv3", {"align_corners": False}, (64, 64), None),
        ("pspnet", {}, (64, 64), "8 pixels, plus 1: at the far side it sees 7"),
        ("lraspp", {}, (65, 65), "16 pixels: at the far side it sees 15"),
        ("unet", {}, (65, 65), None),
    ],
)
def test_a_crop_off_the_phase_of_the_model_is_said(name, options, crop, words):
    c = _config()
    c.model.update(name=name, encoder="resnet18", options=options)
    c.data.crop = crop
    said = inputs.crop_off_place(c, experiment.build_model(c, 2))
    assert said is None if words is None else re.search(words, said), said


@pytest.mark.parametrize("key, value", [("root", "."), ("label_offset", -1), ("label_ignore", (3,)), ("name", "a")])
def test_settings_among_the_options_of_a_data_set_are_named(key, value):
    c = _config()
    c.data.name = "shapes"
    c.data.options = {key: value}
    with pytest.raises(UserError, match=f"data.options.{key}: this is a setting of its own. Set data.{key} instead."):
        experiment.build(c, splits=())


@pytest.mark.parametrize(
    "option, value, words",
    [
        ("num_classes", 3, "a model has the classes of the data. Leave it out"),
        ("encoder", "resnet18", "options.encoder is a setting of its own. Set config.model.encoder."),
        ("dtype", "bfloat16", "Set config.model.dtype."),
        ("in_channels", 4, "in_channels=4, but the images have 3 bands: red, green, blue. Leave it out"),
    ],
)
def test_settings_among_the_options_of_a_model_are_named(option, value, words):
    c = _config()
    c.data.options = {"size": 32, "train": 4, "val": 2}
    c.model.options = {option: value}
    with pytest.raises(UserError, match=re.escape(words)):
        experiment.build(c, splits=["train"])


def test_a_seed_below_zero_is_refused():
    c = _config()
    c.seed = -1
    with pytest.raises(UserError, match="config.seed must be from 0 to"):
        limits.check_config(c)


def test_default_config_needs_only_a_length():
    limits.check_config(_config())
    limits.check_config(_config(epochs=1))


def test_a_missing_run_is_explained(tmp_path):
    with pytest.raises(UserError, match="config.json is missing"):
        workdirs.read_config(tmp_path)


def test_a_run_from_before_the_american_names_is_read_and_goes_on(tmp_path, dataset):
    """Its config.json has the old spellings of keys, of a loss and of an option; their values must not be lost."""
    config = default_config()
    config.train.steps = 3
    config.eval.crf.color_sigma, config.log.images = 7.0, 2
    config.loss.terms = {"generalized_dice": 0.5}
    config.loss.options = {"region_mutual_information": {"regularizer": 1e-3}}
    old = json.loads(config.to_json())
    old["eval"]["crf"]["colour_sigma"] = old["eval"]["crf"].pop("color_sigma")
    old["log"]["pictures"] = old["log"].pop("images")
    old["loss"]["terms"] = {"generalised_dice": 0.5}
    old["loss"]["options"]["region_mutual_information"] = {"regulariser": 1e-3}
    (tmp_path / "config.json").write_text(json.dumps(old))
    read = workdirs.read_config(tmp_path)
    assert (read.eval.crf.color_sigma, read.log.images) == (7.0, 2)
    assert read.loss.terms.to_dict() == {"generalized_dice": 0.5}
    assert read.loss.options.region_mutual_information.to_dict() == {"regularizer": 1e-3}
    assert "colour_sigma" not in read.eval.crf and "pictures" not in read.log
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    claim_workdir(config, dataset, tmp_path).write(0)  # the same run: not refused


def test_a_start_that_failed_before_its_first_checkpoint_claims_nothing(tmp_path, dataset):
    """Its config may be mended in place, as errors advise."""
    claim_workdir(_config(), dataset, tmp_path).write(0)
    mended = _config()
    mended.model.replace_head = True
    claim_workdir(mended, dataset, tmp_path).write(0)
    assert workdirs.read_config(tmp_path).model.replace_head is True


@pytest.mark.parametrize(
    "name, encoder, stride, expected",
    [("unet", {"widths": (4, 6, 8, 8)}, None, 16), ("deeplabv3", {}, 8, 8), ("unet", {"widths": (4,)}, None, 8)],
)
def test_the_step_of_padded_sizes_is_the_models_stride(dataset, name, encoder, stride, expected):
    c = _config()
    c.data.update(canvas=(41, 41), crop=(41, 41))
    c.model.update(name=name, encoder="plain", output_stride=stride)
    c.model.encoder_options = encoder
    model = experiment.build_model(c, 7)
    seen = inputs.fit_preprocessing(c, dataset, model)
    assert (seen.bucket, seen.steps, seen.phase) == (expected, 8, (41 % expected,) * 2)
    c.eval.bucket = 32
    seen = inputs.fit_preprocessing(c, dataset, model)
    assert (seen.bucket, seen.steps, seen.phase) == (32, 0, (9, 9))


@pytest.mark.parametrize(
    "augment, size, fill",
    [({}, 32, "reflect"), ({"scale": (0.5, 2.0)}, 32, "gray"), ({"rotate": 10.0}, 32, "gray"), ({}, 41, "gray")],
)
def test_the_fill_is_what_training_shows_beyond_the_border(dataset, augment, size, fill):
    c = _config()
    c.data.update(canvas=(size, size), crop=(size, size))
    c.augment.update(augment)
    assert inputs.fit_preprocessing(c, dataset, experiment.build_model(c, 7)).fill == fill
    c.eval.fill = "mean"
    assert inputs.fit_preprocessing(c, dataset, experiment.build_model(c, 7)).fill == "mean"
