"""The rules of the house: who may import whom, what an import costs, what the public face is."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxseg"

# layer -> what of jaxseg it may import; anyone may import checks.
ALLOWED = {
    "ops": {"ops"},
    "metrics": {"metrics", "ops"},
    "losses": {"losses", "ops"},
    "blocks": {"blocks", "ops"},
    "encoders": {"encoders", "blocks", "ops"},
    "models": {"models", "encoders", "blocks", "ops"},
    "pretrained": {"pretrained", "models", "encoders", "blocks", "ops"},
    "data": {"data", "ops"},
    "inference": {"inference", "ops", "data", "visualize"},
}
# layer -> third-party packages it must not touch; the core install has neither TensorFlow nor torch.
FORBIDDEN = {
    "ops": {"flax", "optax"},
    "metrics": {"flax", "optax"},
    "losses": {"flax", "optax", "ml_collections"},
    "blocks": {"optax", "ml_collections"},
    "encoders": {"optax", "ml_collections"},
    "models": {"optax", "ml_collections"},
    "data": {"flax", "optax"},
}
HEAVY = {"grain", "orbax", "matplotlib", "PIL", "tensorflow_datasets", "tensorboardX", "scipy", "tqdm"}
ABSENT = {"tensorflow", "torch", "pickle"}
EXEMPT = {"pretrained/torch_file.py": {"pickle"}}  # docs/decisions.md: reads .pth through an allowlist


def _imports(path, *, module_level):
    """Yields the dotted names that a file imports, only where they run at import time if `module_level`."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if module_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield child.module
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


def _layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    layer = _layer(path)
    if layer in ALLOWED:
        for name in _imports(path, module_level=True):
            if name.startswith("jaxseg."):
                assert name.split(".")[1] in ALLOWED[layer] | {"checks"}, f"{layer} imports {name}"
    third = {name.split(".")[0] for name in _imports(path, module_level=False)}
    assert not third & FORBIDDEN.get(layer, set()), f"{layer} may not import {third & FORBIDDEN[layer]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_inside_functions(path):
    at_import = {name.split(".")[0] for name in _imports(path, module_level=True)}
    found = at_import & (HEAVY | ABSENT) - EXEMPT.get(str(path.relative_to(PACKAGE)), set())
    assert not found, f"imported with the module: {found}"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda p: p.name)
def test_configs_import_only_the_config(path):
    names = {name for name in _imports(path, module_level=False) if name.startswith("jaxseg")}
    assert names <= {"jaxseg.config", "jaxseg.config.default_config"}


def test_importing_jaxseg_is_light():
    code = "import sys, jaxseg; print(' '.join(m for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = {name.split(".")[0] for name in loaded}
    assert "jax" in packages
    heavy = packages & {"tensorflow", "torch", "grain", "orbax", "matplotlib", "tensorflow_datasets", "tensorboardX"}
    assert not heavy


def test_public_names_exist_and_are_documented():
    import jaxseg

    for name in jaxseg.__all__:
        thing = getattr(jaxseg, name)
        if callable(thing):
            assert inspect.getdoc(thing), f"jaxseg.{name} has no docstring"


def test_programs_are_thin():
    for name in ("train.py", "eval.py"):
        assert len((ROOT / name).read_text().splitlines()) <= 30
