"""PyTorch's files from strangers: small files that ask for much, and pickles that reach for what is alive."""

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.pretrained import read_state_dict, torch_file
from jaxseg.pretrained.torch_file import LEGACY_MAGIC
from jaxseg.pretrained.wrapping import ENTRIES


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def tensor(shape, strides, dtype="FloatStorage"):
    """The opcodes of a tensor on the storage "0", as torch.save writes them."""
    storage = b"(" + text("storage") + name("torch", dtype) + text("0") + text("cpu") + number(4) + b"tQ"
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + storage
        + number(0)
        + number(shape)
        + number(strides)
        + b"tR"
    )


def state_dict(*entries):
    """A pickle of a dictionary; `entries` are (opcodes of the key, opcodes of the value)."""
    return b"\x80\x02}" + b"(" + b"".join(key + value for key, value in entries) + b"u."


def zip_of(path, pickled, storage=b"\0" * 16, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)
    return path


def refused(path, said, seconds=5.0, memory=100e6):
    """Asserts that reading is refused in a sentence with the file's name, soon and with little memory."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(UserError, match=said) as error:
            read_state_dict(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value) and len(str(error.value)) < 1000
    assert time.perf_counter() - began < seconds and peak < memory


def test_a_good_one_is_read(tmp_path):
    path = zip_of(
        tmp_path / "a.pth", state_dict((text("w"), tensor((2, 2), (2, 1)))), np.arange(4, dtype="<f4").tobytes()
    )
    np.testing.assert_array_equal(read_state_dict(path)["w"], [[0, 1], [2, 3]])


@pytest.mark.parametrize("shape, strides", [((40_000, 40_000), (0, 0)), ((2**40,), (0,)), ((1,) * 33, (1,) * 33)])
def test_a_giant_tensor_of_a_tiny_file(tmp_path, shape, strides):
    refused(
        zip_of(tmp_path / "a.pth", state_dict((text("w"), tensor(shape, strides)))), "far more memory|whole numbers"
    )


@pytest.mark.parametrize(
    "shape, strides", [((5,), (1,)), ((-1, 0), (1, 1)), ((2,), (-1,)), ((1.5,), (1,)), (("a",), (1,))]
)
def test_a_tensor_that_is_none(tmp_path, shape, strides):
    refused(zip_of(tmp_path / "a.pth", state_dict((text("w"), tensor(shape, strides)))), "damaged")


def test_many_tensors_of_one_storage(tmp_path):
    one = tensor((1_000_000,), (1,))
    pickled = state_dict(*((text(f"w{i}"), one) for i in range(3000)))
    refused(zip_of(tmp_path / "a.pth", pickled, bytes(4_000_000)), "far more memory")


def test_a_zip_that_unfolds(tmp_path):
    pickled = state_dict((text("w"), tensor((50_000_000,), (1,))))
    refused(zip_of(tmp_path / "a.pth", pickled, bytes(200_000_000), zipfile.ZIP_DEFLATED), "compressed", memory=250e6)


@pytest.mark.parametrize("opcodes", [b"r\xff\xff\xff\x7f", b"\x96" + struct.pack("<Q", 2**34), b"\x8b\xff\xff\xff\x7f"])
def test_opcodes_that_set_memory_aside(tmp_path, opcodes):
    pickled = b"\x80\x05]" + opcodes + b"."
    refused(zip_of(tmp_path / "a.pth", pickled), r"a\.pth")


def test_names_whose_hash_takes_forever(tmp_path):
    nested = b")" + b"2\x86" * 60  # () and then, 60 times, the pair of the last with itself
    refused(zip_of(tmp_path / "a.pth", b"\x80\x02}" + nested + b"K\x01s."), "tuples for names")
    pickled = b"\x80\x02" + name("collections", "OrderedDict") + b"(](" + nested + b"K\x01\x86etR."
    refused(zip_of(tmp_path / "b.pth", pickled), r"b\.pth")


def test_dictionaries_that_hold_each_other(tmp_path):
    content = {"a": 1}
    for _ in range(40):
        content = dict.fromkeys(ENTRIES, content) | {"n": 1}
    content["model"] = content
    path = zip_of(tmp_path / "a.pth", pickle.dumps(content, 2))
    refused(path, "no tensors")


def test_names_that_are_no_text(tmp_path):
    refused(zip_of(tmp_path / "a.pth", state_dict((number(1), tensor((2,), (1,))))), "no text: 1")


@pytest.mark.parametrize(
    "live",
    [name("torch._utils", "_rebuild_tensor_v2"), name("torch", "FloatStorage"), name("collections", "OrderedDict")],
)
def test_nothing_alive_is_changed(tmp_path, live):
    """BUILD with (None, {attribute: value}) sets attributes of what stands on the stack."""
    function = torch_file._Unpickler._tensor
    before = function.__defaults__, dict(vars(function)), np.dtype("<f4").byteorder, dict(vars(OrderedDict))
    attributes = b"}" + text("__defaults__") + number((1, 2)) + b"s}" + text("__kwdefaults__") + b"Ns"
    for state in (
        b"N" + attributes[:-1] + b"\x86",
        b"}" + text("stained") + b"K\x01s",
        number((3, ">", None, None, None, -1, -1, 0)),
    ):
        path = zip_of(tmp_path / "a.pth", state_dict((text("w"), live + state + b"b")))
        with pytest.raises(UserError, match=r"a\.pth"):
            read_state_dict(path)
    assert before == (function.__defaults__, dict(vars(function)), np.dtype("<f4").byteorder, dict(vars(OrderedDict)))


@pytest.mark.parametrize("count", [2**40, -8])
def test_a_flat_file_that_claims_more_than_it_has(tmp_path, count):
    stream = io.BytesIO()
    for part in (LEGACY_MAGIC, 1001, {"little_endian": True}):
        pickle.dump(part, stream, 2)
    stream.write(state_dict((text("w"), tensor((2,), (1,)))))
    pickle.dump(["0"], stream, 2)
    stream.write(struct.pack("<q", count) + bytes(16))
    (tmp_path / "a.pth").write_bytes(stream.getvalue())
    refused(tmp_path / "a.pth", "reaches beyond its end")


def test_the_dtype_of_every_bfloat16_is_not_rewritten(tmp_path):
    """This file made arrays of bfloat16 reach beyond their memory, in the whole process."""
    import jax.numpy as jnp

    state = number((3, ">", None, None, None, 64, 64, 0))
    path = zip_of(tmp_path / "a.pth", state_dict((text("w"), name("torch", "BFloat16Storage") + state + b"b")))
    with pytest.raises(UserError, match=r"a\.pth"):
        read_state_dict(path)
    assert np.dtype(jnp.bfloat16).itemsize == 2 and np.ones(4, jnp.bfloat16).nbytes == 8
    whole = name("torch", "BFloat16Storage") + state + b"b0"  # and drops it: the rest is a good state dict
    pickled = b"\x80\x02" + whole + state_dict((text("w"), tensor((2, 2), (2, 1))))[2:]
    read_state_dict(zip_of(path, pickled, np.zeros(4, "<f4").tobytes()))
    assert np.dtype(jnp.bfloat16).itemsize == 2


def test_a_flat_file_is_not_asked_for_more_than_it_has(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + bytes(100))  # bytes of that number
    refused(tmp_path / "a.pth", "a.pth", memory=1e6)
