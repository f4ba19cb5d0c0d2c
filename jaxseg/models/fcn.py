"""FCN: a classifier as a convolution, with coarse scores refined by earlier layers; and torchvision's variant."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.fully_connected import fully_connected
from jaxseg.blocks.head import FCNHead
from jaxseg.blocks.initializers import xavier_uniform
from jaxseg.blocks.types import Function
from jaxseg.blocks.upsample import ConvTranspose, bilinear_init, crop_or_resize
from jaxseg.checks import UserError
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture, AuxiliaryHead, Option
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.resize import resize
from jaxseg.variants import Variant

Scores = Float[Array, "b h w num_classes"]
LEVELS = {32: (), 16: ("c4",), 8: ("c4", "c3")}  # that refine the scores, by the stride of the finest


def refine_scores(
    scores: Scores, skips: Sequence[Feature], enlarge: Sequence[Function], predict: Sequence[Function]
) -> Float[Array, "b h2 w2 num_classes"]:
    """Upsamples coarse scores to each finer level in turn, and adds the scores predicted from that level.

    Long et al., fig. 3. Levels are ordered coarse to fine; there is one function of each kind per skip.
    """
    for skip, up, score in zip(skips, enlarge, predict, strict=True):
        scores = up(scores) + score(skip)
    return scores


class FCNDecoder(nn.Module):
    """Fully convolutional network (Long, Shelhamer & Darrell, 2015, arXiv:1411.4038, fig. 3), on any encoder.

    `finest` says which of the three: FCN-32s, -16s or -8s. VGG16's fully connected layers are convolutions of 7x7 and
    1x1; the scores are enlarged by transposed convolutions, which start bilinear and are learned, but for the last
    step to the image, which is bilinear for good. The scores of the skips start from zero, so that `warm_start`
    begins where the coarser network ended. With VGG16 and 21 classes: 134.3 M parameters (FCN-32s; the paper's 134 M).

    Unlike the authors' networks, whose first layer pads by 100 pixels and whose scores are cropped, the 7x7 convolution
    is padded by 3, so that every level covers the image; and the last step repeats the border instead of fading to
    zero.

    Outputs: "logits".
    """

    finest: int = 8  # stride of the finest level that is scored, in pixels: 32, 16 or 8
    features: int = 4096  # of the two layers that were fully connected
    kernel_size: int = 7  # of the first of them
    dropout: float = 0.5  # after each of them
    pooled_skips: bool | None = None  # take each skip from the level before it, pooled; None: as a VGG's levels need it
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Levels:
        if self.finest not in LEVELS:
            raise UserError(f"FCN's finest stride is one of {', '.join(map(str, LEVELS))}, got {self.finest!r}.")
        x = levels["c5"]
        for layer in fully_connected(self.features, self.kernel_size, self.dropout, train=train, dtype=self.dtype):
            x = layer(x)
        skips = {name: self._skip(levels, name) for name in LEVELS[self.finest]}
        return Levels({**skips, "c5": x}, output_stride=levels.output_stride)

    def _skip(self, levels: Levels, name: str) -> Feature:
        """The features at level `name`: those of VGG's "pool3" and "pool4" are the level before, pooled."""
        pooled = levels.before_pooling if self.pooled_skips is None else self.pooled_skips
        if not pooled:
            return levels[name]
        before = levels.shallower(name)
        return max_pool(before, 2, stride=1 if before.shape[1:3] == levels[name].shape[1:3] else 2)


class FCNScores(nn.Module):
    """Scores of the deepest level, refined by those of the others, and enlarged to the image's size."""

    num_classes: int
    dtype: Any = jnp.float32
    head_dtype: Any = None  # None is `dtype`

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Scores:
        dtype = self.head_dtype or self.dtype
        score = partial(Conv, self.num_classes, 1, use_bias=True, dtype=dtype)

        def enlarge(name: str, skip: Feature, times: int) -> Function:
            if times == 1:
                return lambda scores: scores
            layer = ConvTranspose(
                self.num_classes,
                kernel_size=2 * times,
                stride=times,
                padding=times // 2,
                dtype=dtype,
                kernel_init=bilinear_init,
                name=f"enlarge_{name}",
            )
            return lambda scores: crop_or_resize(layer(scores), skip.shape[1:3], times)

        coarsest, *names = levels.names()
        skips, times = [levels[name] for name in names], levels.stride(names[-1] if names else coarsest)
        ratios = [levels.stride(a) // levels.stride(b) for a, b in zip((coarsest, *names), names, strict=False)]
        scores = refine_scores(
            score(kernel_init=xavier_uniform, name=f"score_{coarsest}")(levels[coarsest]),
            skips,
            enlarge=[enlarge(*step) for step in zip(names, skips, ratios, strict=True)],
            predict=[score(kernel_init=nn.initializers.zeros, name=f"score_{name}") for name in names],
        )
        _, h, w, _ = scores.shape
        return crop_or_resize(resize(scores, (h * times, w * times)), size, times).astype(jnp.float32)


def warm_start(coarser: Mapping[str, Any], finer: Mapping[str, Any]) -> dict[str, Any]:
    """Starts a finer FCN where a coarser one ended: FCN-16s from FCN-32s, FCN-8s from FCN-16s (section 4.2).

    Args:
      coarser: trained variables, {"params", "batch_stats"}.
      finer: initial variables of the next network, on the same encoder and for the same classes.

    Returns:
      `finer` with the values of `coarser`; the new skips' scores, which `coarser` lacks, still start from zero.
    """
    old, new = flatten_dict(coarser), flatten_dict(finer)
    lacking = [path for path in old if path not in new or old[path].shape != new[path].shape]
    added = [path for path in new if path not in old and path[:2] != ("params", "head")]
    if lacking or added:
        names = ", ".join("/".join(path) for path in (lacking + added)[:4])
        raise UserError(
            f"The variables are not of a coarser and a finer FCN on one encoder: they differ at {names}."
            " Make both with the same options, but for the architecture's name."
        )
    return unflatten_dict({**new, **old}) | {"batch_stats": dict(coarser.get("batch_stats", {}))}


class DilatedFCN(FCNHead):
    """torchvision's FCN: a dilated ResNet, a head of two convolutions on c5, and bilinear upsampling.

    Parameters with its auxiliary head and 21 classes: 35,322,218 on "resnet50", 54,314,346 on "resnet101". Dropout is
    of whole channels (torchvision's of single values).

    Outputs: "logits"; with `auxiliary` also "auxiliary", the same head on c4.
    """

    align_corners: bool = False  # of the final enlargement

    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Scores:
        return super().__call__(levels["c5"], size, train=train)


FCN = Architecture(FCNDecoder, FCNScores, default_encoder="vgg16", default_output_stride=32)
VARIANTS = {
    "fcn32s": Variant(FCN, finest=32),
    "fcn16s": Variant(FCN, finest=16),
    "fcn8s": FCN,
    "fcn": Architecture(
        None,
        DilatedFCN,
        auxiliary=Variant(AuxiliaryHead, dropout=Option("dropout", 0.1), align_corners=Option("align_corners", False)),
        default_encoder="resnet50",
        default_output_stride=8,
    ),
}
