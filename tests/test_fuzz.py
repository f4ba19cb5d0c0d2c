"""A few broken files for every loader; `python tests/fuzz.py --files 20000` makes many."""

import pytest

from jaxseg.data import readers
from tests.fuzz import LOADERS, fuzz

COUNTS = {"run": 4, "checkpoint": 4, "bundle": 10, "smp": 10}


@pytest.mark.parametrize("name", LOADERS)
def test_broken_files_are_refused_in_a_sentence(name):
    outcomes, findings = fuzz(name, COUNTS.get(name, 40), seed=0)
    assert not findings
    assert outcomes["refused"] + outcomes["read"] == COUNTS.get(name, 40)
    assert outcomes["refused"] or name in ("images and labels", "metrics.jsonl")  # of which what is whole is read


def test_what_breaks_is_found(monkeypatch):
    def careless(path):
        return bytes(2**31) if path.suffix == ".png" else 1 / 0

    monkeypatch.setattr(readers, "pages", careless)
    findings = "\n".join(fuzz("images and labels", 12, seed=0)[1])
    assert "ZeroDivisionError" in findings and "MemoryError" in findings
