"""Names of the weights of smp's decoders that read a pyramid of features: PAN, FPN, PSPNet, UPerNet.

One function an architecture; its arguments and their defaults are smp's.
"""

from collections.abc import Callable

from jaxseg.pretrained.names.recipe import Recipe, check_upsampling


def pan(
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 32,
    decoder_interpolation: str = "bilinear",
    upsampling: int = 4,
) -> Recipe:
    """How smp's PAN is made here."""
    check_upsampling(upsampling, 4)
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "output_stride": encoder_output_stride,
            "features": decoder_channels,
            "method": decoder_interpolation,
            "conv_bias": True,
        },
        renames=(
            (r"^(decoder\..*)\.0$", r"\1.conv"),
            (r"^(decoder\..*)\.1$", r"\1.bn"),
            (r"\.image\.", ".branch1.1."),
            (r"\.middle\.", ".mid.0."),
            (r"\.down(\d)\.", r".down\1.1."),
            (r"\.across3\.", ".down3.2."),
            (r"\.across(\d)\.", r".conv\1."),
            *((rf"^decoder\.gau_c{i}\.", f"decoder.gau{i - 1}.") for i in (2, 3, 4)),
            (r"\.weigh\.", ".conv1.1."),
            (r"\.detail\.", ".conv2."),
        ),
    )


def fpn(
    *,
    encoder_depth: int = 5,
    decoder_pyramid_channels: int = 256,
    decoder_segmentation_channels: int = 128,
    decoder_merge_policy: str = "add",
    decoder_dropout: float = 0.2,
    decoder_interpolation: str = "nearest",
    upsampling: int = 4,
) -> Recipe:
    """How smp's FPN is made here, which calls the deepest level p5 whatever the encoder's depth."""
    check_upsampling(upsampling, 2 ** (encoder_depth - 3))
    levels = [(encoder_depth - i, 5 - i) for i in range(4)]
    branches = [
        (rf"^decoder\.branch_c{ours}_conv{j + 1}\.", f"decoder.seg_blocks.{5 - theirs}.block.{j}.block.")
        for ours, theirs in levels
        for j in range(3)
    ]
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "pyramid_features": decoder_pyramid_channels,
            "features": decoder_segmentation_channels,
            "policy": decoder_merge_policy,
            "dropout": decoder_dropout,
            "method": decoder_interpolation,
        },
        renames=(
            (rf"^decoder\.lateral_c{encoder_depth}$", "decoder.p5"),
            *((rf"^decoder\.lateral_c{ours}$", f"decoder.p{theirs}.skip_conv") for ours, theirs in levels),
            *branches,
        ),
    )


def pspnet(
    *, encoder_depth: int = 3, psp_out_channels: int = 512, psp_dropout: float = 0.2, upsampling: int = 8
) -> Recipe:
    """How smp's PSPNet is made here."""
    check_upsampling(upsampling, 2**encoder_depth)
    bins = (1, 2, 3, 6)
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "output_stride": 32,
            "level": f"c{encoder_depth}",
            "features": psp_out_channels,
            "bins": bins,
            "projection_kernel": 1,
            "head_kernel": 3,
            "dropout": psp_dropout,
            "auxiliary": False,
        },
        renames=(
            *((rf"^decoder\.bin{n}\.", f"decoder.psp.blocks.{i}.pool.1.") for i, n in enumerate(bins)),
            (r"^decoder\.project\.", "decoder.conv."),
        ),
    )


def upernet(*, encoder_depth: int = 5, decoder_channels: int = 256, upsampling: int = 4) -> Recipe:
    """How smp's UPerNet is made here."""
    check_upsampling(upsampling, 4)
    bins = (1, 2, 3, 6)
    finer = range(2, encoder_depth)  # all levels but the deepest
    return Recipe(
        options={"encoder_options": {"depth": encoder_depth}, "features": decoder_channels, "bins": bins},
        renames=(
            *((rf"^decoder\.norm_c{i}$", f"decoder.feature_norms.{i - 2}") for i in (*finer, encoder_depth)),
            *((rf"^decoder\.bin{n}\.", f"decoder.psp.blocks.{i}.1.") for i, n in enumerate(bins)),
            (r"^decoder\.context\.", "decoder.psp.out_conv."),
            *(
                (rf"^decoder\.lateral_c{i}\.", f"decoder.fpn_lateral_blocks.{encoder_depth - 1 - i}.conv_norm_relu.")
                for i in finer
            ),
            *((rf"^decoder\.smooth_c{i}\.", f"decoder.fpn_conv_blocks.{encoder_depth - 1 - i}.") for i in finer),
            (r"^decoder\.fuse\.", "decoder.fusion_block."),
        ),
    )


SMP: dict[str, Callable[..., Recipe]] = {"pan": pan, "fpn": fpn, "pspnet": pspnet, "upernet": upernet}
