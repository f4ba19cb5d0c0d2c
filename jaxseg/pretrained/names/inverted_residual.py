"""Names of the weights of inverted residuals, which MobileNets and EfficientNets share."""

from collections.abc import Sequence
from typing import Any

from jaxseg.pretrained.names.source import ModulePath


def flat_index(stages: Sequence[Sequence[Any]], name: str) -> int:
    """Returns the number of a block, e.g. "stage2_block1", among the blocks of all stages, from 0.

    >>> flat_index(["abc", "d", "ef"], "stage2_block1")
    5
    """
    stage, block = map(int, name.removeprefix("stage").split("_block"))
    return sum(map(len, stages[:stage])) + block


def timm_key(path: ModulePath) -> str:
    """Names a module as timm does: layers are numbered, and the blocks of the first stage have none that expands.

    >>> timm_key(("stage1_block0", "project", "norm"))
    'blocks.1.0.bn3'
    >>> timm_key(("stage0_block0", "project", "conv"))
    'blocks.0.0.conv_pw'
    """
    expanded = not path[0].startswith("stage0_")
    *block, layer, kind = path if len(path) > 2 or path[0] in ("stem", "last") else (*path, "")
    if not block:
        return {"stem": {"conv": "conv_stem", "norm": "bn1"}, "last": {"conv": "conv_head", "norm": "bn2"}}[layer][kind]
    prefix = block[0].replace("stage", "blocks.").replace("_block", ".")
    if not kind:
        return f"{prefix}.se.conv_{layer.replace('squeeze', 'reduce').replace('excite', 'expand')}"
    convs = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl" if expanded else "conv_pw"}
    number = ("expand", "depthwise", "project").index(layer) + expanded
    return f"{prefix}.{convs[layer] if kind == 'conv' else f'bn{number}'}"


def sequential_key(path: ModulePath, prefix: str, *, expanded: bool, squeezed: bool) -> str:
    """Names a module of the block `prefix` as torchvision does: a Sequential of Sequentials of convolution and norm.

    Args:
      path: of the module.
      prefix: of the block's names.
      expanded: whether the block has a convolution that expands.
      squeezed: whether it has squeeze and excitation.

    >>> sequential_key(("stage1_block0", "excite"), "features.2.block", expanded=True, squeezed=True)
    'features.2.block.2.fc2'
    """
    layer = path[1]
    places = ["expand"] * expanded + ["depthwise"] + ["squeeze"] * squeezed + ["project"]
    if layer in ("squeeze", "excite"):
        return f"{prefix}.{places.index('squeeze')}.{'fc1' if layer == 'squeeze' else 'fc2'}"
    return f"{prefix}.{places.index(layer)}.{('conv', 'norm').index(path[2])}"
