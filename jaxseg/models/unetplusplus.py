"""U-Net++: a U-Net whose skips are themselves small decoders, one inside the other."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.unet import UNetBlock
from jaxseg.checks import UserError
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import HEAD_3X3, Architecture, Option, check_channels
from jaxseg.models.segmenter import Segmenter
from jaxseg.ops.resize import resize
from jaxseg.variants import Variant

Node = tuple[int, int]  # (row, column) in fig. 1: row i has the size of the encoder's level ci, row 0 the image's
Block = Callable[[Feature, Sequence[Feature]], Feature]


def nest(
    levels: Mapping[int, Feature],
    sizes: Mapping[int, tuple[int, int]],
    blocks: Mapping[Node, Block],
    upsample: Callable[[Feature, tuple[int, int]], Feature],
) -> dict[Node, Feature]:
    """Computes the nodes X^{i,j} that have a block, out of the encoder's levels X^{i,0} (Zhou et al., fig. 1, eq. 1).

    Node (i, j) sees the node below and before it, (i + 1, j - 1), enlarged to the size of row i, and every earlier
    node of its own row, the latest first.
    """
    nodes = {(i, 0): level for i, level in levels.items()}
    for i, j in sorted(blocks, key=lambda node: node[1]):
        beside = [nodes[i, m] for m in reversed(range(j)) if (i, m) in nodes]
        nodes[i, j] = blocks[i, j](upsample(nodes[i + 1, j - 1], sizes[i]), beside)
    return nodes


class UNetPlusPlusDecoder(nn.Module):
    """U-Net++ (Zhou et al., 2018, arXiv:1807.10165, fig. 1) on any encoder.

    As in segmentation_models_pytorch, and unlike the paper: the first row is the encoder's c1, at half the image's
    size, and one more block without a skip enlarges its last node to the image's size (the paper's first row has
    the image's size, and its encoder is U-Net's with 32 to 512 channels: 9.0 million parameters); the blocks and
    the enlargement are those of `UNet` here; of each row, the last node has `decoder_channels` and the others as many
    channels as the encoder's level.

    With `deep_supervision` (section 3.2, fig. 1 c), the first row's inner nodes X^{0,1}, X^{0,2}, … have a 1x1
    convolution to scores of their own, enlarged to the image's size: the mean of all outputs is the paper's
    accurate mode. `level=n` is its fast mode, the pruned net Ln (fig. 3), whose "logits" are the "level{n}" of a net
    trained with `deep_supervision`, from the same variables; under `jit`, what it does not need of the encoder
    and of the nest is not computed. The highest level (4, for an encoder of five levels) is the whole net. An encoder
    without a c1 has no inner nodes there, hence nothing to supervise or prune.

    Outputs: "logits"; with `deep_supervision` also "level1", "level2" and "level3" (for an encoder of n levels, up to
    n - 2).
    """

    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # of each row's last node, from the deepest to the image
    attention: str | None = None  # None, "se" or "scse"
    method: str = "nearest"  # of the enlargement: "nearest" or "bilinear"
    level: int | None = None  # to prune to, 1 to the encoder's levels - 1; None is the whole net
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> dict[int, Feature]:
        """Returns the nodes that can be scored, from L1 to the full depth, or what L1 to `level` need."""
        check_channels(self, levels)
        last = levels.depth
        pruned = self.level is not None and self.level < last - 1
        rows = {i: levels[f"c{i}"] for i in range(last, 1, -1)}
        if "c1" in levels:
            rows[1] = levels["c1"]

        def block(i: int, j: int) -> Block:
            features = self.decoder_channels[last - 1 - i] if i + j == last else rows[i].shape[-1]
            made = UNetBlock(features, self.attention, i > 0, self.dtype, name=f"x{i}_{j}")
            return lambda x, beside: made(x, jnp.concatenate(beside, axis=-1) if beside else None, train=train)

        if pruned:
            wanted = [(i, j) for i in rows for j in range(1, self.level + 2 - i)]
        else:  # a row without features of the encoder has one node, the last
            wanted = [(i, j) for i in range(last) for j in range(1, last + 1 - i) if i in rows or i + j == last]
        _, sizes = levels.skips(size)
        nodes = nest(
            rows,
            dict(zip(reversed(range(last)), sizes, strict=True)),
            {node: block(*node) for node in wanted},
            partial(resize, method=self.method),
        )
        views = {j: nodes[1, j] for j in range(1, last - 1) if (1, j) in nodes}
        return views if pruned else {**views, last - 1: nodes[0, last]}


class UNetPlusPlus(Segmenter):
    """A segmenter whose decoder's inner nodes may have a head each, "level1", "level2", …"""

    deep_supervision: bool = False

    @nn.compact
    def decode(self, levels: Levels, size: tuple[int, int], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        whole, pruned = levels.depth - 1, self.decoder.level
        if pruned is not None and pruned not in range(1, whole + 1):
            raise UserError(f"U-Net++ has no level {pruned!r} on this encoder. Choose one of 1 to {whole}.")
        if "c1" not in levels and (self.deep_supervision or pruned not in (None, whole)):
            raise UserError(
                "deep_supervision and level need the encoder's c1, and this encoder has none. Choose another encoder."
            )
        views, wanted = self.decoder(levels, size, train=train), pruned or whole

        def score(level: int) -> Float[Array, "b h w k"]:
            if level == whole:
                return self.head(views[level], size)
            dtypes = {"dtype": self.dtype, "head_dtype": self.head_dtype}
            return Head(self.num_classes, **dtypes, name=f"level{level}")(views[level], size)

        outputs = {"logits": score(wanted)}
        if self.deep_supervision:
            outputs |= {f"level{level}": score(level) for level in range(1, wanted)}
        return outputs


VARIANTS = {
    "unetplusplus": Architecture(
        UNetPlusPlusDecoder,
        HEAD_3X3,
        segmenter=Variant(UNetPlusPlus, deep_supervision=Option("deep_supervision", False)),
        default_encoder="resnet34",
        default_output_stride=32,
    )
}
