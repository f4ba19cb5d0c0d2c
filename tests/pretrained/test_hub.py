"""Bundles to and from a hub: `huggingface_hub` as it is, against a server on this machine."""

import json
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from safetensors.numpy import save

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.models import create_model, init
from jaxseg.pretrained import load_bundle, load_encoder, save_bundle
from jaxseg.pretrained.golden import FILE
from jaxseg.pretrained.hub import pull, push
from jaxseg.trained import load
from tests.fake_hub import serving
from tests.pretrained.test_convert import torch_state_dict


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    model = create_model(
        "unet", "plain", num_classes=3, encoder_options={"widths": (4, 6), "convs": 1}, decoder_channels=(6, 4)
    )
    variables = jax.tree.map(np.asarray, init(model, jax.random.key(0)))
    scores = {"data": "camvid", "split": "val", "date": "2026-11-27", "checkpoint": 9, "metrics": {"miou": 0.5}}
    folder = tmp_path_factory.mktemp("bundles") / "small"
    save_bundle(folder, model, variables, classes=("a", "b", "c"), scores=scores, source="made here", license="MIT")
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that the library talks to, with a cache of its own and a token that may write."""
    from huggingface_hub import constants

    with serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "good")
        yield served


def test_a_bundle_goes_there_and_comes_back(bundle, hub, tmp_path, capsys):
    assert main(["push", str(bundle), "hf:me/small", "--private", "--message", "first"]) == 0
    assert f"{hub.url}/me/small/commit/" in capsys.readouterr().out
    assert hub.private == {"me/small": True} and hub.messages == ["first"]
    assert hub.files("me/small").keys() == {
        *(".gitattributes", "README.md", "config.json", "golden.safetensors", "model.safetensors")
    }
    assert main(["pull", "hf:me/small", str(tmp_path / "mine")]) == 0
    for path in bundle.iterdir():
        assert (tmp_path / "mine" / path.name).read_bytes() == path.read_bytes()
        assert not (tmp_path / "mine" / path.name).is_symlink()
    assert load("hf:me/small").source == "made here"
    first = hub.commits["me/small"][-1][0]
    config = json.loads((bundle / "config.json").read_text())
    hub.commit("me/small", {"config.json": json.dumps(config | {"source": "newer"}).encode()})
    assert (load("hf:me/small").source, load(f"hf:me/small@{first}").source) == ("newer", "made here")
    push(bundle, "hf:me/small")  # where a repository is
    assert hub.files("me/small")["config.json"] == (bundle / "config.json").read_bytes()


def test_a_card_that_was_edited_there_is_kept(bundle, hub, tmp_path):
    push(bundle, "hf:me/small")
    hub.commit("me/small", {"README.md": b"---\nlicense: mit\n---\nMy own words.\n"})
    with pytest.warns(UserWarning, match="'hf:me/small' was edited on the hub and is kept.*--replace-card"):
        push(bundle, "hf:me/small")
    assert b"My own words" in hub.files("me/small")["README.md"]
    pull("hf:me/small", tmp_path / "mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        push(tmp_path / "mine", "hf:me/small")  # the same card there and here
    (tmp_path / "mine" / "README.md").write_text("Mine again.")
    with pytest.warns(UserWarning, match="was edited and is kept; the hub's card is README.new.md"):
        pull("hf:me/small", tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "Mine again."
    assert "My own words" in (tmp_path / "mine" / "README.new.md").read_text()
    push(bundle, "hf:me/small", replace_card=True)
    assert hub.files("me/small")["README.md"] == (bundle / "README.md").read_bytes()


def test_what_does_not_go_is_said(bundle, hub, tmp_path, monkeypatch):
    def refused(match, function, *arguments):
        with pytest.raises(UserError, match=match):
            function(*arguments)

    refused("Expected hf:OWNER/REPO, got 'me/small'", push, bundle, "me/small")
    refused("Expected hf:OWNER/REPO, got 'hf:me/small@v1'.*main branch", push, bundle, "hf:me/small@v1")
    refused("is not a bundle. Write one of a run with `jaxseg bundle", push, tmp_path, "hf:me/small")
    refused("'hf:others/x' does not take the bundle: .*403.*The token must be valid", push, bundle, "hf:others/x")
    refused("not in the local cache and could not be fetched", pull, "hf:me/nothing", tmp_path / "mine")
    refused("Expected hf:OWNER/REPO or", pull, str(bundle), tmp_path / "mine")
    hub.commit("me/other", {"config.json": b'{"_model_class": "Unet"}'})
    refused("is no bundle of jaxseg.*jaxseg convert smp hf:me/other", pull, "hf:me/other", tmp_path / "mine")
    damaged = {path.name: path.read_bytes() for path in bundle.iterdir()} | {"model.safetensors": b"\xff" * 99}
    hub.commit("me/damaged", damaged)
    refused("is no .safetensors file that can be read", pull, "hf:me/damaged", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    (tmp_path / "notes.txt").write_text("mine")
    refused("holds other files than a bundle's", pull, "hf:me/damaged", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "bad")
    refused("does not take the bundle: .*401.*`hf auth login`, or HF_TOKEN", push, bundle, "hf:me/small")
    monkeypatch.delenv("HF_TOKEN")
    refused("needs a token that may write: make one at https://huggingface.co", push, bundle, "hf:me/small")
    monkeypatch.setenv("HF_TOKEN", "good")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")  # where nothing answers
    refused("does not take the bundle: .*Check the network", push, bundle, "hf:me/small")


def test_a_folder_needs_neither_the_library_nor_a_network(bundle, hub, tmp_path):
    push(bundle, "hf:me/small")
    folder = pull("hf:me/small", tmp_path / "mine")
    code = f"""
