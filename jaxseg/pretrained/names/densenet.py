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
