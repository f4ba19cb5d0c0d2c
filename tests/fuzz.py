"""Broken files by the thousand, for every loader of jaxseg: each is read, or refused in a sentence.

    python tests/fuzz.py --files 20000 --seed 0

A file of a small, whole model, data set or run is changed at random, and loaded. Whatever raises anything else than
`UserError`, or takes more than a gigabyte or 20 seconds, is a finding. `tests/test_fuzz.py` does so with a few files.
"""

import argparse
import collections
import contextlib
import copy
import dataclasses
import gzip
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.cli import launch
from jaxseg.data import readers
from jaxseg.data.bands import RGB
from jaxseg.data.legend import read_legend
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment.log import read_rows
from jaxseg.inference.calibration import load_calibration
from jaxseg.pretrained import golden, read_state_dict
from jaxseg.trained import load

BEFORE = Path(__file__).parent / "data_before"
MEMORY, SECONDS = 2**30, 20  # what a file may take
HOSTILE = (
    None,
    True,
    -1,
    0,
    1,
    3.5,
    10**9,
    10**30,
    "",
    "x" * 5000,
    "a\x1b[2Jb",
    "../../etc",
    [],
    {},
    [[[[[]]]]],
    [1, "a"],
)
HOSTILE_TEXT = (b"NaN", b"Infinity", b"1e400", b"[" * 5000, b'{"a":' * 3000, b"9" * 5000, b"\xff", b"\0", b'"\\ud800"')


@dataclasses.dataclass(frozen=True)
class Loader:
    """What loads files of one kind.

    Args:
      make: writes whole files to an empty folder.
      files: patterns of those in the folder that are broken, one at a time.
      load: loads what is in the folder; is also given the broken file.
      share: of the files of a long run, in parts.
      threaded: whether many threads load: each has room of its own, so that what is counted is memory that is used.
    """

    make: Callable[[Path], None]
    files: tuple[str, ...]
    load: Callable[[Path, Path], Any]
    share: float
    threaded: bool = False


def _bundle(folder: Path) -> None:
    shutil.copytree(BEFORE / "bundle", folder, dirs_exist_ok=True)


def _run(folder: Path) -> None:
    with tarfile.open(BEFORE / "workdir.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    good = {"kind": "vector", "scale": [1.0] * 3, "bias": [0.0] * 3, "checkpoint": 2, "split": "val", "report": {}}
    (folder / "workdir" / "calibration.json").write_text(json.dumps(good))


def _smp(folder: Path) -> None:
    from safetensors.numpy import save_file

    config = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 2, "in_channels": 3, "activation": None}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"segmentation_head.0.bias": np.zeros(2, "f4"), "a": np.ones(3, "f4")}, folder / "model.safetensors")


def _torch(folder: Path) -> None:
    from tests.pretrained.test_hostile_torch import state_dict, tensor, text, zip_of

    pickled = state_dict((text("w"), tensor((2, 2), (2, 1))), (text("b"), tensor((3,), (1,))))
    zip_of(folder / "a.pth", pickled, np.arange(4, dtype="<f4").tobytes())


def _safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"w": np.ones((3, 4), "f4"), "b": np.zeros(5, "f2")}, folder / "a.safetensors")


def _golden(folder: Path) -> None:
    places = np.array([(0, 0), (8, 13)], np.int32)
    probabilities = np.full((2, 3), 1 / 3, np.float32)
    image = golden.draw_image(RGB, (9, 14))
    golden.write_golden(folder, golden.Golden(image, np.ones((9, 14), np.uint8), places, probabilities))


def _load_golden(folder: Path, file: Path) -> None:
    golden.read_golden(folder, Preprocessing((0.0,) * 3, (1.0,) * 3), 3)


def _onnx(folder: Path) -> None:
    from tests.pretrained.test_onnx_file import write

    write(folder / "a.onnx", {"fc.weight": np.ones((3, 4), "f4"), "fc.bias": np.zeros(5, "f2"), "count": 3})


