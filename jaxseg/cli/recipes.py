"""Recipes: the configs that ship with jaxseg, by name, and config files of one's own, by path."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from jaxseg.checks import UserError, closest, listing
from jaxseg.cli import settings as values
from jaxseg.cli.peer_settings import of_peers


def folder() -> Path:
    """Returns the folder of the recipes: `jaxseg/configs` where jaxseg is installed, `configs` in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def recipes() -> dict[str, Path]:
    """Returns the recipes, name -> file."""
    found = [path for path in folder().rglob("*.py") if not path.stem.startswith("_")]
    return {path.stem: path for path in sorted(found, key=lambda path: path.stem)}


def about(path: Path) -> str:
    """Returns the first line of a config file's docstring."""
    import ast

    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def find(name: str) -> Path:
    """Returns the config file that `name` means: a path, or a recipe's name."""
    known, path = recipes(), Path(name).expanduser()
    if name in known:
        return known[name]
    if path.is_file():
        return path.absolute()  # as the lines of a traceback name it
    if path.suffix != ".py" and len(path.parts) == 1:
        near = _of_architecture(name, known) or closest(name, known)
        raise UserError(f"Unknown recipe '{name}'. {near}`jaxseg list configs` has all of them.")
    if path.stem in known:
        raise UserError(
            f"There is no file {name} in {Path.cwd()}. The recipe of that name comes with jaxseg: give '{path.stem}'."
        )
    near = closest(path.stem, known)
    raise UserError(f"There is no config file {name} in {Path.cwd()}. {near}Recipes: `jaxseg list configs`.")


def _of_architecture(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is an architecture's; "" of others."""
    from jaxseg.models import MODELS

    if name not in MODELS:
        return ""
    own = [recipe for recipe in known if name in recipe.split("_")]
    told = f"Recipes of it: {listing(own)}. " if own else ""
    return f"It is an architecture. {told}Other recipes take it with --config.model.name={name}. "


def load(name: str, settings: Iterable[tuple[str, str | None]] = ()) -> ConfigDict:
    """Returns the config of a recipe or a file, with the values of the command line in it.

    Args:
      name: see `find`.
      settings: (key, text), see `jaxseg.cli.settings`.
    """
    path = find(name)
    spec = importlib.util.spec_from_file_location(f"jaxseg_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file. A config file defines get_config(), see `jaxseg list configs`.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # a config may share lines with the one beside it
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except (Exception, SystemExit) as error:
        raise UserError(_told(error, path)) from error
    finally:
        sys.path.pop(0)
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path} must define get_config(), which returns a config of jaxseg.config.default_config().")
    values.apply(config, settings)
    return config


def _told(error: BaseException, path: Path) -> str:
    """Says what a config file got wrong, and in which of its lines."""
    kind, text = type(error).__name__, "\n".join(str(error).splitlines()[:8])
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}: {(error.text or '').strip()}\n{kind}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if not frames:
        return f"{path}: {kind}: {text}"
    unknown = re.search(r'Key "(\w+)" does not exist', text)
    here = of_peers(unknown[1]) if unknown else ""
    return f"{path}, line {frames[-1].lineno}: {frames[-1].line}\n{kind}: {text}" + (f"\n{here}" if here else "")
