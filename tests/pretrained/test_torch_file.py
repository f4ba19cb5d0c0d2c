"""Reading PyTorch's files: what is refused. That what is read is right, tests/parity checks against PyTorch."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.pretrained import read_state_dict
from jaxseg.pretrained.torch_file import LEGACY_MAGIC, Tensor, _array


class Command:
    """Runs a command when it is unpickled, as a hostile file would."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def zip_file(path, content, protocol=2):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol))
    return path


def legacy_file(path, content):
    header = [LEGACY_MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    stream = io.BytesIO()
    for part in (*header, content, []):
        pickle.dump(part, stream, 2)
    path.write_bytes(stream.getvalue())
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_zip_runs_nothing(tmp_path, protocol):
    path = zip_file(tmp_path / "a.pth", {"weight": Command(f"touch {tmp_path}/was_run")}, protocol)
    with pytest.raises(UserError, match=r"refers to posix\.system"):
        read_state_dict(path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("place", ["magic", "content"])
def test_a_hostile_legacy_file_runs_nothing(tmp_path, place):
    command = Command(f"touch {tmp_path}/was_run")
    path = legacy_file(tmp_path / "a.pth", {"weight": command})
    if place == "magic":
        path.write_bytes(pickle.dumps(command, 2))
    with pytest.raises(UserError, match=r"refers to posix\.system"):
        read_state_dict(path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    "content, said",
    [
        ([1, 2], "holds a list, expected a dictionary"),
        ({"epoch": 3, "lr": 0.1}, "no tensors: epoch, lr"),
    ],
)
@pytest.mark.parametrize("write", [zip_file, legacy_file])
def test_what_is_no_state_dict_is_named(tmp_path, write, content, said):
    with pytest.raises(UserError, match=said):
        read_state_dict(write(tmp_path / "a.pth", content))


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"PK\x03\x04 not a zip", b"# a text\n"])
def test_a_damaged_file_is_an_error_with_its_name(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.pth' as a PyTorch state dict"):
        read_state_dict(tmp_path / "a.pth")


def test_a_missing_file_is_an_error_with_its_name(tmp_path):
    with pytest.raises(UserError, match=r"no file '.*a\.pth'"):
        read_state_dict(tmp_path / "a.pth")


def test_a_transposed_view_is_read_as_it_looks():
    """PyTorch writes a view as its storage, an offset and strides."""
    stored = np.arange(10, dtype="<f4")
    view = Tensor(np.dtype("<f4"), "0", offset=2, shape=(2, 3), strides=(1, 2))
    np.testing.assert_array_equal(_array(view, stored.tobytes()), stored[2:8].reshape(3, 2).T)
