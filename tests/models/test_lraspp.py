"""LR-ASPP: its wiring, and the paper's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.models import create_model
from jaxseg.models.lraspp import lraspp


def test_lraspp_weighs_the_deep_features_by_the_whole_and_adds_two_scores():
    deep = jnp.arange(4.0).reshape(1, 2, 2, 1)  # average 1.5
    fine = jnp.full((1, 4, 4, 1), 100.0)
    y = lraspp(
        deep,
        fine,
        project=lambda x: 0 * x + 2,
        weigh=lambda x: x - 1.5,  # a weight of 1/2
        predict_deep=lambda x: 10 * x,
        predict_fine=lambda x: -x,
    )
    np.testing.assert_allclose(y, jnp.full((1, 4, 4, 1), 10 * 2 / 2 - 100), rtol=1e-6)


def shapes(image_size=(65, 97), **options):
    model = create_model("lraspp", num_classes=21, **options)
    images = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    return model, jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), images)


def test_with_21_classes_it_has_torchvisions_parameters():
    model, (outputs, variables) = shapes()
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 3_221_538
    assert outputs["logits"].shape == (1, 65, 97, 21)
    assert model.encoder.output_stride == 16  # the paper, section 6.4


def test_the_fine_level_is_a_choice():
    _, (_, coarse) = shapes()
    _, (_, fine) = shapes(fine_level="c2")
    kernels = [v["params"]["head"]["fine"]["kernel"].shape for v in (coarse, fine)]
    assert kernels == [(1, 1, 40, 21), (1, 1, 24, 21)]
    with pytest.raises(UserError, match="level of the encoder"):
        shapes(fine_level="c6")
