"""Names of MobileNetV2's weights."""

from functools import partial

from jaxseg.encoders.mobilenet_v2 import MobileNetV2
from jaxseg.pretrained.names.inverted_residual import flat_index, sequential_key, timm_key
from jaxseg.pretrained.names.source import SYMMETRIC, ModulePath, Source, Spelling

# In many older files a block is one flat Sequential of convolutions, normalizations and ReLUs: 0, 1, _, 3, 4, _, 6, 7;
# in the first block, which does not expand, 0, 1, _, 3, 4. In torchvision all convolutions but the last have their own.
FLAT = Spelling(
    r"features\.2\.conv\.7\.weight",
    (
        (r"^(features\.1\.conv)\.3\.", r"\1.<1>."),
        (r"^(features\.1\.conv)\.4\.", r"\1.<2>."),
        (r"^(features\.\d+\.conv)\.3\.", r"\1.<1.0>."),
        (r"^(features\.\d+\.conv)\.4\.", r"\1.<1.1>."),
        (r"^(features\.\d+\.conv)\.6\.", r"\1.<2>."),
        (r"^(features\.\d+\.conv)\.7\.", r"\1.<3>."),
        (r"^(features\.\d+\.conv)\.([01])\.", r"\1.0.\2."),
        (r"[<>]", ""),
    ),
)


def sources(encoder: MobileNetV2) -> dict[str, Source]:
    """Returns {library: how it names the weights of `encoder`}."""
    named = partial(key, stages=encoder.stages)
    torchvision_head = ("classifier.",) if encoder.last_conv else ("features.18.", "classifier.")
    keras_head = ("predictions.",) if encoder.last_conv else ("Conv_1.", "Conv_1_bn.", "predictions.")
    tensorflow = {"padding": "tensorflow", "momentum": 0.999, "epsilon": 1e-3}
    timm_head = ("classifier.",) if encoder.last_conv else ("conv_head.", "bn2.", "classifier.")
    return {
        "torchvision": Source(named, torchvision_head, spellings=(FLAT,)),
        "timm": Source(timm_key, timm_head, options={"last_conv": False, "dilate_first": False}),
        "smp": Source(named, torchvision_head, spellings=(FLAT,)),
        "keras": Source(partial(keras_key, stages=encoder.stages), keras_head, tensorflow, pixels=SYMMETRIC),
    }


def key(path: ModulePath, *, stages: list) -> str:
    """Names a module as torchvision and smp do.

    Args:
      path: of the module.
      stages: the encoder's.

    >>> key(("stage1_block0", "project", "norm"), stages=MobileNetV2().stages)
    'features.2.conv.3'
    """
    kind = ("conv", "norm").index(path[-1])
    if path[0] in ("stem", "last"):
        return f"features.{0 if path[0] == 'stem' else sum(map(len, stages)) + 1}.{kind}"
    prefix = f"features.{flat_index(stages, path[0]) + 1}.conv"
    expanded = not path[0].startswith("stage0_")
    if path[1] == "project":  # not a Sequential of its own
        return f"{prefix}.{1 + expanded + kind}"
    return sequential_key(path, prefix, expanded=expanded, squeezed=False)


def keras_key(path: ModulePath, *, stages: list) -> str:
    """Names a module as Keras Applications does.

    Args:
      path: of the module.
      stages: the encoder's.

    >>> keras_key(("stage1_block0", "project", "norm"), stages=MobileNetV2().stages)
    'block_1_project_BN'
    """
    norm = path[-1] == "norm"
    if path[0] in ("stem", "last"):
        return {"stem": ("Conv1", "bn_Conv1"), "last": ("Conv_1", "Conv_1_bn")}[path[0]][norm]
    number = flat_index(stages, path[0])
    return f"{f'block_{number}' if number else 'expanded_conv'}_{path[1]}{'_BN' if norm else ''}"
