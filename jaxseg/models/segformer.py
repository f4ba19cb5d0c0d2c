"""SegFormer: a transformer that keeps four resolutions, and a decoder of little more than four matrices."""

from collections.abc import Sequence

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.mlp_head import MLPHead
from jaxseg.checks import UserError
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture


class SegFormerDecoder(MLPHead):
    """SegFormer (Xie et al., 2021, arXiv:2105.15203, fig. 2): c2 to c5 of a Mix Transformer, and the all-MLP decoder.

    `features` is 256 in the paper with MiT-B0 and B1, 768 with B2 to B5; with 150 classes the parameters are then 3.8,
    13.7, 27.5, 47.3, 64.1 and 84.7 million (table 1a). As in segmentation_models_pytorch: any encoder, no dropout
    before the scores, and a final enlargement with `align_corners`; its own models have c1 among the levels too, where
    the encoder has one. The projections and the head start from Glorot's uniform initialization, the fusion from He's.

    Outputs: "logits".
    """

    levels: Sequence[str] = ("c2", "c3", "c4", "c5")  # of the encoder; those that it lacks are left out

    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        taken = {name: x for name, x in levels.items() if name in self.levels}
        if "c2" not in levels or not taken:
            raise UserError(
                f"A SegFormer needs the encoder's c2 and at least one of `levels`, {tuple(self.levels)}; this encoder"
                f" has {', '.join(levels)}. Choose others."
            )
        return super().__call__(taken, train=train)


VARIANTS = {"segformer": Architecture(SegFormerDecoder, default_encoder="mit_b0", default_output_stride=32)}
