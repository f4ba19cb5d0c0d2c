"""The rules of the house: who may import whom, what an import costs, what the public face is."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxseg"

# Every package and top-level module, from the ground up -> the layers that it stands on. It may import these and all
# that they stand on, in function bodies too, so that each can be read and tested without what lies above it.
BELOW = {
    "checks": (),
    "files": ("checks",),
    "variants": ("checks",),
    "ops": ("checks",),
    "metrics": ("ops",),
    "losses": ("ops",),
    "blocks": ("ops",),
    "encoders": ("blocks", "variants"),
    "models": ("encoders",),
    "data": ("ops", "files"),
    "config": ("data",),
    "visualize": ("metrics", "data"),
    "pretrained": ("models", "files", "data"),
    "nnx": ("pretrained",),
    "experiment": ("pretrained", "config", "data", "losses", "metrics"),
    "trained": ("experiment",),
    "inference": ("trained", "visualize"),
    "export": ("inference",),
    "evaluation": ("inference",),
    "training": ("evaluation",),
    "analysis": ("trained", "visualize", "inference"),
    "bench": ("training", "analysis", "export"),
    "serve": ("inference",),
    "cli": ("bench", "serve"),
    "__main__": ("cli",),
}
# The public face reaches everything, and only when it is asked for.
LAZY = {"__init__": "names the parts of jaxseg and imports each when it is first used"}
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
HEAVY |= {"nibabel", "pydicom", "rasterio", "starlette", "tifffile", "uvicorn", "flatbuffers", "onnx", "onnxruntime"}
ABSENT = {"tensorflow", "torch", "pickle"}
EXEMPT = {"pretrained/torch_file.py": {"pickle"}}  # docs/decisions.md: reads .pth through an allowlist


def _imports(path, *, module_level):
    """Yields the dotted names that a file imports, only where they run at import time if `module_level`."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if module_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":  # nothing of it ever runs
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                if child.module != "jaxseg":  # whose names are its parts
                    yield child.module
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


def _layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


SOURCES = sorted(PACKAGE.rglob("*.py"))


def _allowed(layer):
    """All layers below `layer`, however deep, and itself."""
    return {layer, "checks"}.union(*(_allowed(name) for name in BELOW[layer]))


def test_every_part_of_the_house_has_a_floor():
    parts = {_layer(path) for path in SOURCES}
    assert parts - set(LAZY) == set(BELOW), "name a new package or top-level module in BELOW, one that is gone no more"


def test_the_table_goes_from_the_ground_up():
    floors = list(BELOW)
    for i, layer in enumerate(floors):
        assert set(BELOW[layer]) <= set(floors[:i]), f"{layer} stands on what comes after it: a circle, or out of order"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    layer = _layer(path)
    if layer not in LAZY:
        for name in _imports(path, module_level=False):
            parts = name.split(".")
            if parts[0] == "jaxseg" and len(parts) > 1:
                assert parts[1] in _allowed(layer), f"{layer} imports {name}, which is above it or beside it"
            if name == "jaxseg":
                raise AssertionError(f"{layer} imports the public face: import the part that is meant")
    third = {name.split(".")[0] for name in _imports(path, module_level=False)}
    assert not third & FORBIDDEN.get(layer, set()), f"{layer} may not import {third & FORBIDDEN[layer]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_inside_functions(path):
    at_import = {name.split(".")[0] for name in _imports(path, module_level=True)}
    found = at_import & (HEAVY | ABSENT) - EXEMPT.get(str(path.relative_to(PACKAGE)), set())
    assert not found, f"imported with the module: {found}"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.py")), ids=lambda p: p.name)
def test_configs_import_only_the_config(path):
    names = {name for name in _imports(path, module_level=False) if name.startswith("jaxseg")}
    assert names <= {"jaxseg.config", "jaxseg.config.default_config"}


def test_importing_jaxseg_is_light():
    code = "import sys, jaxseg; print(' '.join(m for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    packages = {name.split(".")[0] for name in loaded}
    assert "jaxseg" in packages
    heavy = packages & {"tensorflow", "torch", "grain", "orbax", "matplotlib", "tensorflow_datasets", "tensorboardX"}
    assert not heavy


def test_every_public_name_is_reachable_after_importing_jaxseg_alone():
    """In a process of its own, where nothing else has imported the packages by accident."""
    import jaxseg

    code = "import jaxseg; print(' '.join(name for name in jaxseg.__all__ if getattr(jaxseg, name) is not None))"
    reached = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert reached == jaxseg.__all__


def test_public_names_are_documented():
    import jaxseg

    for package in [jaxseg, *(getattr(jaxseg, name) for name in jaxseg.__all__)]:
        if inspect.ismodule(package):
            text = inspect.getdoc(package) or ""
            assert len(text.split()) > 1, f"{package.__name__} does not say what is in it"
            for name in getattr(package, "__all__", ()):
                thing = getattr(package, name)
                if inspect.isclass(thing) or inspect.isfunction(thing):
                    assert inspect.getdoc(thing), f"{package.__name__}.{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error():
    import jaxseg

    with pytest.raises(AttributeError, match="no attribute 'unet'"):
        jaxseg.unet  # noqa: B018
    assert {"load", "create_model"} <= set(dir(jaxseg))


def test_programs_are_thin():
    for name in ("train.py", "eval.py"):
        assert len((ROOT / name).read_text().splitlines()) <= 30
