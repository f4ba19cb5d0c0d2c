"""A run that starts from another model's weights."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError
from jaxseg.cli.train import _start_from
from jaxseg.config import default_config
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment import build
from jaxseg.models import init
from jaxseg.pretrained.bundle import save_bundle
from jaxseg.pretrained.convert import adapt_input
from jaxseg.training.origin import start_from

CLASSES = tuple("abc")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """(path, variables) of a U-Net for images of 3 bands, of 7 classes."""
    path = tmp_path_factory.mktemp("bundles") / "seven"
    model = build.build_model(_config(), 7)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: random.uniform(1, 2, x.shape).astype(np.float32), init(model, jax.random.key(0)))
    save_bundle(path, model, variables, classes=tuple("abcdefg"))
    return path, variables


def _config(name="unet", weights=""):
    c = default_config()
    c.data.update(name="shapes", canvas=(16, 16), crop=(16, 16))
    c.data.options = {"size": 16, "train": 4, "val": 2}
    c.model.update(name=name, encoder="plain", weights=str(weights), replace_head=bool(weights))
    c.model.encoder_options = {"widths": (4, 6), "convs": 1}
    c.model.options = {"decoder_channels": (6, 4)} if name == "unet" else {}
    c.train.steps = 3
    return c


def _experiment(config, classes=7, bands=3):
    experiment = build.build(config, splits=())
    dataset = experiment.dataset
    if classes != 7:
        dataset = dataclasses.replace(dataset, classes=CLASSES, palette=dataset.palette[:3])
    seen = Preprocessing((1.0,) * bands, (1.0,) * bands, Bands(tuple(f"b{i}" for i in range(bands))))
    model = build.build_model(config, dataset.num_classes)
    return dataclasses.replace(experiment, dataset=dataset, model=model, preprocessing=seen)


def _started(config, **options):
    experiment = _experiment(config, **options)
    variables = init(experiment.model, jax.random.key(1), in_channels=experiment.preprocessing.bands.count)
    return variables, start_from(variables, experiment)


def test_the_same_classes_and_bands_are_taken_whole(bundle):
    path, theirs = bundle
    chex.assert_trees_all_equal(_started(_config(weights=path))[1], theirs)


def test_other_options_of_the_model_are_named(bundle):
    config = _config(weights=bundle[0])
    config.model.options = {"decoder_channels": (8, 4)}
    with pytest.raises(UserError, match=r"does not fit .* Its options are \{'decoder_channels': \(6, 4\).*\(8, 4\)"):
        _started(config)


def test_other_classes_get_a_fresh_head_and_it_is_said(bundle, capsys):
    path, theirs = bundle
    ours, found = (flatten_dict(tree, sep="/") for tree in _started(_config(weights=path), classes=3))
    theirs = flatten_dict(theirs, sep="/")
    fresh = [name for name in found if found[name].shape != theirs[name].shape]
    assert fresh and all("head" in name for name in fresh)
    for name, value in found.items():
        np.testing.assert_array_equal(value, (ours if name in fresh else theirs)[name])
    said = capsys.readouterr().err
    assert "it has 7 classes, this data 3" in said and fresh[0] in said


def test_other_bands_adapt_the_first_convolution_and_it_is_said(bundle, capsys):
    path, theirs = bundle
    _, found = _started(_config(weights=path), bands=5)
    found, theirs = flatten_dict(found, sep="/"), flatten_dict(theirs, sep="/")
    (stem,) = [name for name in found if found[name].shape != theirs[name].shape]
    expected = adapt_input(theirs[stem].transpose(3, 2, 0, 1), 5).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(found[stem], expected, rtol=1e-6)
    assert "its images have 3 bands, these 5" in capsys.readouterr().err


def test_without_leave_another_head_is_refused(bundle):
    config = _config(weights=bundle[0])
    config.model.replace_head = False
    with pytest.raises(UserError, match="another head than this one"):
        _started(config, classes=3)


def test_a_model_whose_decoder_knows_the_classes_starts_too(tmp_path):
    """FCN scores every level by itself: its arrays of classes are not those of a head alone."""
    config = _config("fcn8s")
    config.model.encoder_options = {"widths": (4, 4, 4, 4, 4), "convs": 1}
    model = build.build_model(config, 7)
    save_bundle(tmp_path / "fcn", model, init(model, jax.random.key(0)))
    config.model.update(weights=str(tmp_path / "fcn"), replace_head=True)
    ours, found = _started(config, classes=3)
    chex.assert_trees_all_equal_shapes(ours, found)


def test_the_flag_takes_the_place_of_an_encoders_weights(tmp_path):
    config = _config()
    config.model.encoder_weights = "imagenet"
    _start_from(config, "runs/a", "runs/b")
    assert (config.model.weights, config.model.encoder_weights, config.model.replace_head) == ("runs/a", "", True)
    with pytest.raises(UserError, match="Leave one of them out"):
        _start_from(config, "runs/c", "runs/b")
    with pytest.raises(UserError, match="are one folder"):
        _start_from(_config(), str(tmp_path), f"{tmp_path}/")
