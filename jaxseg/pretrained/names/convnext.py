"""Names of ConvNeXt's weights."""

import re

from jaxseg.encoders.convnext import ConvNeXt
from jaxseg.pretrained.names.source import ModulePath, Source

# Of the parts of a block.
TIMM = {
    "depthwise": "conv_dw",
    "norm": "norm",
    "expand": "mlp.fc1",
    "project": "mlp.fc2",
    "layer_scale": "gamma",
}
TORCHVISION = {
    "depthwise": "block.0",
    "norm": "block.2",
    "expand": "block.3",
    "project": "block.5",
    "layer_scale": "layer_scale",
}


def sources(encoder: ConvNeXt) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    return {
        "torchvision": Source(torchvision_key, head=("classifier.",)),
        "timm": Source(timm_key, head=("head.",)),
        "smp": Source(smp_key, head=("head.",)),
    }


def timm_key(path: ModulePath) -> str:
    """Names a module as timm does.

    >>> timm_key(("stage2_down", "conv"))
    'stages.1.downsample.1'
    >>> timm_key(("stage3_block8", "project"))
    'stages.2.blocks.8.mlp.fc2'
    """
    first, layer = path
    if first == "stem":
        return {"conv": "stem.0", "norm": "stem.1"}[layer]
    stage, kind, block = re.fullmatch(r"stage(\d)_([a-z]+)(\d*)", first).groups()
    if kind == "down":
        return f"stages.{int(stage) - 1}.downsample.{('norm', 'conv').index(layer)}"
    return f"stages.{int(stage) - 1}.blocks.{block}.{TIMM[layer]}"


def smp_key(path: ModulePath) -> str:
    """Names a module as timm's feature extractor does, which smp wraps.

    >>> smp_key(("stage2_down", "conv"))
    'stages_1.downsample.1'
    """
    return timm_key(path).replace(".", "_", 1)


def torchvision_key(path: ModulePath) -> str:
    """Names a module as torchvision does.

    >>> torchvision_key(("stage2_down", "conv"))
    'features.2.1'
    >>> torchvision_key(("stage3_block8", "layer_scale"))
    'features.5.8.layer_scale'
    """
    first, layer = path
    if first == "stem":
        return {"conv": "features.0.0", "norm": "features.0.1"}[layer]
    stage, kind, block = re.fullmatch(r"stage(\d)_([a-z]+)(\d*)", first).groups()
    if kind == "down":
        return f"features.{2 * int(stage) - 2}.{('norm', 'conv').index(layer)}"
    return f"features.{2 * int(stage) - 1}.{block}.{TORCHVISION[layer]}"
