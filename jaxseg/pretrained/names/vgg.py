"""Names of VGG's weights."""

from functools import partial

from jaxseg.encoders.vgg import VGG
from jaxseg.pretrained.names.source import ModulePath, Source


def sources(encoder: VGG) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    named = partial(key, convs=encoder.convs, normalized=encoder.norm is not None)
    return {
        "torchvision": Source(named, head=("classifier.",)),
        "timm": Source(named, head=("pre_logits.", "head.")),
        "smp": Source(named, head=("classifier.",)),
    }


def key(path: ModulePath, *, convs: tuple[int, ...], normalized: bool) -> str:
    """Names a module as torchvision, timm and smp do: all layers, with poolings and ReLUs, are numbered.

    Args:
      path: of the module.
      convs: the number of convolutions of each block.
      normalized: whether a normalization follows each convolution.

    >>> key(("conv3_2", "conv"), convs=(1, 1, 2, 2, 2), normalized=False)
    'features.8'
    >>> key(("conv3_2", "norm"), convs=(1, 1, 2, 2, 2), normalized=True)
    'features.12'
    """
    layer, kind = path
    block, i = (1, 1) if layer == "stem" else map(int, layer.removeprefix("conv").split("_"))
    before = sum(convs[: block - 1]) + i - 1
    of_each = 3 if normalized else 2
    return f"features.{before * of_each + block - 1 + ('conv', 'norm').index(kind)}"