def _classes(folder: Path) -> None:
    entries = [{"id": i, "name": f"class {i}", "color": [i, 2, 3], "values": [i, i + 10]} for i in range(3)]
    (folder / "classes.json").write_text(json.dumps({"ignore": 255, "classes": entries}))


def _images(folder: Path) -> None:
    import tifffile

    rng = np.random.default_rng(0)
    color, gray = rng.integers(0, 256, (9, 14, 3), np.uint8), rng.integers(0, 5, (9, 14), np.uint8)
    for name in ("color.png", "color.jpg", "color.webp", "color.bmp", "color.gif", "color.tif"):
        Image.fromarray(color).save(folder / name)
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 9).save(folder / "wide.png")
    palette = Image.fromarray(gray)
    palette.putpalette(bytes(range(256)) * 3)
    palette.save(folder / "palette.png")
    np.save(folder / "color.npy", color)
    np.save(folder / "float.npy", rng.random((2, 9, 14, 4)))
    tifffile.imwrite(folder / "bands.tif", rng.random((9, 14, 5)).astype("f4"), photometric="minisblack")
    tifffile.imwrite(folder / "stack.tif", rng.integers(0, 999, (3, 9, 14), np.uint16), compression="zlib")
    tifffile.imwrite(folder / "tiles.tif", np.zeros((64, 64, 3), np.uint8), tile=(16, 16), compression="zlib")


def _volumes(folder: Path) -> None:
    import nibabel
    from scipy.io import savemat

    from tests.data.readers.test_formats import dicom

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 900, (9, 14, 3)).astype(np.int16)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.Nifti1Image(pixels, np.eye(4)).to_filename(folder / name)
    nibabel.Nifti2Image(pixels.astype("f4"), np.eye(4)).to_filename(folder / "two.nii")
    dicom(folder / "a.dcm", pixels[..., 0], RescaleSlope="2", RescaleIntercept="-10")
    dicom(folder / "frames.dcm", pixels.transpose(2, 0, 1), NumberOfFrames=3)
    savemat(folder / "a.mat", {"label": pixels[..., 0]})


def _load_image(folder: Path, file: Path) -> None:
    errors = []
    for read in (
        readers.header,
        readers.pages,
        readers.read_image,
        readers.read_stored_label,
        lambda path: readers.read_image(path, window=(1, 2, 3, 4)),
    ):
        try:
            read(file)
        except readers.stored.WindowError:  # of a window that a smaller image has not
            pass
        except UserError as error:
            errors.append(error)
    if errors:
        raise max(errors, key=lambda error: "too large for the memory" in str(error))


def _load_run(folder: Path, file: Path) -> None:
    workdir = folder / "workdir"
    trained = load(workdir)
    load_calibration(workdir, trained.step)


LOADERS = {
    "images and labels": Loader(_images, ("*",), _load_image, 10),
    "volumes": Loader(_volumes, ("*",), _load_image, 4),
    "torch": Loader(_torch, ("*.pth",), lambda folder, file: read_state_dict(file), 4),
    "safetensors": Loader(_safetensors, ("*",), lambda folder, file: read_state_dict(file), 2),
    "golden": Loader(_golden, ("*",), _load_golden, 1),
    "onnx": Loader(_onnx, ("*",), lambda folder, file: read_state_dict(file), 1),
    "classes.json": Loader(_classes, ("*",), lambda folder, file: read_legend(file, None), 2),
    "bundle": Loader(_bundle, ("config.json", "model.safetensors"), lambda folder, file: load(folder), 1),
    "smp": Loader(_smp, ("config.json", "model.safetensors"), lambda folder, file: load(folder), 0.5),
    "metrics.jsonl": Loader(_run, ("workdir/metrics.jsonl",), lambda folder, file: read_rows(file), 1),
    "run": Loader(_run, ("workdir/*.json*",), _load_run, 0.5, True),
    "checkpoint": Loader(_run, ("workdir/checkpoints/**/*",), _load_run, 0.25, True),
}


