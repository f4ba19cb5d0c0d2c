"""Models say of a pixel what they see there, at the sizes that the default way of evaluation produces.

The kernels keep the place: of odd sizes they take the center alone, of even ones the mean. What a logit is made of is
then a matter of where the features of each level lie, and of how they are enlarged.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.encoders.levels import Levels
from jaxseg.experiment.inputs import FINEST, STEPS
from jaxseg.models import MODELS, architecture, coarsest_stride, create_model, init
from jaxseg.ops.max_pool import max_pool
from tests.contracts.test_models import CLASSES, OPTIONS, QUICK, has_encoder

# Enlarge with `align_corners` what strided convolutions saw: crops of a multiple of the stride, plus 1, keep the place.
ALIGNED = ("deeplabv1", "deeplabv2", "deeplabv3", "deeplabv3_cascade", "deeplabv3plus")
CANNOT = {  # model -> why the center of what its logits are made of is elsewhere, by design
    **dict.fromkeys(("fpn", "panet", "segformer"), "levels are joined at half pixels, and enlarged with align_corners"),
    "upernet": "likewise, and bins",
    "bifpn": "levels of a stride of 64 and 128 pixels",
    "pspnet": "bins as large as the image",
    "pan": "an attention pyramid of the whole image",
    "manet": "attention to all positions",
    **dict.fromkeys(("segnet", "segnet_basic", "deconvnet"), "unpooling: of equal pixels, the first is the maximum"),
    **dict.fromkeys(("stacked_unet", "stacked_unet_128", "stacked_unet_7_128"), "a strided stem before mean pooling"),
    "cunet": "a strided stem before pooling",
    "image_pyramid": "scales, each with its own cells",
}
SMALL = {  # what is wide by default
    **{name: {"decoder_channels": (6,) * 5} for name in ("unet", "unetplusplus", "attention_unet")},
    **{name: {"features": 8} for name in ("deeplabv3", "deeplabv3plus")},
}
CELL = 32  # pixels of the coarsest stride, over which the place is taken: within a cell, nearest enlargement has one


class Encoder(nn.Module):
    """Levels of one 1x1 convolution, that differ by where their features lie.

    With `pooled`, feature k of stride s is the mean of the pixels from k s to k s + s - 1, as of plain encoders and
    VGG; else it is the pixel k s, as the strided convolutions of all others are centered.
    """

    output_stride: int = 32
    pooled: bool = False

    pixel_mean = pixel_std = (1.0,) * 3
    stem = ("conv",)

    @nn.compact
    def __call__(self, x, *, train):
        x, levels = nn.Conv(4, (1, 1), name="conv")(x), {}
        for i in range(1, 6):
            if 2**i <= self.output_stride:
                x = max_pool(x, 2) if self.pooled else x[:, ::2, ::2]  # the gradient of equal pixels is shared
            levels[f"c{i}"] = x
        return Levels(levels, output_stride=self.output_stride)


def keeping_the_place(path, leaf):
    """The weights that move nothing."""
    if "kernel" not in path[-1]:
        return jnp.zeros_like(leaf) if path[-1] == "mean" else jnp.ones_like(leaf)
    kernel = np.zeros(leaf.shape, np.float32)
    middle = tuple(slice(n // 2, n // 2 + 1) if n % 2 else slice(None) for n in leaf.shape[:-2])
    kernel[middle] = 1 / kernel[..., 0][middle].size
    return jnp.asarray(kernel)


def shifts(model, size):
    """How far away, in pixels and down, that lies which the logits of two cells are made of."""
    variables = {
        name: unflatten_dict({path: keeping_the_place(path, leaf) for path, leaf in flatten_dict(tree).items()})
        for name, tree in init(model, jax.random.key(0)).items()
    }
    places = np.array([CELL, 4 * CELL])
    cells = (np.arange(size[0]) // CELL * CELL == places[:, None]).astype(np.float32)

    @partial(jax.jit, compiler_options=QUICK)
    def made_of(variables, image):
        logits, pull = jax.vjp(lambda x: model.apply(variables, x, train=False)["logits"], image)
        cotangents = jnp.broadcast_to(cells[:, None, :, None, None], (2, *logits.shape))
        return jax.vmap(pull)(cotangents)[0].sum((1, 3, 4))

    weights = np.array(made_of(variables, jnp.ones((1, *size, 3))))
    for first in range(CELL):  # without what is seen of the image as a whole, from wherever in its cells
        weights[:, first::CELL] -= weights[:, first::CELL].min(1, keepdims=True)
    weights[np.abs(np.arange(size[0]) - places[:, None] - (CELL - 1) / 2) > 1.5 * CELL] = 0
    rows = (weights * np.arange(size[0])).sum(1) / weights.sum(1)
    return rows - (places + (CELL - 1) / 2)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in CANNOT])
def test_logits_are_of_the_place_where_they_are(name):
    options = {"num_classes": CLASSES, **OPTIONS.get(name, {}), **SMALL.get(name, {})}
    if has_encoder(name):
        stride = architecture(name).default_output_stride
        options["encoder"] = Encoder(output_stride=stride, pooled=name not in ALIGNED)
    model = create_model(name, **options)
    crop = (65, 65) if name in ALIGNED else (64, 64)
    bucket = max(coarsest_stride(model), FINEST)
    seen = Preprocessing((0.0,) * 3, (1.0,) * 3, phase=crop, bucket=bucket, steps=STEPS)
    np.testing.assert_allclose(shifts(model, seen.padded(170, 20)), 0, atol=0.5)


def test_every_exception_is_a_model():
    assert set(CANNOT) | set(ALIGNED) <= set(MODELS)
