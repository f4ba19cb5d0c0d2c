"""What the wheel holds: every package, and the recipes."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pyproject_names_every_package():
    """One that is missing there would work in a checkout, and in no installation."""
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "jaxseg").rglob("__init__.py")}
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(setuptools["packages"]) == {*found, "jaxseg.configs", "jaxseg.configs.papers"}
    assert (ROOT / setuptools["package-dir"]["jaxseg.configs"] / "shapes_unet.py").exists()
