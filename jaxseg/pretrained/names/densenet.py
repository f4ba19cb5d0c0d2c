"""Names of DenseNet's weights."""

from jaxseg.encoders.densenet import DenseNet
from jaxseg.pretrained.names.source import ModulePath, Source, Spelling

# torchvision's published files have "norm.1" for what its module calls "norm1"
PUBLISHED = Spelling(r"denselayer\d+\.norm\.1\.", ((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),))


def sources(encoder: DenseNet) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    common = {"head": ("classifier.",), "spellings": (PUBLISHED,)}
    return {
        "torchvision": Source(key, **common),
        "timm": Source(key, options={"raw_levels": True}, **common),
        "smp": Source(key, **common),
        "keras": Source(keras_key, head=("predictions.",)),
    }


def key(path: ModulePath) -> str:
    """Names a module as torchvision, timm and smp do.

    >>> key(("block2_layer7", "conv1"))
    'features.denseblock2.denselayer7.conv1'
    >>> key(("transition1_norm",)), key(("stem", "norm"))
    ('features.transition1.norm', 'features.norm0')
    """
    if path[0] == "stem":
        return f"features.{path[1]}0"
    name = ".".join(path).replace("block", "denseblock").replace("layer", "denselayer")
    return f"features.{name.replace('_', '.')}"


def keras_key(path: ModulePath) -> str:
    """Names a module as Keras Applications does.

    >>> keras_key(("block2_layer7", "conv1")), keras_key(("block2_layer7", "norm1"))
    ('conv3_block7_1_conv', 'conv3_block7_0_bn')
    >>> keras_key(("transition1_norm",)), keras_key(("norm5",)), keras_key(("stem", "norm"))
    ('pool2_bn', 'bn', 'conv1_bn')
    """
    first, *rest = path
    if first == "stem":
        return {"conv": "conv1_conv", "norm": "conv1_bn"}[rest[0]]
    if first == "norm5":
        return "bn"
    if not rest:
        number, kind = first.removeprefix("transition").split("_")
        return f"pool{int(number) + 1}_{'bn' if kind == 'norm' else kind}"
    block, layer = first.removeprefix("block").split("_layer")
    part = {"norm1": "0_bn", "conv1": "1_conv", "norm2": "1_bn", "conv2": "2_conv"}[rest[0]]
    return f"conv{int(block) + 1}_block{layer}_{part}"
