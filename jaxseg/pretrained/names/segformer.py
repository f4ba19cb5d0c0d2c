"""Names of the weights of smp's Segformer."""

from collections.abc import Callable

from jaxseg.pretrained.names.recipe import Recipe, check_upsampling


def segformer(*, encoder_depth: int = 5, decoder_segmentation_channels: int = 256, upsampling: int = 4) -> Recipe:
    """How smp's Segformer is made here; its arguments and their defaults are smp's."""
    check_upsampling(upsampling, 4)
    levels = range(1, encoder_depth + 1)
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "features": decoder_segmentation_channels,
            "levels": tuple(f"c{i}" for i in levels),
        },
        renames=(
            *((rf"^decoder\.project_c{i}$", f"decoder.mlp_stage.{encoder_depth - i}.linear") for i in levels),
            (r"^decoder\.fuse\.", "decoder.fuse_stage."),
        ),
    )


SMP: dict[str, Callable[..., Recipe]] = {"segformer": segformer}
