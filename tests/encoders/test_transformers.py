"""What is particular to ConvNeXt and Mix Transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.encoders import create_encoder
from jaxseg.encoders.convnext import patch_padding
from jaxseg.models import init
from jaxseg.ops.cpu.window import Window

SMALL = {"widths": (8, 16, 40, 32), "blocks": (2, 1, 1, 1)}
NAMES = ("convnext_tiny", "mit_b0")


@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize("kernel_size, stride, rate", [(4, 4, 1), (2, 2, 1), (2, 1, 1), (2, 1, 4)])
def test_patches_cover_the_image_from_its_corner(size, kernel_size, stride, rate):
    padding = patch_padding((size, 2 * size), kernel_size, stride, rate)
    window = Window((stride, stride), padding, (rate, rate))
    assert window.output_size((size, 2 * size), (kernel_size,) * 2) == (-(-size // stride), -(-2 * size // stride))
    if stride > 1:
        assert [before for before, _ in padding] == [0, 0]
        assert sum(after for _, after in padding) == -size % stride + -2 * size % stride


@pytest.mark.parametrize("name", NAMES)
def test_there_is_no_c1_and_depth_names_the_last_level(name):
    encoder = create_encoder(name, depth=3, **SMALL)
    levels = jax.eval_shape(
        lambda: encoder.init_with_output(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )[0]
    assert list(levels) == ["c2", "c3"]


@pytest.mark.parametrize("name", NAMES)
def test_drop_path_skips_branches_in_training_alone(name):
    encoder = create_encoder(name, depth=2, drop_path=0.9, **{**SMALL, "blocks": (2, 0, 0, 0)})
    images = jax.random.normal(jax.random.key(1), (1, 8, 12, 3))
    variables = init(encoder, jax.random.key(0))
    for block in variables["params"].values():
        if "layer_scale" in block:
            block["layer_scale"]["gamma"] = jnp.ones(8)

    @jax.jit
    def c2(seed):
        return encoder.apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)})["c2"]

    results = np.stack([c2(seed) for seed in range(24)])
    kept = len(np.unique(results.reshape(24, -1), axis=0))
    assert 1 < kept <= (2 if name == "convnext_tiny" else 4)  # a block of MiT has two branches
    np.testing.assert_array_equal(*(encoder.apply(variables, images, train=False)["c2"] for _ in range(2)))


def test_a_new_convnext_begins_near_the_identity():
    params = init(create_encoder("convnext_tiny", **SMALL), jax.random.key(0))["params"]
    block = params["stage4_block0"]
    np.testing.assert_allclose(block["layer_scale"]["gamma"], 1e-6)
    for name in ("depthwise", "expand", "project"):
        np.testing.assert_allclose(np.std(block[name]["kernel"]), 0.02, rtol=0.15)
        np.testing.assert_array_equal(block[name]["bias"], 0)


def test_a_new_mix_transformer_has_its_papers_spread():
    block = init(create_encoder("mit_b0", **SMALL), jax.random.key(0))["params"]["stage4_block0"]
    np.testing.assert_allclose(np.std(block["ffn"]["expand"]["kernel"]), 0.02, rtol=0.1)
    np.testing.assert_allclose(np.std(block["ffn"]["depthwise"]["kernel"]), np.sqrt(2 / 9), rtol=0.1)


def test_a_image_smaller_than_a_patch():
    encoder = create_encoder("mit_b0", **SMALL)
    images = jnp.ones((1, 3, 1, 3))
    levels = jax.jit(lambda v: encoder.apply(v, images, train=False))(init(encoder, jax.random.key(0)))
    assert all(np.isfinite(level).all() for level in levels.values())
