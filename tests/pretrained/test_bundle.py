"""Bundles: what is written comes back, and what does not fit is said."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.encoders import create_encoder
from jaxseg.models import MODELS, create_model, init
from jaxseg.models.describe import describe
from jaxseg.pretrained import load_bundle, load_encoder, save_bundle
from jaxseg.pretrained.matching import check_fits, replace_variables

WIDTHS = {"widths": (4, 6, 8)}
OPTIONS = {"decoder_channels": (8, 6, 4)}


def tiny(num_classes=3, **options):
    return create_model("unet", "plain", num_classes=num_classes, encoder_options=WIDTHS, **OPTIONS | options)


@pytest.fixture
def model_and_variables():
    model = tiny(attention="scse")
    return model, jax.tree.map(np.asarray, init(model, jax.random.key(0)))


def test_a_bundle_comes_back(tmp_path, model_and_variables):
    model, variables = model_and_variables
    labels = {"classes": ["a", "b", "c"], "palette": [[1, 2, 3], [40, 50, 60], [255, 0, 9]], "ignore": 200}
    save_bundle(tmp_path, model, variables, **labels, source="made here")
    module, arrays, config = load_bundle(tmp_path)
    assert module == model
    chex.assert_trees_all_equal(arrays, variables)
    assert {name: config[name] for name in labels} == labels
    assert (config["source"], config["activation"]) == ("made here", "softmax")
    assert config["preprocessing"].mean == model.encoder.pixel_mean
    assert load_bundle(tmp_path, dtype="bfloat16").module.dtype == jnp.bfloat16


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_is_described_by_what_makes_it(name):
    model = create_model(name, num_classes=4)
    described = json.loads(json.dumps(describe(model)))
    options = described.pop("options")
    assert described["name"] == name
    assert create_model(**described, **options) == model


@pytest.mark.parametrize("encoder", ["plain", "resnet18"])  # one that names its first convolution, one that does not
def test_variables_for_other_channels_fit(encoder):
    model = create_model("fpn", encoder, num_classes=2)
    check_fits(init(model, jax.random.key(0), in_channels=4), model, "here")
    with pytest.raises(UserError, match="The weights belong to a different model"):
        check_fits(init(model, jax.random.key(0)), create_model("fpn", "resnet34", num_classes=2), "here")


def test_what_is_no_bundle_is_refused(tmp_path, model_and_variables):
    with pytest.raises(UserError, match="is not a bundle"):
        load_bundle(tmp_path)
    save_bundle(tmp_path, *model_and_variables)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": "jaxseg 9"}, indent=1))
    with pytest.raises(UserError, match="Update jaxseg"):
        load_bundle(tmp_path)
    config["model"]["options"]["attention"] = None
    (tmp_path / "config.json").write_text(json.dumps(config, indent=1))
    with pytest.raises(UserError, match="does not fit the model in"):
        load_bundle(tmp_path)


def test_an_encoder_takes_the_weights_of_a_bundle(tmp_path, model_and_variables):
    save_bundle(tmp_path, *model_and_variables)
    encoder = load_encoder("plain", str(tmp_path), **WIDTHS)
    chex.assert_trees_all_equal(encoder["params"], model_and_variables[1]["params"]["encoder"])
    with pytest.raises(UserError, match="do not fit 'plain'"):
        load_encoder("plain", str(tmp_path), widths=(4, 6, 9))


def test_a_bundle_keeps_the_number_of_channels(tmp_path):
    model = tiny(in_channels=4)
    variables = jax.tree.map(np.asarray, init(model, jax.random.key(0)))
    save_bundle(tmp_path, model, variables)
    module, _, config = load_bundle(tmp_path)
    assert (module, config["in_channels"], len(config["preprocessing"].mean)) == (model, 4, 4)
    with pytest.raises(UserError, match="made for images of 5 channels, in_channels=5, and its variables are for .* 4"):
        save_bundle(tmp_path, tiny(in_channels=5), variables)
    written = json.loads((tmp_path / "config.json").read_text())
    written["model"]["in_channels"] = 5
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="the model is for images of 5 channels, its weights are for 4"):
        load_bundle(tmp_path)


def test_an_encoder_takes_state_dicts_with_prefixes(tmp_path):
    from flax.traverse_util import flatten_dict
    from safetensors.numpy import save_file

    from jaxseg.pretrained.convert import torch_name
    from jaxseg.pretrained.names.resnet import key

    encoder = create_encoder("resnet18")
    variables = jax.tree.map(np.asarray, init(encoder, jax.random.key(0)))
    arrays = {torch_name(path, key): x for path, x in flatten_dict(variables).items()}
    arrays = {k: np.ascontiguousarray(x.transpose(3, 2, 0, 1) if x.ndim == 4 else x) for k, x in arrays.items()}
    save_file(
        {f"backbone.{key}": x for key, x in arrays.items()} | {"head.bias": np.zeros(3)}, tmp_path / "a.safetensors"
    )
    loaded = load_encoder("resnet18", str(tmp_path / "a.safetensors"))
    chex.assert_trees_all_equal(loaded, variables)
    save_file(arrays, tmp_path / "b.safetensors")
    assert (
        call("convert", "timm", str(tmp_path / "b.safetensors"), "--encoder", "resnet18", "--out", str(tmp_path / "c"))
        == 0
    )
    chex.assert_trees_all_equal(load_encoder("resnet18", str(tmp_path / "c")), variables)


def test_a_hub_name_offline_says_so(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def offline(**arguments):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(UserError, match="not in the local cache and could not be fetched: ConnectionError: no route"):
        load_bundle_from_hub()


def load_bundle_from_hub():
    from jaxseg.pretrained.hub import locate

    return load_bundle(locate("hf:owner/repo@main"))


def test_a_hub_name_comes_from_the_cache_when_offline(monkeypatch, tmp_path, model_and_variables):
    hub = pytest.importorskip("huggingface_hub")
    save_bundle(tmp_path, *model_and_variables)

    def cached(*, repo_id, revision, local_files_only=False, **arguments):
        if not local_files_only:
            raise ConnectionError("no route to host")
        assert (repo_id, revision) == ("owner/repo", "main")
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", cached)
    assert load_bundle_from_hub().module == model_and_variables[0]


def test_only_what_is_neither_encoder_nor_decoder_is_replaced():
    def variables(**sizes):
        return {"params": {part: {"kernel": np.full(size, float(size))} for part, size in sizes.items()}}

    theirs = variables(encoder=2, decoder=3, head=4)
    mixed = replace_variables(variables(encoder=2, decoder=3, head=5), theirs, "theirs", replace_head=True)
    assert {part: leaf["kernel"].size for part, leaf in mixed["params"].items()} == dict(encoder=2, decoder=3, head=5)
    for part in ("encoder", "decoder"):
        other = variables(**{"encoder": 2, "decoder": 3, "head": 4} | {part: 7})
        with pytest.raises(UserError, match="theirs does not fit the model in 1 arrays"):
            replace_variables(other, theirs, "theirs", replace_head=True)


def test_a_bundle_is_not_written_over_other_files(tmp_path, model_and_variables):
    """Over a run's config.json, for example, which would be lost with the run."""
    (tmp_path / "config.json").write_text('{"data": {}, "optim": {}}')
    with pytest.raises(UserError, match="holds other files than a bundle's"):
        save_bundle(tmp_path, *model_and_variables)
    assert (tmp_path / "config.json").read_text() == '{"data": {}, "optim": {}}'
    with pytest.raises(UserError, match="is a file, and a bundle is a folder"):
        save_bundle(tmp_path / "config.json", *model_and_variables)
    save_bundle(tmp_path / "new", *model_and_variables)
    save_bundle(tmp_path / "new", *model_and_variables)  # a bundle may be written anew
    assert len({path.stat().st_mode for path in (tmp_path / "new").iterdir()}) == 1  # others may read all or nothing
