"""Configs by name and by path; a mistake in one is told with its file and line."""

from pathlib import Path

import pytest

from jaxseg.checks import UserError
from jaxseg.cli import recipes

GOOD = "from jaxseg.config import default_config\n\n\ndef get_config():\n    c = default_config()\n    return c\n"


def test_every_config_of_the_checkout_is_a_recipe():
    files = {path.stem for path in (Path(__file__).parents[2] / "configs").rglob("*.py")}
    assert set(recipes.recipes()) == files
    assert recipes.load("shapes_unet").data.name == "shapes"
    assert recipes.about(recipes.find("voc_pan")).startswith("PAN / ")


def test_a_path_works_and_the_file_beside_it_can_be_imported(tmp_path):
    (tmp_path / "lines_of_mine.py").write_text("LR = 0.125\n")
    path = tmp_path / "mine.py"
    path.write_text("from lines_of_mine import LR\n" + GOOD.replace("return c", "c.optim.lr = LR\n    return c"))
    assert recipes.load(str(path)).optim.lr == 0.125
    assert recipes.load(str(path), [("optim.lr", "0.5")]).optim.lr == 0.5


@pytest.mark.parametrize(
    "name,words",
    [
        ("shapes_unett", "Unknown recipe 'shapes_unett'. Did you mean 'shapes_unet'?"),
        ("ddrnet", "'ddrnet'. It is an architecture. Recipes of it: camvid_ddrnet. Other recipes take it with"),
        ("fcn16s", "'fcn16s'. It is an architecture. Other recipes take it with --config.model.name=fcn16s."),
        ("nowhere/shapes_unet.py", "give 'shapes_unet'"),
        ("nowhere/mine.py", "There is no config file nowhere/mine.py"),
    ],
)
def test_missing_files(name, words):
    with pytest.raises(UserError) as error:
        recipes.load(name)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "text,words",
    [
        (GOOD.replace("return c", "c.optim.lrr = 1\n    return c"), ["line 6: c.optim.lrr = 1", 'mean "lr"']),
        (GOOD.replace("return c", "return 1 / 0"), ["line 6: return 1 / 0", "ZeroDivisionError: division by zero"]),
        (GOOD.replace("return c", "return c)"), ["line 6: return c)", "SyntaxError"]),
        ("import sys\nsys.exit(0)\n", ["line 2: sys.exit(0)", "SystemExit: 0"]),
        ("import no_such_module\n", ["line 1: import no_such_module", "ModuleNotFoundError"]),
        (GOOD.replace("get_config", "config"), ["must define get_config()"]),
        (GOOD.replace("return c", "return {}"), ["must define get_config()"]),
    ],
)
def test_a_mistake_in_a_file_has_its_line(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        recipes.load(str(path))
    assert str(error.value).startswith(str(path))
    assert all(word in str(error.value) for word in words), error.value


def test_a_mistake_in_a_file_of_a_relative_path_has_its_line(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(GOOD.replace("return c", "return leraning"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="mine.py, line 6: return leraning\nNameError"):
        recipes.load("mine.py")
