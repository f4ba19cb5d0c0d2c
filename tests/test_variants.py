"""Variants stand for the class that they make, with some of its fields set."""

import copy
import inspect
import pickle

import pytest

from jaxseg import ENCODERS, MODELS
from jaxseg.variants import Variant, defaults


def test_a_variant_answers_for_its_class_and_its_own_fields():
    entry = ENCODERS["resnet50"]
    assert entry.pixel_mean == entry.make.pixel_mean
    assert entry.blocks == (3, 4, 6, 3) != entry.make.blocks
    assert entry().blocks == (3, 4, 6, 3)
    assert entry(blocks=(1, 1, 1, 1)).blocks == (1, 1, 1, 1)
    assert Variant(complex, imag=1)(2) == 2 + 1j
    assert inspect.getdoc(entry) == inspect.getdoc(entry.make)
    assert defaults(entry)["blocks"] == (3, 4, 6, 3)
    assert "blocks" in inspect.signature(entry).parameters
    assert not hasattr(entry, "pixel_mode")
    assert MODELS["fcn32s"].default_encoder == "vgg16"


def test_variants_are_compared_hashed_and_copied_by_what_they_hold():
    one, same, other = (Variant(complex, imag=i) for i in (1, 1, 2))
    assert one == same != other
    assert len({one, same, other}) == 2
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError, match="make another"):
        one.imag = 3