import socket, sys
sys.modules["huggingface_hub"] = None
def no(*_, **__): raise AssertionError("the network")
socket.socket.connect = socket.create_connection = no
import jaxseg
from jaxseg.cli.program import main
print(jaxseg.load({str(folder)!r}).source)
assert main(["push", {str(folder)!r}, "hf:me/small"]) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "made here\n", done.stderr
    assert "pip install 'jaxseg[hub]'" in done.stderr


def test_an_encoder_of_timms_is_fetched_when_it_is_named_and_only_then(hub, monkeypatch):
    """And is for images as the encoder normalizes them, whatever timm's are."""
    arrays = torch_state_dict("resnet18", depth=1)
    timms = {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    files = {"model.safetensors": save(arrays), "config.json": json.dumps(timms).encode(), "pytorch_model.bin": b"no"}
    hub.commit("timm/resnet18.tv_in1k", files)
    with pytest.raises(UserError, match="not on this machine, and nothing is downloaded unasked.*hf download"):
        load_encoder("resnet18", "imagenet", depth=1)
    variables = load_encoder("resnet18", "hf:timm/resnet18.tv_in1k", depth=1)
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    expected = arrays["conv1.weight"].transpose(2, 3, 1, 0) * (np.float32([[0.229], [0.224], [0.225]]) / 0.5)
    np.testing.assert_allclose(kernel, expected, rtol=1e-5)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")  # where nothing answers
    for source in ("imagenet", "hf:timm/resnet18.tv_in1k"):  # what was fetched once is here for both names
        again = load_encoder("resnet18", source, depth=1)["params"]["stem"]["conv"]["kernel"]
        np.testing.assert_array_equal(again, kernel)
    with pytest.raises(
        UserError, match="'hf:timm/resnet18.a1_in1k' is not in the local cache and could not be fetched"
    ):
        load_encoder("resnet18", "hf:timm/resnet18.a1_in1k", depth=1)


def test_an_older_bundle_is_sent_as_it_is(bundle, hub, tmp_path):
    """It has no golden image; one of what was there before goes, when the older one is fetched over it."""
    older = tmp_path / "older"
    older.mkdir()
    for name in ("config.json", "model.safetensors"):
        (older / name).write_bytes((bundle / name).read_bytes())
    push(older, "hf:me/older")
    assert hub.files("me/older").keys() == {".gitattributes", "config.json", "model.safetensors"}
    push(bundle, "hf:me/small")
    pull("hf:me/small", tmp_path / "mine")
    assert (tmp_path / "mine" / FILE).exists()
    pull("hf:me/older", tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"config.json", "model.safetensors"}
    load_bundle(tmp_path / "mine")
