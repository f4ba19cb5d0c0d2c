"""Resizing against a pixel-by-pixel rendering of its definition; tests/parity compares with PyTorch itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops.resize import bilinear_matrix, repeat, resize, resize_like

SIZES = [((4, 5), (9, 5)), ((6, 8), (12, 24)), ((7, 9), (3, 4)), ((1, 3), (4, 1)), ((5, 5), (1, 1))]


def pixel(line, position):
    before = min(int(position), len(line) - 1)
    after = min(before + 1, len(line) - 1)
    return line[before] + (position - before) * (line[after] - line[before])


def resize_line(line, new, align_corners):
    old = len(line)
    if align_corners:
        positions = [i * (old - 1) / (new - 1) if new > 1 else 0.0 for i in range(new)]
    else:
        positions = [max((i + 0.5) * old / new - 0.5, 0.0) for i in range(new)]
    return np.array([pixel(line, position) for position in positions])


def reference(x, size, align_corners):
    for axis, new in zip((1, 2), size, strict=True):
        x = np.apply_along_axis(resize_line, axis, x, new, align_corners)
    return x


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("old, new", SIZES)
def test_bilinear_is_its_definition(old, new, align_corners):
    x = np.random.default_rng(0).normal(size=(2, *old, 3))
    resized = resize(jnp.asarray(x, jnp.float32), new, align_corners=align_corners)
    np.testing.assert_allclose(resized, reference(x, new, align_corners), atol=1e-6)


@pytest.mark.parametrize("old, new", SIZES)
def test_nearest_takes_the_pixel_at_the_rounded_down_position(old, new):
    x = np.random.default_rng(0).normal(size=(2, *old, 3)).astype(np.float32)
    rows, columns = ([i * o // n for i in range(n)] for o, n in zip(old, new, strict=True))
    np.testing.assert_array_equal(resize(jnp.asarray(x), new, "nearest"), x[:, rows][:, :, columns])


def test_repetition_has_a_plain_sum_for_a_gradient():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    program = str(jax.make_jaxpr(jax.grad(lambda x: (repeat(x, 2, 2) ** 2).sum()))(x))
    assert "scatter" not in program
    assert "reduce_sum" in program
    np.testing.assert_array_equal(jax.grad(lambda x: repeat(x, 2, 3).sum())(x), jnp.full_like(x, 6))


@pytest.mark.parametrize("align_corners", [False, True])
def test_no_gather_and_no_scatter(align_corners):
    def loss(x):
        return (resize(x, (5, 7), align_corners=align_corners) ** 2).sum()

    program = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones((1, 4, 4, 2))))
    assert "gather" not in program
    assert "scatter" not in program


@pytest.mark.parametrize("align_corners", [False, True])
def test_bfloat16_keeps_constants_and_stays_near_float32(align_corners):
    constant = jnp.full((1, 5, 7, 2), 3.140625, jnp.bfloat16)  # a bfloat16 number
    np.testing.assert_array_equal(resize(constant, (16, 11), align_corners=align_corners), constant[0, 0, 0, 0])
    x = jax.random.normal(jax.random.key(0), (1, 5, 7, 2))
    exact = resize(x, (16, 11), align_corners=align_corners)
    rounded = resize(x.astype(jnp.bfloat16), (16, 11), align_corners=align_corners)
    assert rounded.dtype == jnp.bfloat16
    assert np.abs(exact - rounded.astype(jnp.float32)).max() < 0.03  # 2^-8, twice rounded, of values of up to 3


def test_float32_keeps_its_digits_on_every_platform():
    """An H100's tensor cores keep them in three products; its default, TF32, has ten bits."""
    program = jax.jit(lambda x: resize(x, (9, 5))).trace(jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32))
    for platform, says, never in (
        ("cuda", "num_primitive_operations = 3", "HIGHEST"),
        ("cpu", "[HIGHEST, HIGHEST]", "tf32"),
    ):
        text = program.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.dot_general") == text.count(says) == 2
        assert never not in text


def test_the_same_size_is_the_same_array():
    x = jnp.ones((1, 3, 4, 2))
    assert resize(x, (3, 4)) is x
    assert resize_like(x, jnp.ones((1, 3, 4, 9))) is x


def test_matrices_sum_to_one():
    for align_corners in (False, True):
        np.testing.assert_allclose(bilinear_matrix(7, 19, align_corners).sum(1), 1, rtol=1e-6)


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="Did you mean 'bilinear'"):
        resize(jnp.ones((1, 2, 2, 1)), (3, 3), "bilinaer")
