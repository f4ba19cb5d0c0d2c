"""FCN against the figures of Long, Shelhamer & Darrell, 2015, arXiv:1411.4038, and torchvision's FCN's size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.models import create_model, init
from jaxseg.models.fcn import refine_scores, warm_start

SMALL = {"features": 16, "kernel_size": 3, "num_classes": 3}
WIDTHS = {"widths": (4, 6, 8, 12, 16), "convs": 1}
IMAGE = jax.random.normal(jax.random.key(0), (2, 64, 96, 3))


def small(name, **options):
    return create_model(name, "plain", encoder_options=WIDTHS, **SMALL, **options)


def parameters(name, encoder="", **options):
    model = create_model(name, encoder, num_classes=21, **options)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), jnp.zeros((1, 32, 32, 3)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])), shapes["params"]


def run(model, variables, images=IMAGE):
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False)["logits"])
    return apply(variables, images)


def test_parameters_of_the_paper():
    total, params = parameters("fcn32s")
    assert round(total / 1e6) == 134  # table 1, FCN-VGG16
    assert params["decoder"]["fc6"]["kernel"].shape == (7, 7, 512, 4096)
    _, params = parameters("fcn8s")
    assert params["head"]["score_c4"]["kernel"].shape == (1, 1, 512, 21)  # of pool4
    assert params["head"]["score_c3"]["kernel"].shape == (1, 1, 256, 21)  # of pool3
    assert params["head"]["enlarge_c3"]["kernel"].shape == (4, 4, 21, 21)


def test_parameters_of_torchvision():
    assert parameters("fcn", auxiliary=True)[0] == 35_322_218
    assert parameters("fcn", "resnet101", auxiliary=True)[0] == 54_314_346


def test_the_wiring_adds_each_levels_scores_to_the_enlarged_ones():
    scores, *skips = (jnp.full((1, 1, 1, 1), value) for value in (1.0, 10.0, 100.0))
    y = refine_scores(scores, skips, enlarge=[lambda s: 2 * s, lambda s: 3 * s], predict=[lambda x: x] * 2)
    assert y.item() == 3 * (2 + 10) + 100


class Levels(nn.Module):
    """An encoder whose levels are parameters, whatever the image."""

    output_stride: int = 32

    @nn.compact
    def __call__(self, image, *, train):
        def level(i):
            shape = (len(image), *(-(-n // 2**i) for n in image.shape[1:3]), 8)
            return self.param(f"c{i}", nn.initializers.normal(1.0), shape)

        return {f"c{i}": level(i) for i in range(1, 6)}


@pytest.mark.parametrize("name, figure", [("fcn32s", {"c5"}), ("fcn16s", {"c4", "c5"}), ("fcn8s", {"c3", "c4", "c5"})])
def test_the_levels_of_the_figure_reach_the_logits(name, figure):
    model = create_model(name, Levels(), **SMALL)
    variables = model.init(jax.random.key(0), IMAGE, train=False)
    params = jax.tree.map(lambda leaf: leaf + 0.1, variables["params"])  # the skips' scores start from zero

    def loss(params):
        return (model.apply({"params": params}, IMAGE, train=False)["logits"] ** 2).sum()

    gradients = jax.jit(jax.grad(loss))(params)["encoder"]
    assert {level for level, gradient in gradients.items() if np.abs(gradient).max() > 0} == figure


def test_vggs_skips_are_pooled_and_other_encoders_are_not():
    for encoder, expected in (("vgg11", (256, 512)), ("resnet18", (128, 256))):
        _, params = parameters("fcn8s", encoder, features=8)
        assert tuple(params["head"][f"score_{c}"]["kernel"].shape[2] for c in ("c3", "c4")) == expected
    _, params = parameters("fcn8s", "vgg11", features=8, pooled_skips=False)
    assert params["head"]["score_c3"]["kernel"].shape[2] == 512  # c3 is conv4's


def test_warm_start_begins_where_the_coarser_network_ended():
    images = jax.random.normal(jax.random.key(0), (1, 256, 256, 3))
    models = [small(name) for name in ("fcn32s", "fcn16s", "fcn8s")]
    variables = init(models[0], jax.random.key(1))
    before = run(models[0], variables, images)
    for seed, model in enumerate(models[1:], start=2):
        fresh = init(model, jax.random.key(seed))
        variables = warm_start(variables, fresh)
        after = run(model, variables, images)
        inside = np.s_[:, 64:-64, 64:-64]  # the transposed convolutions fade at the border
        scale = np.abs(before[inside]).max()
        # two bilinear steps are not quite one
        assert np.abs(after[inside] - before[inside]).max() < 0.2 * scale < np.abs(run(model, fresh, images)).max()
        before = after
    assert not np.abs(variables["params"]["head"]["score_c3"]["kernel"]).any()


def test_warm_start_refuses_what_does_not_fit():
    coarse = init(small("fcn32s"), jax.random.key(0))
    other = create_model("fcn16s", "plain", encoder_options=WIDTHS, **{**SMALL, "num_classes": 4})
    with pytest.raises(UserError, match="score_c5"):
        warm_start(coarse, init(other, jax.random.key(0)))
    fine = init(small("fcn16s"), jax.random.key(0))
    with pytest.raises(UserError, match="enlarge_c4"):
        warm_start(fine, coarse)


def test_the_last_step_is_bilinear():
    model = small("fcn32s")
    logits = run(model, init(model, jax.random.key(0)))
    step = np.diff(logits, axis=2)
    for start in (16, 48):  # between the centers of the coarse pixels, at 15.5, 47.5 and 79.5
        np.testing.assert_allclose(
            step[:, :, start : start + 31], step[:, :, start : start + 1] + 0 * step[:, :, :31], atol=1e-5
        )
    np.testing.assert_array_equal(logits[:, :, :15], logits[:, :, 1:16])


def test_an_unknown_stride_is_refused():
    with pytest.raises(UserError, match="32, 16, 8, got 4"):
        init(small("fcn8s", finest=4), jax.random.key(0))


def test_a_warm_start_takes_the_statistics_too():
    def variables(value, *skips):
        head = {name: {"kernel": np.full(2, value)} for name in ("score_c5", *skips)}
        return {"params": {"head": head}, "batch_stats": {"encoder": {"mean": np.full(3, value)}}}

    started = warm_start(variables(1.0), variables(0.0, "score_c4"))
    np.testing.assert_array_equal(started["batch_stats"]["encoder"]["mean"], np.ones(3))
    assert [started["params"]["head"][name]["kernel"][0] for name in ("score_c5", "score_c4")] == [1.0, 0.0]
