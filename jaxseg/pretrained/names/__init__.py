"""Names of weights in other libraries: one file a family of encoders or decoders.

The file of an encoder's family has a function from an encoder to {library: `Source`}, the library being "torchvision",
"timm", "smp" or "keras"; `FAMILIES` finds it by the encoder's class. A `Source` holds

- `key`: from the path of a module of the encoder to the name of the same module in the library. The encoder's first
  convolution is ("stem", "conv"), or what the encoder's `stem` says. `tests/pretrained/test_names.py` asks that no two
  modules share a name;
- `head`: the prefixes of names that lie beyond the encoder's features, such as the classifier's;
- `options`: the encoder's fields with which it computes what the library's does, where the defaults do not;
- `spellings`: how older files spell the names;
- `pixels`: how the library normalizes images, where the encoder does it in another way.

Such an encoder has a field `depth`, the number of levels to compute. One without published weights is not listed.

The file of a family of decoders says how a model of smp (`SMP_MODELS`) or of torchvision (`TORCHVISION_MODELS`) is made
here, and what its layers are called there.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.encoders.convnext import ConvNeXt
from jaxseg.encoders.densenet import DenseNet
from jaxseg.encoders.efficientnet import EfficientNet, EfficientNetLite
from jaxseg.encoders.mit import MiT
from jaxseg.encoders.mobilenet_v2 import MobileNetV2
from jaxseg.encoders.mobilenet_v3 import MobileNetV3
from jaxseg.encoders.resnet import ResNet
from jaxseg.encoders.vgg import VGG
from jaxseg.pretrained.names import (
    convnext,
    deeplab,
    densenet,
    efficientnet,
    fcn,
    lraspp,
    mit,
    mobilenet_v2,
    mobilenet_v3,
    pyramids,
    resnet,
    segformer,
    unets,
    vgg,
)
from jaxseg.pretrained.names.recipe import Recipe, TorchvisionModel
from jaxseg.pretrained.names.source import Source

FAMILIES: dict[type[nn.Module], Callable[[Any], dict[str, Source]]] = {
    ConvNeXt: convnext.sources,
    DenseNet: densenet.sources,
    EfficientNet: efficientnet.sources,
    EfficientNetLite: efficientnet.lite_sources,
    MiT: mit.sources,
    MobileNetV2: mobilenet_v2.sources,
    MobileNetV3: mobilenet_v3.sources,
    ResNet: resnet.sources,
    VGG: vgg.sources,
}
SMP_MODELS: dict[str, Callable[..., Recipe]] = {**unets.SMP, **pyramids.SMP, **deeplab.SMP, **segformer.SMP}
TORCHVISION_MODELS: dict[str, TorchvisionModel] = {**fcn.TORCHVISION, **deeplab.TORCHVISION, **lraspp.TORCHVISION}

__all__ = ["FAMILIES", "SMP_MODELS", "TORCHVISION_MODELS", "Source", "find_source", "find_sources"]


def find_sources(encoder: nn.Module, name: str) -> dict[str, Source]:
    """Returns {library: `Source`} of an encoder with published weights.

    Args:
      encoder: made by `create_encoder`.
      name: of the encoder, for the error.

    Raises:
      UserError: if nobody has published weights for it.
    """
    if type(encoder) not in FAMILIES:
        raise UserError(f"Encoder '{name}' has no published weights to convert. Train it from random weights.")
    return FAMILIES[type(encoder)](encoder)


def find_source(encoder: nn.Module, name: str, library: str) -> Source:
    """Returns how `library` ("torchvision", "timm" or "smp") names the weights of an encoder.

    >>> from jaxseg.encoders import create_encoder
    >>> find_source(create_encoder("resnet18"), "resnet18", "timm").key(("stem", "norm"))
    'bn1'
    """
    known = find_sources(encoder, name)
    if library not in known:
        raise UserError(
            f"{library} has no encoder '{name}': its weights are published with the names of {' and '.join(known)}."
        )
    return known[library]
