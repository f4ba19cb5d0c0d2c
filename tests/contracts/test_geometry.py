"""Models say of a pixel what they see there, at the sizes that the default way of evaluation produces.

The kernels keep the place: of odd sizes they take the center alone, of even ones the mean. Pooling by the maximum,
which is any of the pixels, becomes pooling by the mean. What a logit is made of is then a matter of where the features
of each level lie, and of how they are enlarged. What looks at the image as a whole counts as much in one part of it as
in another, so the difference of two parts is free of it.
"""

import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.encoders.levels import Levels
from jaxseg.experiment.inputs import FINEST, STEPS
from jaxseg.models import CROPS, MODELS, architecture, coarsest_stride, create_model, init
from jaxseg.ops.max_pool import max_pool
from tests.contracts.test_models import CLASSES, OPTIONS, has_encoder

BY_DESIGN = {  # model -> pixels between a logit and what it is made of, at most, where those of its paper or peer are
    # smp's: nearest enlargement on the way down, then thrice with `align_corners` up to c2, and once to the image
    "fpn": 2.4,
    # likewise; the way up halves by strided convolutions, which see the first pixel of two where the way down sees both
    "panet": 6.9,
    # smp's: half pixels up to c2, `align_corners` from there, which is 1.5 pixels off at the border
    **dict.fromkeys(("segformer", "upernet"), 0.8),
    # pooling by 3 is centered on the first pixel of two: c6 lies 16 pixels off, c7 48; so is the way up
    "bifpn": 6.2,
    # the authors': two strided layers first, centered on the first pixel of four
    **dict.fromkeys(("stacked_unet", "stacked_unet_128", "stacked_unet_7_128"), 1.51),
    # a strided layer first, centered on the first pixel of two
    "cunet": 0.52,
    # likewise: strided layers, centered on the first of up to 64 pixels, and enlargement as if on their middle
    "ddrnet": 23.0,
    # views of the image keep its corners, and their scores the centers of the corner pixels
    "image_pyramid": 2.8,
}
# what sees bins of the image or all positions
WHOLE = ("bin1", "bin2", "bin3", "bin6", "fpa/down", "fpa/across", "pab/", "decoder/scale")
UNPOOLING = ("segnet", "segnet_basic", "deconvnet")
SMALL = {  # what is wide by default
    **{name: {"decoder_channels": (6,) * 5} for name in ("unet", "unetplusplus", "attention_unet")},
    **{name: {"features": 8} for name in ("deeplabv3", "deeplabv3plus", "segformer", "upernet", "pspnet", "pan")},
    **{name: {"pyramid_features": 8, "features": 32} for name in ("fpn", "panet")},
    "bifpn": {"pyramid_features": 8, "features": 8, "repeats": 2, "convs": 1},
    "manet": {"decoder_channels": (16,) * 5, "reduction": 1},
}
# stride of the coarsest features, pixels, over which the place is taken; else 32: within a cell, nearest enlargement
# has one place
CELLS = {"cunet": 64, "ddrnet": 64, "bifpn": 128}


