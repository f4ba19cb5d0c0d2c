"""Every operation of `jaxseg bench --ops` can be made, its ways agree, and a way that fails does not end the rest."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.bench.ops_convolutions import CONVOLUTIONS
from jaxseg.bench.ops_others import OTHERS
from jaxseg.bench.ways import Comparison, Scale, compare, markdown
from jaxseg.cli.program import call

TINY = Scale(1, 8, jnp.float32)


@pytest.mark.parametrize("name", [*CONVOLUTIONS, *OTHERS])
def test_the_ways_of_an_operation_have_one_result(name):
    """Shapes of results and gradients, without computing any."""
    for comparison in {**CONVOLUTIONS, **OTHERS}[name](TINY):
        shapes = jax.eval_shape(comparison.arguments)
        found = set()
        for way, f in comparison.ways.items():
            if "cuDNN" not in way:  # which refuses what it cannot do when it is traced
                y = jax.eval_shape(f, *shapes)
                found.add((y.shape, y.dtype))
        assert len(found) == 1
        assert len(comparison.axes) in (0, len(shapes))


def test_a_way_that_fails_has_a_row(capsys):
    def refuse(x):
        raise ValueError("not here")

    seen = []
    arguments = (jnp.arange(4.0),)
    ways = {"first": lambda x: x * 2, "wrong": refuse, "other": lambda x: x * 3}
    comparison = Comparison("twice", ways, lambda: arguments)
    rows = list(compare(comparison, begin=seen.append))
    assert seen == ["first", "wrong", "other"]
    assert rows[1] == {"case": "twice", "way": "wrong", "error": "ValueError: not here"}
    assert rows[2]["agrees"] == pytest.approx(0.5)
    assert rows[0]["ms"] > 0 and "agrees" not in rows[0]
    assert [row["way"] for row in compare(comparison, skip=2)] == ["other"]
    table = markdown(rows)
    assert "| twice | wrong | ValueError: not here |" in table and "| twice | first |" in table


def test_rows_of_an_operation_by_the_program(tmp_path, capsys):
    assert call("bench", "--ops", "--only", "max_pool", "--batch", "1", "--out", str(tmp_path)) == 0
    rows = (tmp_path / "ops.jsonl").read_text().splitlines()
    assert len(rows) >= 2  # jaxseg's way and XLA's, and torch's where it is installed
    assert "| max pooling 3 x 3, stride 2, 1 x 32² x 64 | jaxseg |" in (tmp_path / "ops.md").read_text()
    for line in (tmp_path / "ops.md").read_text().splitlines():
        agrees = line.split("|")[5].strip() if line.startswith("| max") else ""
        assert not agrees or float(agrees) < 1e-5
