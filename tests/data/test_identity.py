"""What tells the files of a split from others, in seconds."""

import os

import numpy as np
import pytest

from jaxseg.data.identity import PART, SAMPLED, identify_files


@pytest.fixture
def files(tmp_path):
    """60 records of an image and a label."""
    paths = []
    for i in range(60):
        pair = [tmp_path / f"{i}.png", tmp_path / f"{i}_label.png"]
        for path in pair:
            path.write_bytes(bytes(10 + i))
        paths.append([str(path) for path in pair])
    return paths


def _identify(files):
    return identify_files([os.path.basename(image) for image, _ in files], files)


def _differing(ours, theirs):
    return {key for key in ours if ours[key] != theirs[key]}


def test_it_says_what_differs(files, tmp_path):
    before = _identify(files)
    assert _identify(files) == before
    assert _differing(_identify(files[1:]), before) == {"names", "sizes", "sample"}
    assert _differing(_identify(files[::-1]), before) == {"names", "sizes", "sample"}
    with open(files[30][1], "ab") as file:
        file.write(b"one more")
    assert _differing(_identify(files), before) == {"sizes"}


def test_a_set_of_files_of_one_size_that_was_made_anew_is_noticed(files):
    """As arrays and BMP are: only a look into some files tells."""
    before = _identify(files)
    for image, _ in files:
        size = os.path.getsize(image)
        with open(image, "r+b") as file:
            file.seek(size - 1)
            file.write(b"x")
    assert _differing(_identify(files), before) == {"sample"}


def test_both_ends_of_a_large_file_are_looked_at(tmp_path):
    path = tmp_path / "large.npy"
    found = []
    for place in (None, 0, 3 * PART - 1, 3 * PART // 2):
        content = bytearray(3 * PART)
        if place is not None:
            content[place] = 1
        path.write_bytes(content)
        found.append(identify_files(["large"], [[str(path)]])["sample"])
    assert len(set(found)) == 3 and found[0] == found[3]  # the middle is not read


def test_a_copy_elsewhere_is_the_same_data(files, tmp_path):
    (tmp_path / "copy").mkdir()
    copies = [[f"{tmp_path}/copy/{os.path.basename(path)}" for path in pair] for pair in files]
    for old, new in zip(np.ravel(files), np.ravel(copies), strict=True):
        with open(old, "rb") as source, open(new, "wb") as target:
            target.write(source.read())
        os.utime(new, (0, 0))
    assert _identify(copies) == _identify(files)


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert identify_files(["pipe"], [[str(tmp_path / "pipe.png")]])["names"]


def test_no_more_than_a_few_files_are_opened(tmp_path, monkeypatch):
    """Of ten thousand records of one file, whose reading would take minutes."""
    path = tmp_path / "a.png"
    path.write_bytes(bytes(PART))
    opened, before = [], open

    def count(name, *args, **options):
        opened.append(name)
        return before(name, *args, **options)

    monkeypatch.setattr("builtins.open", count)
    identify_files([str(i) for i in range(10_000)], [[str(path)]] * 10_000)
    assert len(opened) == SAMPLED
