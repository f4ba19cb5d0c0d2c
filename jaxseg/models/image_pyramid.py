"""Image pyramid: one network applied to several scales of the image, with their scores merged."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.scale_attention import ScaleAttention
from jaxseg.checks import UserError, check_numbers, check_options, lookup
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import MAY_BE_NONE
from jaxseg.models.segmenter import check_images
from jaxseg.ops.resize import resize
from jaxseg.variants import Variant, defaults

MERGES = ("attention", "max", "mean")


class ImagePyramid(nn.Module):
    """Attention to scale (Chen et al., 2015, arXiv:1511.03339): shared weights over scales, merged.

    Any model with an encoder can be the network. Parameter paths equal those of the wrapped model, so its trained
    variables load unchanged; those of the attention are under "attention". The paper has DeepLab-LargeFOV,
    `architecture="deeplabv1"` on VGG-16, and its attention reads fc7; here it reads the encoder's deepest level, which
    every encoder has. The scores of all scales meet at the image's own size. DeepLabV2 (arXiv:1606.00915, section
    4.1.2) merges by the maximum. Batch statistics are taken scale by scale.

    Outputs: "logits"; one head for each of `scales`, in their order, for the paper's extra supervision: "scale1",
    "scale2", "scale3", …; the architecture's own further heads, as the first scale has them.
    """

    encoder: nn.Module
    network: Variant  # makes the network, given the encoder: an entry of `MODELS` with num_classes, dtype and options
    scales: Sequence[float] = (1.0, 0.75, 0.5)  # of the image
    merge: str = "attention"  # "attention", "max" or "mean"
    features: int = 512  # of the attention's hidden layer
    in_channels: int | None = None  # of the images, as for `create_model`

    @property
    def num_classes(self) -> int:
        """Of the logits."""
        return self.network.num_classes

    @property
    def dtype(self) -> Any:
        """Of the computation."""
        return self.network.dtype

    @property
    def head_dtype(self) -> Any:
        """Of the network's scores; None is `dtype`."""
        return self.network.head_dtype

    def setup(self) -> None:
        lookup(dict.fromkeys(MERGES), self.merge, "way to merge scales")
        segmenter = self.network(encoder=self.encoder)
        # Parts that belong to the pyramid first keep the paths, and the initial values, that they have without it.
        self.decoder, self.head, self.auxiliary = segmenter.decoder, segmenter.head, segmenter.auxiliary
        self.segmenter = segmenter
        nn.share_scope(self, self.segmenter)
        if self.merge == "attention":
            self.attention = ScaleAttention(self.features, dtype=self.dtype)

    def encode(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> Levels:
        """Returns the encoder's levels of images at their own size."""
        return self.segmenter.encode(image, train=train)

    def decode(self, levels: Levels, size: tuple[int, int], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        """Returns the network's outputs for levels of one scale."""
        return self.segmenter.decode(levels, size, train=train)

    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        image = check_images(self.encoder, image, self.in_channels)
        size, views, deepest = image.shape[1:3], [], []
        for scale in self.scales:
            view = tuple(max(1, round(n * scale)) for n in size)
            levels = self.encode(resize(image, view), train=train)
            deepest.append(levels.deepest)
            views.append(self.decode(levels, view, train=train))
        scores = [resize(outputs["logits"], size, align_corners=True) for outputs in views]
        outputs = {name: resize(head, size, align_corners=True) for name, head in views[0].items()}
        outputs |= {f"scale{i}": x for i, x in enumerate(scores, start=1)}
        if self.merge == "attention":
            merged = self.attention(scores, deepest)
        elif self.merge == "max":
            merged = reduce(jnp.maximum, scores)
        else:
            merged = sum(scores) / len(scores)
        return outputs | {"logits": merged}


class PyramidOf:
    """The entry of `MODELS` that makes an `ImagePyramid` of any of the `networks` (by name) that has an encoder."""

    default_encoder = "resnet101"
    default_output_stride = 8

    def __init__(self, networks: Mapping[str, Callable[..., nn.Module]]) -> None:
        self.networks = {name: entry for name, entry in networks.items() if entry.default_encoder is not None}
        self.__doc__ = ImagePyramid.__doc__

    def __call__(
        self,
        *,
        encoder: nn.Module,
        num_classes: int,
        architecture: str = "deeplabv2",
        architecture_options: Mapping[str, Any] = FrozenDict(),
        dtype: Any = jnp.float32,
        scales: Sequence[float] = ImagePyramid.scales,
        merge: str = ImagePyramid.merge,
        features: int = ImagePyramid.features,
        in_channels: int | None = None,
        head_dtype: Any = None,
    ) -> ImagePyramid:
        entry = lookup(self.networks, architecture, "architecture for an image pyramid")
        check_options(entry, architecture_options, f"model '{architecture}'")
        check_numbers(architecture_options, f"model '{architecture}'", from_zero=MAY_BE_NONE.get(architecture, ()))
        if not scales:
            raise UserError("An image pyramid needs at least one of `scales`, such as (1.0, 0.75, 0.5), got ().")
        options = {**defaults(entry), **architecture_options}
        common = {"num_classes": num_classes, "dtype": dtype, "head_dtype": head_dtype}
        network = Variant(entry, **{**options, **common})
        return ImagePyramid(encoder, network, scales, merge, features, in_channels)

    def options_of(self, model: nn.Module) -> dict[str, Any] | None:
        """Returns the options that make `model`; None if it is no image pyramid of one of the networks."""
        if not isinstance(model, ImagePyramid):
            return None
        name = next((name for name, entry in self.networks.items() if entry == model.network.make), None)
        if name is None:
            return None
        preset = defaults(model.network.make)
        options = {
            key: value
            for key, value in model.network.options.items()
            if key not in ("num_classes", "dtype", "head_dtype") and value != preset[key]
        }
        own = {key: getattr(model, key) for key in ("scales", "merge", "features")}
        return {"architecture": name, "architecture_options": FrozenDict(options), **own}
