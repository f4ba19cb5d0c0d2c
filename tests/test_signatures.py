"""The shape of the public functions: what a user of one can rely on for all of them."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import jaxseg
from jaxseg import DATASETS, ENCODERS, LOSSES, MODELS
from jaxseg.metrics import METRICS
from jaxseg.models import architecture, create_model

DESCRIBED = {"losses.md": LOSSES, "metrics.md": METRICS, "data.md": DATASETS}  # models: tests/contracts/test_models.py
MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(jaxseg.__path__, "jaxseg.")
    if not info.name.endswith("__main__")
]
FUNCTIONS = sorted(
    {
        (f"{module.__name__}.{name}", thing)
        for module in MODULES
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__
        if not name.startswith("_") and "<locals>" not in thing.__qualname__
    },
    key=lambda pair: pair[0],
)


@pytest.mark.parametrize("name,function", FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_public_functions_are_documented_and_annotated(name, function):
    assert inspect.getdoc(function), f"{name} has no docstring"
    signature = inspect.signature(function)
    bare = [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.kind is not p.VAR_KEYWORD]
    assert not bare, f"{name} has no annotation for {bare}"


@pytest.mark.parametrize("name", LOSSES)
def test_losses_take_logits_and_labels_then_keywords_with_defaults(name):
    first, second, *rest = inspect.signature(LOSSES[name]).parameters.values()
    assert (first.name, second.name) == ("logits", "labels")
    assert rest[0].name == "where"
    assert rest[0].default is None
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in rest)


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_common_fields(name):
    parameters = inspect.signature(MODELS[name]).parameters
    assert {"num_classes", "dtype"} <= set(parameters)
    assert ("encoder" in parameters) == (architecture(name).default_encoder is not None)
    own = [p for n, p in parameters.items() if n not in ("encoder", "num_classes")]
    assert all(p.default is not p.empty for p in own), "every option of an architecture has a default"
    call = inspect.signature(type(create_model(name, num_classes=2)).__call__).parameters
    assert list(call)[1:] == ["image", "train"]
    assert call["train"].kind is inspect.Parameter.KEYWORD_ONLY, "the signature is (self, image, *, train: bool)"
    assert call["train"].default is inspect.Parameter.empty, "nobody trains, or forgets to, by default"


@pytest.mark.parametrize("page, name", [(page, name) for page, names in DESCRIBED.items() for name in names])
def test_entries_are_described_in_the_docs(page, name):
    lines = (Path(__file__).parent.parent / "docs" / page).read_text().splitlines()
    places = [line for line in lines if line.startswith(("| `", "### `")) and f"`{name}`" in line]
    assert places, f"docs/{page} has neither a row nor a heading of its own for `{name}`"


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_public(name):
    assert name in jaxseg.losses.__all__, "add it to __all__ of jaxseg/losses/__init__.py"
    assert getattr(jaxseg.losses, name) is LOSSES[name]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_have_the_common_fields(name):
    parameters = inspect.signature(ENCODERS[name]).parameters
    assert {"output_stride", "dtype"} <= set(parameters)
    assert all(p.default is not p.empty for p in parameters.values())


@pytest.mark.parametrize("name", DATASETS)
def test_datasets_take_a_root_and_keywords(name):
    for p in inspect.signature(DATASETS[name]).parameters.values():
        assert p.name == "root" or (p.kind is p.KEYWORD_ONLY and p.default is not p.empty)


@pytest.mark.parametrize(
    "function,expected",
    [
        (
            jaxseg.create_model,
            [
                "name",
                "encoder",
                "num_classes",
                "in_channels",
                "output_stride",
                "dtype",
                "head_dtype",
                "encoder_options",
                "options",
            ],
        ),
        (jaxseg.init, ["model", "key", "image_size", "in_channels"]),
        (jaxseg.create_dataset, ["name", "root", "label_offset", "label_ignore", "options"]),
        (jaxseg.metrics.confusion_matrix, ["predictions", "labels", "num_classes", "where"]),
        (jaxseg.losses.weighted_sum, ["outputs", "labels", "where", "terms", "heads", "options", "step"]),
    ],
)
def test_the_public_face_keeps_its_names(function, expected):
    assert list(inspect.signature(function).parameters) == expected
