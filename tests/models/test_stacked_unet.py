"""Stacked U-Nets (Shah et al., 2018, arXiv:1804.10343) and CU-Net (Tang et al., 2018, arXiv:1808.06521)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.small_unet import NormActTranspose, small_unet
from jaxseg.checks import UserError
from jaxseg.models import create_model, init
from jaxseg.models.cunet import couple, hourglass
from jaxseg.models.stacked_unet import VARIANTS

STACKED = {"num_classes": 2, "features": 4, "stem_features": 4, "widths": (8, 12, 12, 16), "counts": (1, 1, 2, 1)}
CUNET = {"num_classes": 2, "features": 8, "growth": 4}
X = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)


def shapes(name, size=(64, 64), **options):
    model = create_model(name, **options)

    def run():
        return model.init_with_output(
            jax.random.key(0), jnp.zeros((1, *size, 3)), train=False, capture_intermediates=True
        )

    outputs, variables = jax.eval_shape(run)
    intermediates = {}
    for path, leaf in jax.tree.leaves_with_path(variables["intermediates"]):
        intermediates.setdefault("/".join(key.key for key in path if hasattr(key, "key")), leaf.shape)
    return variables["params"], outputs, {path.removesuffix("/__call__"): s for path, s in intermediates.items()}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameters_of_sunet():
    counts = [count(shapes(name, num_classes=1000)[0]) for name in VARIANTS]
    # the layers of the authors' code (github.com/shahsohil/sunets), with ImageNet's classifier, added up
    assert counts == [6_910_248, 24_704_360, 39_113_832]


def test_sizes_of_sunet_and_of_its_dilated_form():
    for finest, sides in ((32, (56, 28, 14, 7)), (16, (56, 28, 14, 14)), (8, (56, 28, 28, 28))):
        params, _, outputs = shapes("stacked_unet", (224, 224), num_classes=2, finest=finest)
        last = [f"encoder/stack{n}_unet{i}" for n, i in ((1, 1), (2, 3), (3, 3), (4, 0))]
        assert [outputs[path][1:3] for path in last] == [(side, side) for side in sides]
        assert [outputs[path][3] for path in last] == [256, 512, 768, 1024]
        assert outputs["encoder/stem"][1:] == (112, 112, 64)
        assert count(params) == count(shapes("stacked_unet", num_classes=2)[0])


def test_the_small_unets_wiring():
    seen = []
    y = small_unet(
        X,
        reduce=lambda x: 10 * x,
        down=[lambda x: x[:, ::2, ::2], lambda x: x[:, ::2, ::2]],
        up=[lambda x, size: seen.append(size) or jnp.repeat(x.repeat(2, 1), 2, 2)] * 2,
        expand=lambda x: x.sum(-1, keepdims=True),
        shortcut=lambda x: -x,
    )
    assert seen == [(2, 2), (4, 4)]
    expected = 10.0 + 10 * np.repeat(np.repeat(X[0, ::2, ::2, 0], 2, 0), 2, 1) - X[0, :, :, 0]
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_a_dilated_transposed_convolution_is_the_strided_one_between_its_positions():
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 3))
    strided, dilated = NormActTranspose(4), NormActTranspose(4, dilation=2)
    y, variables = strided.init_with_output(jax.random.key(1), x, (10, 12), train=False)
    spread = jnp.zeros((1, 10, 12, 3)).at[:, ::2, ::2].set(x)
    # the strided one, of an input with zeros between, is the undilated one of the same kernel
    undilated = NormActTranspose(4, dilation=1).apply(variables, spread, (10, 12), train=False)
    np.testing.assert_allclose(y, undilated, atol=1e-5)
    spread = jnp.zeros((1, 10, 12, 3)).at[:, 1::2, 1::2].set(x)
    apart = dilated.apply(variables, spread, (10, 12), train=False)[:, 1::2, 1::2]
    together = NormActTranspose(4, dilation=1).apply(variables, x, (5, 6), train=False)
    np.testing.assert_allclose(apart, together, atol=1e-5)


def test_one_block_of_cunet_sees_the_same_block_of_earlier_unets():
    memory, known = [], []
    for step in range(4):
        results = couple(
            jnp.full((1, 1, 1, 1), float(step)),
            memory,
            find=lambda x: known.append(x.ravel().tolist()) or 10 * x[..., :1] + 1,
            adapt=[lambda x: x, lambda x: -x],
            order=2,
        )
    assert known == [[0.0], [1.0, 1.0], [2.0, 1.0, 11.0], [3.0, 11.0, 21.0]]
    assert results[0].ravel().tolist() == [3.0, 11.0, 21.0, 31.0]
    assert (results[1] == -results[0]).all()
    assert [float(m.item()) for m in memory] == [21.0, 31.0]


def test_the_hourglass_keeps_every_skip():
    y = hourglass(X, [lambda x: (x, -x)] * 2, lambda x: 100 * x, [lambda x: x] * 2)
    assert y.shape == (1, 4, 4, 3)
    np.testing.assert_array_equal(y[0, 0, 0], [1600, -6, -1])


def test_cunets_parameters_and_stages():
    params, outputs, features = shapes("cunet", (256, 256), num_classes=16, units=8)
    # the layers of the authors' code (github.com/zhiqiangdon/CU-Net), added up, and a bias for each score
    assert count(params) == 10_281_344 + 8 * 16
    assert set(outputs) == {"logits", *(f"stage{i}" for i in range(1, 8))}
    assert features["encoder"] == (1, 128, 128, 128)
    assert features["decoder/unit1_down1_skip"] == (1, 64, 64, 128)
    assert features["decoder/unit3_neck_dense"] == (1, 4, 4, 32)
    assert features["decoder/unit8_up1_ahead"] == (1, 64, 64, 128)
    widths = [params["decoder"][f"unit{i}_down2_dense"]["reduce"]["conv"]["kernel"].shape[2] for i in (1, 2, 8)]
    assert widths == [128, 128 + 32, 128 + 7 * 32]  # features of all earlier U-Nets
    widths = [params["decoder"][f"unit{i}_up2_dense"]["reduce"]["conv"]["kernel"].shape[2] for i in (1, 2)]
    assert widths == [2 * 128, 2 * 128 + 32]


def test_order_trims_the_coupling():
    sizes = [count(shapes("cunet", **CUNET, units=4, order=order)[0]) for order in (0, 1, 2, 3)]
    assert sizes == sorted(set(sizes))
    with pytest.raises(UserError, match="0 to 3 earlier ones, got order 4"):
        shapes("cunet", **CUNET, units=4, order=4)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_coupling_reaches_the_logits_past_the_next_unet(order):
    """With all that leads from one U-Net into the next one's input cut, only the coupling is left."""
    model = create_model("cunet", **CUNET, units=3, order=order)
    variables = init(model, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (1, 64, 64, 3))
    params = variables["params"]

    @jax.jit
    def logits(params):
        return model.apply({**variables, "params": params}, images, train=False)["logits"]

    def changed(params, unit):
        params = jax.tree.map(lambda leaf: leaf, params)
        norm = params["decoder"][f"unit{unit}_up2_dense"]["find"]["norm"]
        norm["bias"] = norm["bias"] + 1.0
        return params

    cut = jax.tree.map(lambda leaf: leaf, params)
    for unit in (2, 3):
        conv = cut["decoder"][f"unit{unit}_input"]["conv"]
        conv["kernel"] = jnp.zeros_like(conv["kernel"])
    before = logits(cut)
    reached = {unit for unit in (1, 2) if np.abs(logits(changed(cut, unit)) - before).max() > 0}
    assert reached == (set() if order == 0 else {1, 2})  # by way of the second one, if order is 1


def test_mistakes():
    with pytest.raises(UserError, match="finest is 4, 8, 16 or 32, got 5"):
        init(create_model("stacked_unet", **{**STACKED, "finest": 5}), jax.random.key(0))
