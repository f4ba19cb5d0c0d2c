"""The notebooks run from top to bottom, in little."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


# They run for three steps here.
pytestmark = pytest.mark.usefixtures("quick_to_compile")


def fifty_lines(names):
    assert len(names["losses"]) == 3 and np.isfinite(names["losses"]).all()
    assert names["matrix"].sum() == 64 * 64 * 64
    assert 0 < np.nanmean(names["iou"]) < 1


def medical(names):
    assert all(len(values) == 3 and np.isfinite(values).all() for values in names["losses"].values())
    assert len(names["losses"]) == 2 == len({values[0] for values in names["losses"].values()})
    assert all(maps.shape == (2, 96, 96) for maps in names["predicted"].values())
    said = np.array([[0, 0, 0, 0, 1, 0, 0]]).repeat(40, axis=0)
    true = np.array([[0, 0, 1, 0, 1, 0, 0]]).repeat(40, axis=0)  # three cells, of which the first two were merged
    assert names["homes"](said, true) == [1, 1, 2]


SMALLER = {  # what is written in a notebook, and what runs here instead
    "medical": {
        "size=160, train=256, val=16": "size=96, train=8, val=2",
        "(128, 128)": "(64, 64)",
        "(16, 32, 64)": "(4, 4)",
    }
}
CHECKS = {check.__name__: check for check in (fifty_lines, medical)}


def test_every_notebook_is_checked():
    assert sorted(CHECKS) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", CHECKS)
def test_it_runs_from_top_to_bottom(name, monkeypatch):
    monkeypatch.setenv("STEPS", "3")
    matplotlib.use("Agg")
    path = FOLDER / f"{name}.ipynb"
    cells = json.loads(path.read_text())["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert codes[0] == "%pip install -q jaxseg"
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells), "clear all outputs"
    assert all(written in "".join(codes) for written in SMALLER.get(name, ()))
    names: dict = {}
    for code in codes[1:]:
        for written, smaller in SMALLER.get(name, {}).items():
            code = code.replace(written, smaller)
        exec(compile(code, str(path), "exec"), names)
    CHECKS[name](names)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_its_links_hold_wherever_it_is_opened(path):
    """In the repository, in the site, in Colab: only addresses with a host do."""
    texts = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "markdown"]
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(texts))
    assert links and all(link.startswith("https://") for link in links), links
