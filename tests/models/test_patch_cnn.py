"""The patch classifier of Cireşan et al., 2012, slid over an image, is its dense twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.bench.patch_speedup import patch_speedup, shared_work
from jaxseg.checks import UserError
from jaxseg.models import create_model, init
from jaxseg.models.patch_cnn import classify, slide

SMALL = {"num_classes": 3, "widths": (4, 6, 8), "kernel_sizes": (4, 3, 2), "positions": 2, "hidden": 16}


@pytest.mark.parametrize("size, options", [((9, 12), {}), ((1, 3), {"kernel_sizes": (3, 2, 3), "positions": 3})])
def test_sliding_is_dense_at_every_pixel(size, options):
    model = create_model("patch_cnn", **SMALL | options)
    variables = init(model, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (2, *size, 3))

    @jax.jit
    def both(images):
        return slide(model, variables, images), model.apply(variables, images, train=False)["logits"]

    sliding, dense = both.lower(images).compile()(images)
    assert sliding.shape == (2, *size, 3)
    np.testing.assert_allclose(sliding, dense, atol=1e-5 * np.abs(sliding).max())
    assert np.ptp(np.asarray(dense), axis=(1, 2)).min() > 1e-3


def test_sizes_and_parameters_of_the_paper():
    model = create_model("patch_cnn", num_classes=2)
    assert model.patch == 95
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)), train=False))
    kernels = {path[-2].key: leaf.shape for path, leaf in jax.tree.leaves_with_path(variables) if leaf.ndim == 4}
    # table 1, network N4: 48 maps each of 92, 42, 18 and 6 pixels, pooled to 46, 21, 9 and 3; 200 neurons; 2
    sizes, side = [], 95
    for layer in ("conv1", "conv2", "conv3", "conv4"):
        sizes.append(side - kernels[layer][0] + 1)
        side = sizes[-1] // 2
        assert kernels[layer][-1] == 48
    assert (sizes, side) == ([92, 42, 18, 6], 3)
    assert kernels["hidden"] == (3, 3, 48, 200)
    assert kernels["scores"] == (1, 1, 200, 2)
    patches = jax.ShapeDtypeStruct((5, 95, 95, 3), jnp.float32)
    assert jax.eval_shape(lambda v, x: classify(model, v, x), variables, patches).shape == (5, 2)


def test_the_saving_grows_with_the_image():
    model = create_model("patch_cnn", **SMALL)
    assert shared_work(model, (1, 1)) == pytest.approx(1, abs=0.7)
    assert shared_work(model, (8, 8)) < shared_work(model, (64, 64))


def test_the_speedup_is_measured():
    model = create_model("patch_cnn", **SMALL)
    figures = patch_speedup(model, init(model, jax.random.key(0)), jnp.ones((1, 16, 16, 3)), repeats=1)
    assert figures["difference"] < 1e-4
    assert figures["speedup"] == figures["sliding_s"] / figures["dense_s"]


def test_patches_of_another_size_are_refused():
    model = create_model("patch_cnn", **SMALL)
    with pytest.raises(UserError, match=f"{model.patch} x {model.patch} pixels, got patches"):
        classify(model, init(model, jax.random.key(0)), jnp.ones((1, 20, 20, 3)))
    with pytest.raises(UserError, match="one entry a layer"):
        init(create_model("patch_cnn", num_classes=2, widths=(4, 4)), jax.random.key(0))


def test_a_pixel_stands_in_the_middle_of_its_patch():
    model = create_model("patch_cnn", **SMALL)
    variables = init(model, jax.random.key(0))
    size = model.patch + 6
    images = jax.random.normal(jax.random.key(1), (1, size, size, 3))
    dense = model.apply(variables, images, train=False)["logits"]
    patch = images[:, 2 : 2 + model.patch, 5 : 5 + model.patch]
    middle = dense[:, 2 + model.patch // 2, 5 + model.patch // 2]
    np.testing.assert_allclose(classify(model, variables, patch), middle, atol=1e-5)
