"""The notebooks run from top to bottom, in little."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path, monkeypatch):
    monkeypatch.setenv("STEPS", "3")
    matplotlib.use("Agg")
    cells = json.loads(path.read_text())["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert codes[0] == "%pip install -q jaxseg"
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells), "clear all outputs"
    names: dict = {}
    for code in codes[1:]:
        exec(compile(code, str(path), "exec"), names)
    assert len(names["losses"]) == 3 and np.isfinite(names["losses"]).all()
    assert names["matrix"].sum() == 64 * 64 * 64
    assert 0 < np.nanmean(names["iou"]) < 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_links_hold_wherever_it_is_opened(path):
    """In the repository, in the site, in Colab: only addresses with a host do."""
    texts = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "markdown"]
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(texts))
    assert links and all(link.startswith("https://") for link in links), links