def mean_pool(x, size, *, stride=2, dilation=1):
    """The mean of the windows of which `jaxseg.ops.max_pool.max_pool` takes the maximum."""
    before = (size - 1) // 2 * dilation
    ends = [(before, (-(-n // stride) - 1) * stride + (size - 1) * dilation + 1 - before - n) for n in x.shape[1:3]]
    window = {"window_dimensions": (1, size, size, 1), "window_strides": (1, stride, stride, 1)}
    window |= {"padding": ((0, 0), *ends, (0, 0)), "window_dilation": (1, dilation, dilation, 1)}
    total, pixels = (lax.reduce_window(y, 0.0, lax.add, **window) for y in (x, jnp.ones_like(x)))
    return total / pixels


@pytest.fixture(autouse=True)
def pooled_by_the_mean(monkeypatch):
    for name, module in list(sys.modules.items()):
        if name.startswith("jaxseg.") and getattr(module, "max_pool", None) is max_pool:
            monkeypatch.setattr(module, "max_pool", mean_pool)


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
                x = mean_pool(x, 2) if self.pooled else x[:, ::2, ::2]
            levels[f"c{i}"] = x
        return Levels(levels, output_stride=self.output_stride)


def keeping_the_place(path, leaf):
    """The weights that move nothing, and see no bins and no pairs of positions."""
    where = "/".join(path)
    if path[-1] == "mean" or ("kernel" in path[-1] and any(part in where for part in WHOLE)):
        return jnp.zeros_like(leaf)
    if where == "encoder/conv/bias" and leaf.shape == (4,):  # normalization takes away what channels have in common
        return jnp.array([1.0, 5.0, 2.0, 3.0])
    if path[-1] == "scale" and "/norm_c" in where:
        return jnp.arange(1.0, len(leaf) + 1)
    if path[-1] == "scale" and "/branch_" in where:  # divided by no deviation: the square root of epsilon
        return jnp.full_like(leaf, 1e-5**0.5)
    if "kernel" not in path[-1]:
        return jnp.ones_like(leaf)
    if "unet" in path[1] and path[-2].endswith("_conv1") and path[-2].startswith("up"):  # transposed, by bilinear
        taps = jnp.array([0.5, 1.0, 0.5])
        return jnp.broadcast_to(jnp.outer(taps, taps)[:, :, None, None] / leaf.shape[3], leaf.shape)
    kernel = np.zeros(leaf.shape, np.float32)
    middle = tuple(slice(n // 2, n // 2 + 1) if n % 2 else slice(None) for n in leaf.shape[:-2])
    kernel[middle] = 1 / kernel[..., 0][middle].size
    return jnp.asarray(kernel * np.arange(1, 5) if len(path) == 3 and leaf.shape == (1, 1, 3, 4) else kernel)


def shifts(model, size, cell=32, *, noise=False):
    """How far away, in pixels and down, that lies which the logits of two cells are made of."""
    variables = {
        name: unflatten_dict({path: keeping_the_place(path, leaf) for path, leaf in flatten_dict(tree).items()})
        for name, tree in init(model, jax.random.key(0)).items()
    }
    rows, places, sign = np.arange(size[0]), np.array([[1], [4]]) * cell + (cell - 1) / 2, np.array([[1], [-1]])
    away = rows - places
    inside = sign * (np.abs(away) < cell / 2)
    cells = np.stack([inside.sum(0), (inside * away).sum(0)]).astype(np.float32)  # sums of 0: see the docstring above

    @jax.jit
    def made_of(variables, image):
        logits, pull = jax.vjp(lambda x: model.apply(variables, x, train=False)["logits"], image)
        cotangents = jnp.broadcast_to(cells[:, None, :, None, None], (2, *logits.shape))
        return jax.vmap(pull)(cotangents)[0].sum((1, 3, 4))

    image = jnp.ones((1, *size, 3))
    if noise:  # the maximum is any of the pixels
        image += jax.random.uniform(jax.random.key(0), (1, *size, 1))
    weights, by_row = np.array(made_of(variables, image), np.float64)
    near = np.abs(away) == np.abs(away).min(0)
    seen = (near * weights).sum(1)
    assert (sign[:, 0] * seen > 0).all(), "nothing, or less than nothing, reaches the logits"
    return ((near * away * weights).sum(1) - (near * by_row).sum(1)) / seen


@cache
def measure(name, height, pooled):
    """The shifts of the model in images of that height, padded as evaluation does after training on a suitable crop."""
    options = {"num_classes": CLASSES, **OPTIONS.get(name, {}), **SMALL.get(name, {})}
    if has_encoder(name):
        options["encoder"] = Encoder(output_stride=architecture(name).default_output_stride, pooled=pooled)
    model = create_model(name, **options)
    crop, bucket = 64 + CROPS.get(name, 0), max(coarsest_stride(model), FINEST)
    seen = Preprocessing((0.0,) * 3, (1.0,) * 3, phase=(crop, crop), bucket=bucket, steps=STEPS)
    return shifts(model, seen.padded(height, 20), CELLS.get(name, 32), noise=name in UNPOOLING)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_of_the_place_where_they_are(name):
    found = measure(name, 5 * CELLS.get(name, 32) + 10, CROPS.get(name) != 1)
    atol = BY_DESIGN.get(name, 0.5)
    np.testing.assert_allclose(found, 0, atol=atol)
    assert name not in BY_DESIGN or np.abs(found).max() > max(0.5, atol - 0.1), f"{found}: the bound may be lower"


def test_levels_beyond_the_encoders_keep_their_place_at_any_multiple_of_its_stride():
    """BiFPN's c6 and c7 have strides of 64 and 128 pixels, but are enlarged by nearest neighbors from the top left."""
    one, other = (measure("bifpn", height, True) for height in (5 * 128 + 10, 5 * 128 + 42))
    np.testing.assert_allclose(one, other, atol=0.05)


def test_every_exception_is_a_model():
    assert set(BY_DESIGN) | set(CROPS) | set(SMALL) <= set(MODELS)
