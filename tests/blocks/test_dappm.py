"""DAPPM as a pure function: wired with lambdas, no framework."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.dappm import dappm


def same(x):
    return x


def test_every_view_is_made_of_its_scale_and_of_the_view_before():
    x, seen = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1), {}

    def note(name, factor):
        def scale(pooled):
            seen[name] = pooled
            return factor + 0 * pooled

        return scale

    y = dappm(
        x,
        point=lambda x: 0 * x + 1000,
        scales={2: note(2, 1.0), None: note(None, 10.0)},
        process=[lambda x: 2 * x, lambda x: 3 * x],
        project=same,
        shortcut=lambda x: -x,
    )
    assert [seen[2].shape, seen[None].shape] == [(1, 2, 2, 1), (1, 1, 1, 1)]
    assert seen[None].item() == 8.5
    first = x[0, :3, :3].sum() / 25  # a window of 5 x 5 pixels around the first, of which the rest are zeros
    np.testing.assert_allclose(seen[2][0, 0, 0, 0], first, rtol=1e-6)
    views = [1000, 2 * (1 + 1000), 3 * (10 + 2002)]
    np.testing.assert_allclose(y, jnp.full((1, 4, 4, 3), jnp.array(views, jnp.float32)) - x, rtol=1e-6)


def test_scales_are_enlarged_with_the_corners_of_the_image_in_place():
    x = jnp.arange(4.0).reshape(1, 1, 4, 1)
    y = dappm(
        x, lambda x: 0 * x, {2: lambda pooled: jnp.array([0.0, 4]).reshape(1, 1, 2, 1)}, [same], same, lambda x: 0 * x
    )
    assert y[0, 0, :, 1].tolist() == [0, 1, 3, 4]


def test_there_is_a_function_for_every_scale():
    with pytest.raises(ValueError, match="shorter"):
        dappm(jnp.ones((1, 2, 2, 1)), same, {2: same, 4: same}, [same], same, same)
