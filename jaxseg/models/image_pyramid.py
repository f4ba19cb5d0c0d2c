"""Image pyramid: one network on several sizes of the picture, and one set of scores out of all of them."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.scale_attention import ScaleAttention
from jaxseg.checks import UserError, check_options, lookup
from jaxseg.ops.resize import resize

MERGES = ("attention", "max", "mean")


class ImagePyramid(nn.Module):
    """Attention to scale (Chen et al., 2015, arXiv:1511.03339): shared weights over scales, merged.

    Any model with an encoder can be the network; its parameters keep their paths, so a trained one can be put in, and
    the attention's lie under "attention". The paper has DeepLab-LargeFOV, `architecture="deeplabv1"` on VGG-16, and
    its attention reads fc7; here it reads the encoder's deepest level, which every encoder has. The scores of all
    scales meet at the picture's own size. DeepLabV2 (arXiv:1606.00915, section 4.1.2) merges by the maximum. Batch
    statistics are taken scale by scale.

    Outputs: "logits"; one head for each of `scales`, in their order, for the paper's extra supervision: "scale1",
    "scale2", "scale3", …; the architecture's own further heads, as the first scale has them.
    """

    encoder: nn.Module
    num_classes: int
    architecture: str = "deeplabv2"  # a key of `jaxseg.MODELS`, of an architecture with an encoder
    architecture_options: Mapping[str, Any] = FrozenDict()  # its further fields
    scales: Sequence[float] = (1.0, 0.75, 0.5)  # of the picture
    merge: str = "attention"  # "attention", "max" or "mean"
    features: int = 512  # of the attention's hidden layer
    dtype: Any = jnp.float32

    default_encoder = "resnet101"
    default_output_stride = 8

    def setup(self):
        from jaxseg.models import MODELS, architecture  # this file is one of its entries

        constructor = lookup(MODELS, self.architecture, "architecture of the image pyramid")
        check_options(constructor, self.architecture_options, f"model '{self.architecture}'")
        if architecture(self.architecture).default_encoder is None or self.architecture == "image_pyramid":
            raise UserError(f"An image pyramid cannot be made of '{self.architecture}'. Choose a model on an encoder.")
        lookup(dict.fromkeys(MERGES), self.merge, "way to merge scales")
        self.network = constructor(
            encoder=self.encoder, num_classes=self.num_classes, dtype=self.dtype, **self.architecture_options
        )
        nn.share_scope(self, self.network)
        if self.merge == "attention":
            self.attention = ScaleAttention(self.features, dtype=self.dtype)

    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        size = image.shape[1:3]
        views = []
        for scale in self.scales:
            height, width = (max(1, round(n * scale)) for n in size)
            views.append(self._look(resize(image, (height, width)), train=train))
        scores = [resize(outputs["logits"], size, align_corners=True) for outputs, _ in views]
        outputs = {name: resize(head, size, align_corners=True) for name, head in views[0][0].items()}
        outputs |= {f"scale{i}": x for i, x in enumerate(scores, start=1)}
        if self.merge == "attention":
            merged = self.attention(scores, [features for _, features in views])
        elif self.merge == "max":
            merged = reduce(jnp.maximum, scores)
        else:
            merged = sum(scores) / len(scores)
        return outputs | {"logits": merged}

    def _look(self, image: Float[Array, "b h w 3"], *, train: bool) -> tuple[dict[str, Feature], Feature]:
        """The network's outputs, and the deepest level that its encoder made on the way."""
        seen = {}

        def watch(call, args, kwargs, context):
            result = call(*args, **kwargs)
            if context.method_name == "__call__" and context.module.path == self.encoder.path:
                seen.update(result)
            return result

        with nn.intercept_methods(watch):
            outputs = self.network(image, train=train)
        return outputs, seen[max(seen)]


VARIANTS = {"image_pyramid": ImagePyramid}
