"""Config values from the command line: of the key's type, open mappings included, mistakes with their remedy."""

import re

import pytest

from jaxseg.checks import UserError, plain_name
from jaxseg.cli import recipes, settings
from jaxseg.cli.peer_settings import PEERS
from jaxseg.config import OPEN, default_config


def changed(*words):
    config = default_config()
    config.data.options = {"size": 64}
    config.model.options = {"decoder_channels": (8, 8)}
    config.loss.terms.dice = 1.0
    config.loss.options.dice = {"smooth": 1.0}
    rest, found = settings.split([f"--config.{word}" for word in words])
    assert not rest
    settings.apply(config, found)
    return config


@pytest.mark.parametrize(
    "word,value",
    [
        ("optim.lr=1e-2", 0.01),
        ("optim.lr=1", 1.0),
        ("seed=7", 7),
        ("data.root=12", "12"),
        ("data.root=", ""),
        ("log.tensorboard=False", False),
        ("log.tensorboard=0", False),
        ("optim.nesterov", True),
        ("data.crop=320,240", (320, 240)),
        ("data.crop=(320, 240)", (320, 240)),
        ("augment.scale=0.5,2", (0.5, 2.0)),
        ("eval.metrics=confusion,spread", ("confusion", "spread")),
        ("eval.metrics=('confusion', 'spread')", ("confusion", "spread")),
        ("optim.freeze=encoder", ("encoder",)),
        ("data.label_ignore=0", (0,)),
        ("data.label_ignore=()", ()),
        ("model.output_stride=16", 16),
        ("model.output_stride=none", None),
        ("loss.terms.focal=1", 1),
        ("loss.options.focal.gamma=2.5", 2.5),
        ("loss.terms.dice={'start': 0.0, 'end': 1.0}", {"start": 0.0, "end": 1.0}),
        ("loss.terms={'focal': 2}", {"focal": 2}),
        ("model.options.decoder_channels=16,8", (16, 8)),
        ("model.options.attention=scse", "scse"),
    ],
)
def test_a_value_has_the_type_of_its_key(word, value):
    found = changed(word)
    for part in word.partition("=")[0].split("."):
        found = found[part]
    found = found.to_dict() if hasattr(found, "to_dict") else found
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, tuple):
        assert list(map(type, found)) == list(map(type, value))


def test_a_flag_after_a_switch_is_a_flag():
    rest, found = settings.split(["--config.optim.nesterov", "--workdir", "x", "--config.data.label_offset", "-1"])
    assert rest == ["--workdir", "x"]
    assert found == [("optim.nesterov", None), ("data.label_offset", "-1")]


@pytest.mark.parametrize("word", ["loss.terms.dice=0", "loss.terms.dice=none"])
def test_a_loss_that_goes_takes_its_options_along(word):
    config = changed(word)
    assert config.loss.terms.to_dict() == {"cross_entropy": 1.0}
    assert config.loss.options.to_dict() == {}


def test_a_zero_is_a_zero_elsewhere():
    assert changed("data.options.size=0").data.options.size == 0


def test_none_takes_an_option_out():
    assert "decoder_channels" not in changed("model.options.decoder_channels=none").model.options


@pytest.mark.parametrize(
    "word,group,printed",
    [("data.name=folder", "data", "for 'shapes'"), ("model.name=fpn", "model", "for 'unet'")],
)
def test_options_of_another_thing_are_dropped_and_said(word, group, printed, capsys):
    config = changed(word, f"{group}.options.mine=1")
    assert config[group].options.to_dict() == {"mine": 1}
    assert printed in capsys.readouterr().err


def test_the_same_name_again_keeps_the_options():
    assert changed("data.name=shapes").data.options.size == 64


@pytest.mark.parametrize(
    "word,words",
    [
        ("optim.lrr=1", "Unknown config key 'optim.lrr'. Did you mean 'optim.lr'?"),
        ("train.max_epochs=3", "Set config.train.epochs."),
        ("train.precision=32", "The computation's type is config.model.dtype, float32 or"),  # not: bfloat16
        ("train.freeze_encoder=false", "Parts that are not trained are named by config.optim.freeze"),
        ("optim.encoder_lr=1e-5", "The encoder's learning rate relative to config.optim.lr is"),
        (
            "trainer.check_val_every_n_epoch=5",
            "An evaluation comes after each epoch, or every config.eval.every steps",
        ),  # not in epochs
        ("train.early_stopping=3", "The best checkpoint by validation mIoU is kept"),
        ("augment.HorizontalFlip=0.5", "Set config.augment.flip."),
        ("loss.name=DiceLoss", "The losses and their weights are config.loss.terms"),
        ("model.classes=3", "A model has the classes of the data."),
        ("optm.lr=1", "Did you mean 'optim.lr'?"),
        ("lr=1", "Did you mean 'optim.lr'?"),
        ("train.lr=1", "Did you mean 'optim.lr'?"),  # not train.xla, which has as many letters in common
        ("optm.name=sgd", "Did you mean 'optim.name'?"),
        ("train.batch_size=4", "Did you mean 'data.batch_size' or 'eval.batch_size'?"),
        ("optim.lr.x=1", "Unknown config key 'optim.lr.x'"),
        ("optim=adam", "group of settings. Set one of them: optim.accumulate"),
        ("optim.lr=abc", "config.optim.lr must be a number, got 'abc'"),
        ("seed=1.5", "config.seed must be a whole number, got '1.5'"),
        ("seed", "--config.seed needs a value"),
        ("optim.nesterov=maybe", "must be True or False"),
        ("data.crop=1.5,2", "such as 128,128"),
        ("model.output_stride=x", "must be a whole number"),
        ("loss.terms.dice=abc", "must be a number"),
        ("loss.terms.focal=0", "not there to be taken out. config.loss.terms has cross_entropy, dice."),
        ("loss.terms=dice", "is a mapping"),
        ("loss.terms={1: 2.0}", "must have names without dots for its entries, got 1"),
        ("loss.options.dice={'a.b': 1}", "got 'a.b'"),
        ("data.label_ignore=abc", "such as 0,255, got 'abc'"),
        ("data.label_ignore=1.5", "such as 0,255"),
        ("optim.freeze=3", "such as encoder"),
        ("seed=1e400", "must be a whole number"),
    ],
)
def test_mistakes(word, words):
    with pytest.raises(UserError) as error:
        changed(word)
    assert words in str(error.value)


def test_what_other_trainers_settings_are_called_here_exists():
    config = default_config()
    for name, here in PEERS.items():
        assert name == plain_name(name), "is looked up in this form"
        for key in [here] if " " not in here else re.findall(r"config\.([a-z_.]+\b)(?!:)", here):
            mapping = next((group for group in OPEN if key.startswith(f"{group}.")), "")
            *groups, last = (mapping or key).split(".")
            group = config
            for part in groups:
                group = group[part]
            assert last in group, f"{name}: config has no {key}"


def test_a_setting_of_another_trainer_in_a_file_is_told_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxseg.config import default_config\n\n\ndef get_config():\n    c = default_config()\n"
        "    c.optim.update(gradient_clip_val=1.0)\n    return c\n"
    )
    with pytest.raises(UserError, match=r"line 6: c\.optim\.update(.|\n)*Set config\.optim\.clip_norm\.$"):
        recipes.load(str(path))
