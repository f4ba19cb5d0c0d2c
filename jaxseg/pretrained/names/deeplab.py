"""Names of the weights of DeepLabV3 and DeepLabV3+, smp's and torchvision's."""

from collections.abc import Callable, Sequence

from jaxseg.pretrained.names.fcn import AUXILIARY, RESNET
from jaxseg.pretrained.names.lraspp import MOBILENET
from jaxseg.pretrained.names.recipe import Recipe, TorchvisionModel, check_upsampling
from jaxseg.pretrained.names.source import Renames


def aspp_renames(rates: Sequence[int]) -> Renames:
    """The names within an ASPP, in smp as in torchvision: numbered branches; the pooling is entry 0 of the last."""
    last = len(rates) + 1
    renames = [
        (r"\.point\.(\d)$", r".convs.0.\1"),
        (r"\.image\.0$", f".convs.{last}.1"),
        (r"\.image\.1$", f".convs.{last}.2"),
    ]
    for i, rate in enumerate(rates, start=1):
        renames += [
            (rf"\.rate{rate}\.depthwise$", f".convs.{i}.0.0"),
            (rf"\.rate{rate}\.pointwise$", f".convs.{i}.0.1"),
            (rf"\.rate{rate}\.(\d)$", rf".convs.{i}.\1"),
        ]
    return tuple(renames)


def deeplabv3(
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 8,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = False,
    decoder_aspp_dropout: float = 0.5,
    upsampling: int | None = None,
) -> Recipe:
    """How smp's DeepLabV3 is made here."""
    natural = min(encoder_output_stride, 2**encoder_depth)
    check_upsampling(natural if upsampling is None else upsampling, natural)
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "output_stride": encoder_output_stride,
            "features": decoder_channels,
            "rates": tuple(decoder_atrous_rates),
            "separable": decoder_aspp_separable,
            "dropout": decoder_aspp_dropout,
        },
        renames=(
            *aspp_renames(decoder_atrous_rates),
            (r"^decoder\.conv\.0$", "decoder.conv"),
            (r"^decoder\.conv\.1$", "decoder.bn"),
        ),
    )


def deeplabv3plus(
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = True,
    decoder_aspp_dropout: float = 0.5,
    upsampling: int = 4,
) -> Recipe:
    """How smp's DeepLabV3Plus is made here."""
    check_upsampling(upsampling, 4)
    same = deeplabv3(
        encoder_depth=encoder_depth,
        encoder_output_stride=encoder_output_stride,
        decoder_channels=decoder_channels,
        decoder_atrous_rates=decoder_atrous_rates,
        decoder_aspp_separable=decoder_aspp_separable,
        decoder_aspp_dropout=decoder_aspp_dropout,
    )
    return Recipe(
        options=same.options,
        renames=(
            *aspp_renames(decoder_atrous_rates),
            (r"^decoder\.aspp\.", "decoder.aspp.0."),
            (r"^decoder\.context\.1$", "decoder.aspp.2"),
            (r"^decoder\.context\.depthwise$", "decoder.aspp.1.0"),
            (r"^decoder\.context\.pointwise$", "decoder.aspp.1.1"),
            (r"^decoder\.reduce\.", "decoder.block1."),
            (r"^decoder\.fuse\.1$", "decoder.block2.1"),
            (r"^decoder\.fuse\.depthwise$", "decoder.block2.0.0"),
            (r"^decoder\.fuse\.pointwise$", "decoder.block2.0.1"),
        ),
    )


SMP: dict[str, Callable[..., Recipe]] = {"deeplabv3": deeplabv3, "deeplabv3plus": deeplabv3plus}

RATES = (12, 24, 36)
DEEPLABV3 = (
    *aspp_renames(RATES),
    (r"^decoder\.aspp\.", "classifier.0."),
    (r"^decoder\.conv\.0$", "classifier.1"),
    (r"^decoder\.conv\.1$", "classifier.2"),
    (r"^head\.0$", "classifier.4"),
    *AUXILIARY,
)


def torchvision_deeplabv3(encoder: str, **options: object) -> TorchvisionModel:
    """How torchvision's DeepLabV3 is made here on `encoder`; `options` are further arguments of `create_model`."""
    options = {"rates": RATES, "align_corners": False, **options}
    return TorchvisionModel("deeplabv3", encoder, options, DEEPLABV3, "classifier.4")


TORCHVISION = {
    "deeplabv3_resnet50": torchvision_deeplabv3("resnet50", **RESNET),
    "deeplabv3_resnet101": torchvision_deeplabv3("resnet101", **RESNET),
    "deeplabv3_mobilenet_v3_large": torchvision_deeplabv3("mobilenet_v3_large", auxiliary_level="c3", **MOBILENET),
}
