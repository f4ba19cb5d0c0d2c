"""PSPNet: a dilated encoder whose every pixel also sees the image's averages at four scales."""

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.ppm import PPM
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture, AuxiliaryHead, Option, level_of
from jaxseg.models.segmenter import Segmenter
from jaxseg.variants import Variant


class PSPNetDecoder(PPM):
    """Pyramid scene parsing network (Zhao et al., 2016, arXiv:1612.01105, fig. 3).

    The defaults are the paper's: an encoder dilated to output stride 8, whose c5 is pooled, and an auxiliary head on
    c4 (section 4; weight it 0.4 in the loss). segmentation_models_pytorch's PSPNet is shallower and is reached by
    `level="c3", projection_kernel=1, head_kernel=3, dropout=0.2, auxiliary=False` at output stride 32. The decoder
    starts from He's uniform initialization, the head from Glorot's.

    Outputs: "logits"; with `auxiliary` also "auxiliary".
    """

    level: str = "c5"  # of the encoder, that is pooled

    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        return super().__call__(level_of(levels, self.level, "set level to one of these"), train=train)


VARIANTS = {
    "pspnet": Architecture(
        Variant(PSPNetDecoder, kernel_size=Option("projection_kernel", 3)),
        Variant(Head, kernel_size=Option("head_kernel", 1)),
        auxiliary=AuxiliaryHead,
        has_auxiliary=True,
        segmenter=Variant(Segmenter, dropout=Option("dropout", 0.1)),
        default_encoder="resnet50",
        default_output_stride=8,
    )
}
