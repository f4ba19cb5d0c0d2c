"""Names of the weights of EfficientNet and EfficientNet-Lite."""

from functools import partial
from typing import Any

from jaxseg.encoders.efficientnet import SCALES, EfficientNet, EfficientNetLite
from jaxseg.pretrained.names.inverted_residual import flat_index, sequential_key, timm_key
from jaxseg.pretrained.names.source import ModulePath, Renames, Source, Spelling

TIMM_HEAD = ("conv_head.", "bn2.", "classifier.")
KERAS_HEAD = ("top_conv.", "top_bn.", "predictions.", "normalization.")


def sources(encoder: EfficientNet) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    smp_head = ("_conv_head.", "_bn1.", "_fc.")
    return {
        "torchvision": Source(torchvision_key, head=("features.8.", "classifier.")),
        "timm": Source(timm_key, TIMM_HEAD, options={"dilate_first": False}),
        "smp": Source(partial(smp_key, stages=encoder.stages), smp_head, options=smp_options(encoder)),
        "keras": Source(keras_key, KERAS_HEAD, {"padding": "tensorflow", "momentum": 0.99, "epsilon": 1e-3}),
    }


def lite_sources(encoder: EfficientNetLite) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}; smp takes its own from timm."""
    packages = Spelling(r"^_blocks\.0\._depthwise_conv\.", lite_renames(encoder))
    return {
        "timm": Source(timm_key, TIMM_HEAD, options={"dilate_first": False}, spellings=(packages,)),
        "smp": Source(timm_key, TIMM_HEAD),
    }


def lite_renames(encoder: EfficientNetLite) -> Renames:
    """Returns the substitutions from the names in the packages of ML Illustrated to timm's.

    These number the blocks of all stages together, and their normalizations from 0, which timm numbers from 1, in the
    first stage, which does not expand, without a gap.
    """
    stages = [(stage, block) for stage, count in enumerate(encoder.repeats) for block in range(count)]
    blocks = ((rf"^_blocks\.{i}\.", f"blocks.{stage}.{block}.") for i, (stage, block) in enumerate(stages))
    return (
        *blocks,
        (r"^_conv_stem\.", "conv_stem."),
        (r"^_bn0\.", "bn1."),
        (r"^_conv_head\.", "conv_head."),
        (r"^_bn1\.", "bn2."),
        (r"^_fc\.", "classifier."),
        (r"\._expand_conv\.", ".conv_pw."),
        (r"\._depthwise_conv\.", ".conv_dw."),
        (r"^(blocks\.0\.\d+)\._project_conv\.", r"\1.conv_pw."),
        (r"\._project_conv\.", ".conv_pwl."),
        (r"^(blocks\.0\.\d+)\._bn([12])\.", r"\1.bn\2."),
        (r"\._bn0\.", ".bn1."),
        (r"\._bn1\.", ".bn2."),
        (r"\._bn2\.", ".bn3."),
    )


def smp_options(encoder: EfficientNet) -> dict[str, Any]:
    """Returns the fields with which `encoder` is smp's."""
    side = {(width, stretch): side for width, stretch, side in SCALES}[encoder.width, encoder.stretch]
    statistics = {"momentum": 0.99, "epsilon": 1e-3}
    # smp counts the blocks of B0 as if stage 4 ended with its first
    early = ("c1", "stage4_block0") if side == 224 else ("c1",)
    return {"padding": side, **statistics, "early_levels": early, "dilate_first": True}


def torchvision_key(path: ModulePath) -> str:
    """Names a module as torchvision does.

    >>> torchvision_key(("stage1_block0", "project", "norm"))
    'features.2.0.block.3.1'
    """
    if path[0] == "stem":
        return f"features.0.{('conv', 'norm').index(path[1])}"
    stage, block = path[0].removeprefix("stage").split("_block")
    prefix = f"features.{int(stage) + 1}.{block}.block"
    return sequential_key(path, prefix, expanded=stage != "0", squeezed=True)


def smp_key(path: ModulePath, *, stages: Any) -> str:
    """Names a module as smp's `efficientnet-b0` and its kin do.

    Args:
      path: of the module.
      stages: the encoder's.

    >>> smp_key(("stage2_block1", "project", "norm"), stages=EfficientNet().stages)
    '_blocks.4._bn2'
    """
    if path[0] == "stem":
        return {"conv": "_conv_stem", "norm": "_bn0"}[path[1]]
    prefix = f"_blocks.{flat_index(stages, path[0])}"
    if path[1] in ("squeeze", "excite"):
        return f"{prefix}.{'_se_reduce' if path[1] == 'squeeze' else '_se_expand'}"
    number = ("expand", "depthwise", "project").index(path[1])
    return f"{prefix}.{f'_{path[1]}_conv' if path[2] == 'conv' else f'_bn{number}'}"


def keras_key(path: ModulePath) -> str:
    """Names a module as Keras Applications does: the stages count from 1, their blocks from a.

    >>> keras_key(("stage2_block1", "depthwise", "norm")), keras_key(("stage0_block0", "squeeze"))
    ('block3b_bn', 'block1a_se_reduce')
    """
    if path[0] == "stem":
        return {"conv": "stem_conv", "norm": "stem_bn"}[path[1]]
    stage, block = map(int, path[0].removeprefix("stage").split("_block"))
    layer = "_".join(path[1:])
    layer = {"squeeze": "se_reduce", "excite": "se_expand", "depthwise_conv": "dwconv", "depthwise_norm": "bn"}.get(
        layer, layer.replace("norm", "bn")
    )
    return f"block{stage + 1}{chr(ord('a') + block)}_{layer}"
