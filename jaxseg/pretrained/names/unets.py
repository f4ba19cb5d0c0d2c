"""Names of the weights of smp's decoders that climb the encoder's levels: Unet, UnetPlusPlus, Linknet, MAnet.

One function an architecture; its arguments and their defaults are smp's.
"""

from collections.abc import Callable, Sequence

from jaxseg.pretrained.names.recipe import Recipe

SCSE = (
    (r"\.channel\.squeeze$", ".attention.cSE.1"),
    (r"\.channel\.excite$", ".attention.cSE.3"),
    (r"\.spatial$", ".attention.sSE.0"),
)


def unet(
    *,
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    decoder_interpolation: str = "nearest",
) -> Recipe:
    """How smp's Unet is made here."""
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "decoder_channels": tuple(decoder_channels),
            "attention": decoder_attention_type,
            "method": decoder_interpolation,
        },
        renames=(
            *SCSE,
            (r"^decoder\.center\.conv1\.", "decoder.center.0."),
            (r"^decoder\.center\.conv2\.", "decoder.center.1."),
            (r"^decoder\.block", "decoder.blocks."),
        ),
        idle=rf"decoder\.blocks\.{encoder_depth - 1}\.attention1\.",  # of the last block, without a skip to attend to
        switches={"center": "decoder.center."},  # which smp has with VGG
    )


def unetplusplus(
    *,
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    decoder_interpolation: str = "nearest",
) -> Recipe:
    """How smp's UnetPlusPlus is made here, which counts nodes from the deepest level."""
    like = unet(
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_attention_type=decoder_attention_type,
        decoder_interpolation=decoder_interpolation,
    )
    nodes = [
        (rf"^decoder\.x{i}_{j}\.", f"decoder.blocks.x_{encoder_depth - i - j}_{encoder_depth - 1 - i}.")
        for i in range(encoder_depth)
        for j in range(1, encoder_depth + 1 - i)
    ]
    return Recipe(
        options=like.options,
        renames=(*SCSE, *nodes),
        idle=rf"decoder\.(center|blocks\.x_0_{encoder_depth - 1}\.attention1)\.",  # the center is made with VGG
    )


def linknet(*, encoder_depth: int = 5) -> Recipe:
    """How smp's Linknet is made here."""
    return Recipe(
        options={"encoder_options": {"depth": encoder_depth}},
        renames=(
            (r"^decoder\.block(\d)\.", r"decoder.blocks.\1.block."),
            (r"\.reduce\.(\d)$", r".0.\1"),
            (r"\.double$", ".1.0"),
            (r"\.double_norm$", ".1.1"),
            (r"\.expand\.(\d)$", r".2.\1"),
        ),
    )


def manet(
    *,
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_pab_channels: int = 64,
    decoder_interpolation: str = "nearest",
) -> Recipe:
    """How smp's MAnet is made here."""
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "decoder_channels": tuple(decoder_channels),
            "pab_features": decoder_pab_channels,
            "method": decoder_interpolation,
        },
        renames=(
            (r"^decoder\.pab\.key$", "decoder.center.top_conv"),
            (r"^decoder\.pab\.query$", "decoder.center.center_conv"),
            (r"^decoder\.pab\.value$", "decoder.center.bottom_conv"),
            (r"^decoder\.pab\.project$", "decoder.center.out_conv"),
            (r"^decoder\.block", "decoder.blocks."),
            (r"\.reduce1\.", ".hl_conv.0."),
            (r"\.reduce2\.", ".hl_conv.1."),
            (r"\.weigh\.", ".SE_hl."),
            (r"\.weigh_skip\.", ".SE_ll."),
            (r"\.squeeze$", ".1"),
            (r"\.excite$", ".3"),
        ),
    )


SMP: dict[str, Callable[..., Recipe]] = {
    "unet": unet,
    "unetplusplus": unetplusplus,
    "linknet": linknet,
    "manet": manet,
}
