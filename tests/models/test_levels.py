"""Every level of the encoder that an architecture's figure shows reaches the logits, and no other does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.models import create_model, init

SIZE = (64, 96)
# model, its options, the levels of its paper's figure
FIGURES = [
    ("deeplabv1", {"features": 8}, {"c5"}),  # arXiv:1412.7062, fig. 3
    ("deeplabv2", {}, {"c5"}),  # arXiv:1606.00915, fig. 7
    ("deeplabv3", {"features": 8}, {"c5"}),  # arXiv:1706.05587, fig. 5
    ("deeplabv3_cascade", {}, {"c5"}),  # arXiv:1706.05587, fig. 3
    ("deeplabv3plus", {"features": 8, "detail_features": 4}, {"c2", "c5"}),  # arXiv:1802.02611, fig. 2
    ("fpn", {"pyramid_features": 8, "features": 32}, {"c2", "c3", "c4", "c5"}),  # arXiv:1901.02446, fig. 3
    ("panet", {"pyramid_features": 8, "features": 32}, {"c2", "c3", "c4", "c5"}),  # arXiv:1803.01534, fig. 1
    ("unetplusplus", {"decoder_channels": (4,) * 5}, {"c1", "c2", "c3", "c4", "c5"}),  # arXiv:1807.10165, fig. 1
    ("attention_unet", {"decoder_channels": (4,) * 5}, {"c1", "c2", "c3", "c4", "c5"}),  # arXiv:1804.03999, fig. 1
    ("linknet", {"features": 4}, {"c1", "c2", "c3", "c4", "c5"}),  # arXiv:1707.03718, fig. 1 (and c1)
    ("manet", {"decoder_channels": (4,) * 5}, {"c1", "c2", "c3", "c4", "c5"}),  # as segmentation_models_pytorch's
    ("pan", {"features": 4}, {"c2", "c3", "c4", "c5"}),  # arXiv:1805.10180, fig. 2
    ("bifpn", {"pyramid_features": 4, "features": 8}, {"c2", "c3", "c4", "c5"}),  # arXiv:1911.09070, fig. 2 d
]


class Levels(nn.Module):
    """An encoder whose levels are parameters, whatever the image."""

    output_stride: int = 32

    @nn.compact
    def __call__(self, image, *, train):
        levels = {}
        for i in range(1, 6):
            stride = min(2**i, self.output_stride)
            shape = (1, *(-(-n // stride) for n in image.shape[1:3]), 8)
            levels[f"c{i}"] = self.param(f"c{i}", nn.initializers.normal(1.0), shape)
        return levels


@pytest.mark.parametrize("name, options, figure", FIGURES, ids=[figure[0] for figure in FIGURES])
def test_every_level_of_the_figure_reaches_the_logits(name, options, figure):
    model = create_model(name, Levels(), num_classes=2, **options)
    image = jnp.zeros((1, *SIZE, 3))

    variables = init(model, jax.random.key(0), image_size=SIZE)

    def gradients(params):
        def loss(params):
            logits = model.apply({**variables, "params": params}, image, train=False)["logits"]
            return (logits * jax.random.normal(jax.random.key(7), logits.shape)).sum()

        return jax.grad(loss)(params)["encoder"]

    gradients = jax.jit(gradients)(variables["params"])
    assert {level for level, gradient in gradients.items() if np.abs(gradient).max() > 0} == figure
