"""The original U-Net against fig. 1 of Ronneberger, Fischer & Brox, 2015, arXiv:1505.04597."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models import create_model, init
from jaxseg.models.unet_original import UDecoder, unet_wiring
from jaxseg.ops.mirror import mirror

# after each block, as the figure writes them
SIZES = {"down1": 568, "down2": 280, "down3": 136, "down4": 64, "down5": 28}
SIZES |= {"enlarge4": 56, "up4": 52, "enlarge3": 104, "up3": 100, "enlarge2": 200, "up2": 196, "enlarge1": 392}
SIZES |= {"up1": 388}
WIDTHS = (4, 6, 8)


def test_parameters_and_sizes_of_the_figure():
    model = create_model("unet_original", num_classes=2)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 388, 388, 3)), train=False),
    )
    assert round(sum(leaf.size for leaf in jax.tree.leaves(variables)) / 1e6, 2) == 31.03

    def intermediates(variables):
        tile = jnp.zeros((1, 572, 572, 3))
        apply = UDecoder().apply
        return apply({"params": variables["params"]["decoder"]}, tile, train=False, capture_intermediates=True)

    features, state = jax.eval_shape(intermediates, variables)
    assert features.shape == (1, 388, 388, 64)
    found = {name: value["__call__"][0].shape for name, value in state["intermediates"].items() if name in SIZES}
    assert {name: shape[1] for name, shape in found.items()} == SIZES
    channels = {name: shape[-1] for name, shape in found.items()}
    assert [channels[f"down{i}"] for i in range(1, 6)] == [64, 128, 256, 512, 1024]
    assert [channels[f"{name}{i}"] for i in (4, 3, 2, 1) for name in ("enlarge", "up")] == [
        *(512, 512, 256, 256, 128, 128, 64, 64)
    ]


def test_the_wiring_keeps_what_was_seen_and_crops_it():
    x = jnp.arange(64.0).reshape(1, 8, 8, 1)
    y = unet_wiring(
        x, [lambda x: x], lambda x: x[:, 1:3, 1:3], [lambda x: 0 * jnp.repeat(x.repeat(2, 1), 2, 2)], [lambda x: x]
    )
    np.testing.assert_array_equal(y[..., 0], x[:, 2:6, 2:6, 0])
    assert y.shape == (1, 4, 4, 2) and not y[..., 1].any()


def test_every_skip_reaches_the_logits():
    model = create_model("unet_original", num_classes=2, widths=WIDTHS)
    variables = init(model, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (1, 8, 8, 3))

    @jax.jit
    def gradients(params):
        loss = lambda params: (model.apply({"params": params}, images, train=False)["logits"] ** 2).sum()  # noqa: E731
        return jax.grad(loss)(params)["decoder"]

    for level in (1, 2):  # blind to all that is deeper, only the skip is left
        params = jax.tree.map(jnp.copy, variables["params"])
        params["decoder"][f"enlarge{level}"]["kernel"] *= 0
        down = {name: gradient for name, gradient in gradients(params).items() if name.startswith("down")}
        reached = {name for name, gradient in down.items() if np.abs(gradient["conv1"]["kernel"]).max() > 0}
        assert reached == {f"down{i}" for i in range(1, level + 1)}


@pytest.mark.parametrize("size", [(16, 24), (21, 10)])
def test_a_image_is_labeled_seamlessly_tile_by_tile(size):
    model = create_model("unet_original", num_classes=2, widths=WIDTHS)
    variables = init(model, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (1, *size, 3))
    apply = jax.jit(lambda x: model.apply(variables, x, train=False)["logits"])
    whole = apply(images)
    assert whole.shape == (1, *size, 2)
    # labels of 4 x 4 pixels see 44 x 44; a step of 4 keeps the poolings in phase
    extended = mirror(images, (20, 20), (size[0] + 60, size[1] + 60))
    decoder = UDecoder(WIDTHS, 0.0)
    params = variables["params"]
    for top, left in ((0, 0), (4, 8), (12, 4)):
        tile = extended[:, top : top + 44, left : left + 44]
        features = decoder.apply({"params": params["decoder"]}, tile, train=False)
        logits = features @ params["head"]["kernel"][0, 0] + params["head"]["bias"]
        expected = whole[:, top : top + 4, left : left + 4]
        np.testing.assert_allclose(logits[:, : expected.shape[1], : expected.shape[2]], expected, atol=1e-5)


def test_mirroring_is_numpys_reflection():
    x = jax.random.normal(jax.random.key(0), (1, 3, 5, 2))
    expected = np.pad(x, ((0, 0), (7, 2), (1, 9), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(mirror(x, (7, 1), (12, 15)), expected)