def mutate(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    """Returns the bytes of a file, changed at random in a way that suits its kind."""
    if name.endswith((".json", ".jsonl")) and rng.random() < 0.6:
        return _mutate_json(data, name, rng)
    if name.endswith(".safetensors") and rng.random() < 0.6:
        size = int.from_bytes(data[:8], "little")
        header = _mutate_json(data[8 : 8 + size], name, rng)
        return len(header).to_bytes(8, "little") + header + data[8 + size :]
    if name.endswith(".pth") and rng.random() < 0.7:
        return _mutate_zip(data, rng)
    if name.endswith(".gz") and rng.random() < 0.7:
        return gzip.compress(_mutate_bytes(gzip.decompress(data), rng))
    changed = _mutate_bytes(data, rng)
    if name.endswith(".png") and rng.random() < 0.7:
        changed = _with_checksums(changed)
    if name.endswith(".npy") and rng.random() < 0.5:
        place = changed.find(b"(", 60)
        number = rng.choice([b"(1000000000, 9, 3)", b"(-9, 14, 3)   ", b"(9, 14, 3, 1, 1)", b"(3000, 3000, 3)"])
        changed = changed[:place] + number + changed[place + len(number) :]
    return changed


def _mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind, at = int(rng.integers(8)), int(rng.integers(len(changed) + 1))
        length = int(rng.choice([1, 2, 4, 8]))
        if kind == 0:
            del changed[at:]
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            changed[at : at + length] = rng.bytes(length)
        elif kind == 3:  # numbers that are too large
            value = int(rng.choice([0, 1, 2**7, 2**15, 2**16 - 1, 2**30, 2**31 - 1, 2**32 - 1])) % 256**length
            changed[at : at + length] = value.to_bytes(length, "little" if rng.random() < 0.5 else "big")
        elif kind == 4:
            del changed[at : at + int(rng.integers(1, 64))]
        elif kind == 5:
            changed[at:at] = changed[max(0, at - int(rng.integers(1, 64))) : at]
        elif kind == 6:
            changed[at:at] = HOSTILE_TEXT[int(rng.integers(len(HOSTILE_TEXT)))]
        elif rng.random() < 0.05:
            changed = bytearray()
    return bytes(changed)


def _mutate_json(data: bytes, name: str, rng: np.random.Generator) -> bytes:
    lines = data.splitlines() if name.endswith(".jsonl") else [data]
    chosen = int(rng.integers(len(lines)))
    document = json.loads(lines[chosen])
    inside: Any = document
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            break
        key = keys[int(rng.integers(len(keys)))]
        deeper = inside[key]
        if isinstance(deeper, dict | list) and deeper and rng.random() < 0.8:
            inside = deeper
            continue
        if rng.random() < 0.2:
            del inside[key]
        elif rng.random() < 0.15 and isinstance(inside, dict):
            inside[f"{key}x"] = inside.pop(key)
        else:
            inside[key] = copy.deepcopy(HOSTILE[int(rng.integers(len(HOSTILE)))])
        break
    lines[chosen] = json.dumps(document).encode()
    if rng.random() < 0.1:  # what json never writes, and reads
        numbers = [m.span() for m in re.finditer(rb"-?\d+(\.\d+)?", lines[chosen])] or [(0, 0)]
        start, end = numbers[int(rng.integers(len(numbers)))]
        text = HOSTILE_TEXT[int(rng.integers(len(HOSTILE_TEXT)))]
        lines[chosen] = lines[chosen][:start] + text + lines[chosen][end:]
    return b"\n".join(lines)


def _mutate_zip(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes what is in the parts of an archive, whose checksums then fit."""
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as changed:
        names = archive.namelist()
        chosen = names[int(rng.integers(len(names)))] if rng.random() < 0.3 else names[0]
        for part in names:
            content = archive.read(part)
            changed.writestr(part, _mutate_bytes(content, rng) if part == chosen else content)
    return out.getvalue()


def _with_checksums(data: bytes) -> bytes:
    """Returns a PNG whose chunks have the checksums that fit what is in them."""
    changed, at = bytearray(data), 8
    while at + 12 <= len(changed):
        (length,) = struct.unpack(">I", changed[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = struct.pack(">I", zlib.crc32(changed[at + 4 : end]))
        at = end + 4
    return bytes(changed)


class TooSlow(BaseException):
    """A file took too long; no `except Exception` hides it."""


@contextlib.contextmanager
def bounded(*, threaded: bool) -> Iterator[None]:
    """Lets the block take `MEMORY` more than the process has, and `SECONDS`."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS} s")

    room, used = (int(n) * os.sysconf("SC_PAGE_SIZE") for n in Path("/proc/self/statm").read_text().split()[:2])
    limits, before = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, stop)
    if threaded:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    else:
        resource.setrlimit(resource.RLIMIT_AS, (room + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if threaded and int(peak[1]) * 1024 > used + MEMORY:
        raise MemoryError(f"{int(peak[1]) // 1024} MiB")


def fuzz(name: str, count: int, seed: int, keep: Path | None = None) -> tuple[collections.Counter[str], list[str]]:
    """Loads `count` broken files and returns how many were "read" and "refused", and the findings.

    Args:
      name: of the loader.
      count: of files.
      seed: of the changes.
      keep: a folder that gets the files that are findings.
    """
    loader, outcomes, findings = LOADERS[name], collections.Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        loader.make(root)
        with contextlib.suppress(Exception):  # what is made once is no file's
            loader.load(root, next(f for f in root.glob(loader.files[0]) if f.is_file()))
        files = sorted({f for pattern in loader.files for f in root.glob(pattern) if f.is_file()})
        for number in range(count):
            rng = np.random.default_rng((seed, zlib.crc32(name.encode()), number))
            file = files[int(rng.integers(len(files)))]
            whole = file.read_bytes()
            broken = mutate(whole, file.name, rng)
            file.write_bytes(broken)
            try:
                with bounded(threaded=loader.threaded):
                    loader.load(root, file)
                outcomes["read"] += 1
            except UserError as error:
                outcomes["refused"] += 1
                if "too large for the memory" in str(error) or "MemoryError" in str(error):
                    findings.append(f"{name} {number} {file.name}: more than {MEMORY} bytes: {error}")
            except (Exception, TooSlow) as error:
                where = "".join(traceback.format_tb(error.__traceback__)[-3:])
                findings.append(f"{name} {number} {file.name}: {type(error).__name__}: {str(error)[:300]}\n{where}")
            if keep is not None and findings and findings[-1].startswith(f"{name} {number} "):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name.replace(' ', '_')}-{number}-{file.name}").write_bytes(broken)
            file.write_bytes(whole)
    return outcomes, findings


def main() -> int:
    """Runs all loaders, each in a process of its own, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="of all loaders together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loader", choices=LOADERS, help="only this one, in this process")
    parser.add_argument("--keep", type=Path, help="a folder for the files that are findings")
    args = parser.parse_args()
    launch.quieten()
    warnings.simplefilter("ignore")
    if args.loader:
        began = time.perf_counter()
        outcomes, findings = fuzz(args.loader, args.files, args.seed, args.keep)
        seconds = time.perf_counter() - began
        print(
            f"{args.loader:18} {args.files:6} files {outcomes['refused']:6} refused {outcomes['read']:6} read", end=""
        )
        print(f" {len(findings):3} findings {seconds:6.0f} s", flush=True)
        print("\n".join(findings), end="\n" * bool(findings))
        return 1 if findings else 0
    total, failed = sum(loader.share for loader in LOADERS.values()), []
    for name, loader in LOADERS.items():
        count = max(round(args.files * loader.share / total), 1)
        command = [sys.executable, __file__, "--loader", name, "--files", str(count), "--seed", str(args.seed)]
        command += ["--keep", str(args.keep)] if args.keep else []
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"findings in: {', '.join(failed)}" if failed else "no findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
