"""The figures as pure functions: wired with lambdas, no framework."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.blocks.aspp import aspp, aspp_sum
from jaxseg.blocks.attention import scse, squeeze_excite
from jaxseg.blocks.bifpn import bifpn, fast_fusion
from jaxseg.blocks.ppm import ppm
from jaxseg.blocks.pyramid import bottom_up, merge, top_down
from jaxseg.blocks.scale_attention import scale_attention
from jaxseg.blocks.separable import separable
from jaxseg.blocks.unet import climb
from jaxseg.models.deeplabv3 import cascade, refine

X = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)


def same(x):
    return x


def test_aspp_concatenates_every_view_and_the_whole():
    y = aspp(X, branches=[same, lambda x: 2 * x], image=lambda x: 10 * x, project=same)
    np.testing.assert_array_equal(y, jnp.concatenate([X, 2 * X, jnp.full_like(X, 85.0)], axis=-1))


def test_aspp_sum_adds_the_scores_of_every_branch():
    np.testing.assert_array_equal(aspp_sum(X, [same, lambda x: 10 * x, lambda x: x * 0 + 1]), 11 * X + 1)
    assert aspp_sum(X, [same]) is X


def test_cascade_runs_its_blocks_in_order():
    np.testing.assert_array_equal(cascade(X, [lambda x: x + 1, lambda x: 2 * x]), 2 * (X + 1))


def test_scale_attention_averages_by_the_softmax_of_what_it_reads():
    features = [jnp.ones((1, 2, 2, 1)), jnp.full((1, 1, 1, 1), 3.0)]  # meet at the first one's size
    read = []

    def attend(x):
        read.append(x)
        return jnp.log(x)

    merged, weights = scale_attention([X, 5 * X], features, attend)
    np.testing.assert_array_equal(read[0], jnp.broadcast_to(jnp.array([1.0, 3.0]), (1, 2, 2, 2)))
    np.testing.assert_allclose(weights, jnp.broadcast_to(jnp.array([0.25, 0.75]), (1, 4, 4, 2)), rtol=1e-5)
    np.testing.assert_allclose(merged, 4 * X, rtol=1e-5)


def test_ppm_puts_the_enlarged_averages_before_the_features():
    y = ppm(X, {1: same, 4: lambda x: -x}, project=same)
    np.testing.assert_allclose(y, jnp.concatenate([jnp.full_like(X, 8.5), -X, X], axis=-1), rtol=1e-6)
    seen = []
    ppm(X, {2: lambda x: seen.append(x) or x}, project=same)
    np.testing.assert_allclose(seen[0].ravel(), [3.5, 5.5, 11.5, 13.5])


def test_separable_filters_before_it_mixes():
    y = separable(X, depthwise=lambda x: x + 1, pointwise=lambda x: 3 * x)
    np.testing.assert_array_equal(y, 3 * (X + 1))


def test_squeeze_excite_scales_by_the_squeezed_average():
    y = squeeze_excite(X, squeeze=lambda x: x - 8.0, excite=lambda x: 2 * x)
    np.testing.assert_allclose(y, X * jax.nn.sigmoid(1.0), rtol=1e-6)
    np.testing.assert_allclose(squeeze_excite(X, lambda x: x - 9.0, same), X / 2, rtol=1e-6)  # relu before excite


def test_scse_adds_the_two_recalibrations():
    y = scse(X, channel=lambda x: 5 * x, spatial=lambda x: 0 * x)
    np.testing.assert_array_equal(y, 5.5 * X)


def test_unet_climbs_through_the_skips():
    skips = [jnp.full((1, 2, 2, 1), 10.0), None]
    shapes = []

    def block(x, skip):
        shapes.append(x.shape[1:3])
        return x if skip is None else x + skip

    def upsample(x, size):
        return jnp.broadcast_to(x.mean((1, 2), keepdims=True), (1, *size, 1))

    y = climb(jnp.ones((1, 1, 1, 1)), skips, [(2, 2), (5, 3)], [upsample, upsample], [block, block])
    assert shapes == [(2, 2), (5, 3)]
    np.testing.assert_array_equal(y, jnp.full((1, 5, 3, 1), 11.0))


def test_fpn_hands_down_and_merges():
    levels = [jnp.ones((1, n, n, 1)) for n in (1, 2, 3)]  # coarse to fine, not all by factors of 2
    pyramid = top_down(levels, [lambda x: 100 * x, lambda x: 10 * x, same])
    assert [p.max().item() for p in pyramid] == [100, 110, 111]
    assert [p.shape for p in pyramid] == [level.shape for level in levels]
    sizes = []

    def layer(x):
        sizes.append(x.shape[1])
        return 2 * x

    y = merge(pyramid, [[layer, layer], [layer], [layer]])
    assert sizes == [1, 2, 2, 3]
    np.testing.assert_allclose(y, jnp.full((1, 3, 3, 1), 400.0 + 220 + 222), rtol=1e-6)


def test_panet_hands_back_up_from_the_finest_level():
    pyramid = [jnp.full((1, n, n, 1), value) for n, value in ((1, 100.0), (2, 10.0), (3, 1.0))]
    seen = []

    def shrink(x):
        seen.append(x.max().item())
        return x[:, :-1, :-1]

    climbed = bottom_up(pyramid, reduce=[shrink, shrink], fuse=[lambda x: 2 * x, lambda x: 3 * x])
    assert [level.shape for level in climbed] == [level.shape for level in pyramid]
    assert [level.max().item() for level in climbed] == [3 * (22 + 100), 2 * (1 + 10), 1]
    assert seen == [1, 22]


def test_fast_fusion_is_a_mean_by_learned_weights_that_cannot_be_negative():
    y = fast_fusion([X, 3 * X, 100 * X], jnp.array([1.0, 1.0, -5.0]), epsilon=0.0)
    np.testing.assert_allclose(y, 2 * X, rtol=1e-6)
    np.testing.assert_allclose(fast_fusion([X], jnp.array([1.0]), epsilon=1.0), X / 2, rtol=1e-6)


def test_bifpn_goes_down_and_back_up():
    """Fig. 2 d, with nodes that add: a level in the middle sees itself twice, once by way of the path down."""
    levels = [jnp.full((1, n, n, 1), value) for n, value in ((1, 100.0), (2, 10.0), (4, 1.0))]  # coarse to fine
    count = []

    def node(inputs):
        count.append(len(inputs))
        return sum(inputs)

    down = bifpn(levels, down=[node, node], up=())
    assert [level.max().item() for level in down] == [100, 110, 111]
    assert count == [2, 2]
    count.clear()
    both = bifpn(levels, down=[node, node], up=[node, node])
    assert [level.max().item() for level in both] == [100 + (10 + 110 + 111), 10 + 110 + 111, 111]
    assert count == [2, 2, 3, 2]
    assert [level.shape for level in both] == [level.shape for level in levels]


def test_deeplab_refines_with_the_reduced_details():
    context = jnp.array([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 2, 2, 1)
    y = refine(context, jnp.ones((1, 3, 3, 4)), reduce=lambda x: x[..., :1], fuse=same)
    np.testing.assert_allclose(y[0, :, :, 0], [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]])  # corners kept
    np.testing.assert_array_equal(y[..., 1:], jnp.ones((1, 3, 3, 1)))
