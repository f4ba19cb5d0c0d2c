"""Names of MobileNetV3's weights."""

from functools import partial
from typing import Any

from jaxseg.encoders.mobilenet_v3 import MobileNetV3
from jaxseg.pretrained.names import inverted_residual
from jaxseg.pretrained.names.inverted_residual import flat_index, sequential_key
from jaxseg.pretrained.names.source import ModulePath, Source


def sources(encoder: MobileNetV3) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    last = f"features.{sum(map(len, encoder.stages)) + 1}."
    torchvision_head = ("classifier.",) if encoder.last_conv else (last, "classifier.")
    timm_head = ("conv_head.", "norm_head.", "classifier.")
    if not encoder.last_conv:
        timm_head = (f"blocks.{len(encoder.stages)}.", *timm_head)
    return {
        "torchvision": Source(partial(torchvision_key, stages=encoder.stages), torchvision_head),
        "timm": Source(
            partial(timm_key, stages=encoder.stages), timm_head, options={"momentum": 0.9, "dilate_first": False}
        ),
    }


def torchvision_key(path: ModulePath, *, stages: Any) -> str:
    """Names a module as torchvision does.

    Args:
      path: of the module.
      stages: the encoder's.

    >>> torchvision_key(("stage2_block0", "squeeze"), stages=MobileNetV3().stages)
    'features.4.block.2.fc1'
    """
    if path[0] in ("stem", "last"):
        number = 0 if path[0] == "stem" else sum(map(len, stages)) + 1
        return f"features.{number}.{('conv', 'norm').index(path[1])}"
    index = flat_index(stages, path[0])
    squeezed = [block.squeezed > 0 for stage in stages for block in stage][index]
    return sequential_key(path, f"features.{index + 1}.block", expanded=index > 0, squeezed=squeezed)


def timm_key(path: ModulePath, *, stages: Any) -> str:
    """Names a module as timm does.

    Args:
      path: of the module.
      stages: the encoder's.

    >>> timm_key(("last", "conv"), stages=MobileNetV3().stages)
    'blocks.6.0.conv'
    """
    if path[0] == "last":
        return f"blocks.{len(stages)}.0.{'conv' if path[1] == 'conv' else 'bn1'}"
    return inverted_residual.timm_key(path)
