"""Names of ResNet's weights, and of ResNeXt's and Wide ResNet's."""

from jaxseg.encoders.resnet import ResNet
from jaxseg.pretrained.names.source import ModulePath, Source


def sources(encoder: ResNet) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    head = ("fc.",)
    return {
        "torchvision": Source(key, head),
        "timm": Source(key, head, options={"dilate_first": False}),
        "smp": Source(key, head),
    }


def key(path: ModulePath) -> str:
    """Names a module as torchvision, timm and smp do.

    >>> key(("stem", "norm"))
    'bn1'
    >>> key(("stage2_block0", "shortcut", "conv"))
    'layer2.0.downsample.0'
    """
    *block, layer, kind = path
    if not block:
        return {"conv": "conv1", "norm": "bn1"}[kind]
    prefix = block[0].replace("stage", "layer").replace("_block", ".")
    if layer == "shortcut":
        return f"{prefix}.downsample.{('conv', 'norm').index(kind)}"
    return f"{prefix}.{layer if kind == 'conv' else layer.replace('conv', 'bn')}"
