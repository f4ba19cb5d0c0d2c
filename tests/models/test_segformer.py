"""What is particular to SegFormer."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.models import create_model

IMAGES = jnp.zeros((1, 33, 50, 3))


def abstract_params(*arguments, **options):
    model = create_model(*arguments, **options)
    return jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))["params"]


@pytest.mark.parametrize(
    "encoder, features, millions", [("mit_b0", 256, 3.8), ("mit_b1", 256, 13.7), ("mit_b2", 768, 27.5)]
)
def test_the_papers_number_of_parameters(encoder, features, millions):
    """Table 1a, on ADE20K, whose classes are 150."""
    params = abstract_params("segformer", encoder, num_classes=150, features=features)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("levels", [("c2", "c3"), ("c1", "c2", "c3", "c4", "c5")])
def test_levels_that_the_encoder_lacks_are_left_out(levels):
    for encoder, options in (("mit_b0", {"depth": 4}), ("plain", {"widths": (4, 4, 4)})):
        params = abstract_params("segformer", encoder, num_classes=2, levels=levels, encoder_options=options)
        present = {"mit_b0": {"c2", "c3", "c4"}, "plain": {"c1", "c2", "c3"}}[encoder]
        assert set(params["decoder"]) == {"fuse", *(f"project_{name}" for name in present.intersection(levels))}
