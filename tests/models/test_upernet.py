"""What is particular to UPerNet."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.blocks.ppm import ppm
from jaxseg.models import create_model, init
from jaxseg.models.upernet import fuse_pyramid


def same(x):
    return x


def test_the_pyramid_is_fused_finest_first():
    levels = [jnp.ones((1, n, n, 1)) for n in (1, 2, 4)]
    y = fuse_pyramid(
        levels,
        context=lambda x: 100 * x,
        laterals=[lambda x: 10 * x, same],
        smooth=[lambda x: x + 1000, lambda x: x + 2000],  # after the way down, which they do not change
        fuse=same,
    )
    assert y.shape == (1, 4, 4, 3)
    np.testing.assert_allclose(y[0, 1, 2], [2111, 1110, 100], rtol=1e-6)


def test_pyramid_pooling_can_put_the_features_first():
    x = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    y = ppm(x, {1: same}, project=same, align_corners=False, x_first=True)
    np.testing.assert_allclose(y, jnp.concatenate([x, jnp.full_like(x, 2.5)], axis=-1), rtol=1e-6)


def test_every_level_but_c1_reaches_the_logits_by_itself():
    model = create_model(
        "upernet", "plain", num_classes=2, features=4, encoder_options={"widths": (4,) * 5, "convs": 1}
    )
    params = jax.eval_shape(lambda: init(model, jax.random.key(0)))["params"]["decoder"]
    assert {name for name in params if "_c" in name} == {
        *(f"norm_c{i}" for i in (2, 3, 4, 5)),
        *(f"{kind}_c{i}" for kind in ("lateral", "smooth") for i in (2, 3, 4)),
    }
    assert params["fuse"]["conv"]["kernel"].shape == (3, 3, 16, 4)
    assert params["context"]["conv"]["kernel"].shape == (3, 3, 4 + 4 * 4, 4)
