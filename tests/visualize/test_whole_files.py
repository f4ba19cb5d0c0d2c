"""Figures are written whole or not at all."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from jaxseg import visualize
from jaxseg.visualize import images

VISUALIZE = Path(visualize.__file__).parent
LABEL = np.random.default_rng(0).integers(0, 2, (64, 64))
PALETTE = ((0, 0, 0), (255, 0, 0))


def test_a_full_disk_leaves_the_old_image_whole(tmp_path):
    path = tmp_path / "label.png"
    images.save_label_png(path, LABEL, PALETTE)
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        with pytest.raises(OSError, match="File too large") as error:
            images.save_label_png(path, 1 - LABEL, PALETTE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert error.value.filename in (None, str(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["label.png"]


@pytest.mark.parametrize("file", sorted(VISUALIZE.glob("*.py")), ids=lambda file: file.name)
def test_every_figure_is(file):
    """Whatever is written by its path is written in place, and a kill leaves half of it."""
    text = file.read_text()
    assert "savefig(path" not in text and ".save(path" not in text
