"""Names of VGG's weights."""

from functools import partial

from jaxseg.encoders.vgg import VGG
from jaxseg.pretrained.names.source import CAFFE, ModulePath, Source, Spelling

# HED (holistically-nested edge detection) in Keras, a Sequential for each block, whose layers are numbered in the file
HED = Spelling(
    r"^block1\.conv2d\.",
    (
        (r"^(block\d)\.conv2d\.", r"\1_conv1."),
        (r"^(block\d)\.conv2d_1\.", r"\1_conv2."),
        (r"^(block\d)\.conv2d_2\.", r"\1_conv3."),
    ),
)


def sources(encoder: VGG) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    named = partial(key, convs=encoder.convs, normalized=encoder.norm is not None)
    known = {
        "torchvision": Source(named, head=("classifier.",)),
        "timm": Source(named, head=("pre_logits.", "head.")),
        "smp": Source(named, head=("classifier.",)),
    }
    if encoder.norm is None:
        head = ("fc1.", "fc2.", "predictions.", "dsn", "fuse.")
        known["keras"] = Source(keras_key, head, spellings=(HED,), pixels=CAFFE)
    return known


def keras_key(path: ModulePath) -> str:
    """Names a module as Keras Applications does.

    >>> keras_key(("conv3_2", "conv")), keras_key(("stem", "conv"))
    ('block3_conv2', 'block1_conv1')
    """
    return "block1_conv1" if path[0] == "stem" else path[0].replace("conv", "block").replace("_", "_conv")


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
