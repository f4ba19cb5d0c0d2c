"""PSPNet: a dilated encoder whose every pixel also sees the picture's averages at four scales."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.head import FCNHead, Head
from jaxseg.blocks.ppm import PPM
from jaxseg.checks import lookup


class PSPNet(nn.Module):
    """Pyramid scene parsing network (Zhao et al., 2016, arXiv:1612.01105, fig. 3).

    The defaults are the paper's: an encoder dilated to output stride 8, whose c5 is pooled, and an auxiliary head on
    c4 (section 4; weight it 0.4 in the loss). segmentation_models_pytorch's PSPNet is shallower and is reached by
    `level="c3", projection_kernel=1, head_kernel=3, dropout=0.2, auxiliary=False` at output stride 32. The decoder
    starts from He's uniform initialisation, the head from Glorot's.

    Outputs: "logits"; with `auxiliary` also "auxiliary".
    """

    encoder: nn.Module
    num_classes: int
    level: str = "c5"  # of the encoder, that is pooled
    features: int = 512
    bins: Sequence[int] = (1, 2, 3, 6)
    projection_kernel: int = 3  # of the convolution that joins the scales
    head_kernel: int = 1
    dropout: float = 0.1  # of whole channels
    auxiliary: bool = True
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 8

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        size = image.shape[1:3]
        levels = self.encoder(image, train=train)
        decoder = PPM(self.features, self.bins, self.projection_kernel, dtype=self.dtype, name="decoder")
        x = decoder(lookup(levels, self.level, "level of the encoder"), train=train)
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(x, deterministic=not train)
        outputs = {"logits": Head(self.num_classes, self.head_kernel, dtype=self.dtype, name="head")(x, size)}
        if self.auxiliary:
            head = FCNHead(self.num_classes, dtype=self.dtype, name="auxiliary")
            outputs["auxiliary"] = head(levels["c4"], size, train=train)
        return outputs


VARIANTS = {"pspnet": PSPNet}
