"""Weights for an encoder by the name of their source: a package, a bundle, a file of PyTorch's, a hub repository."""

from pathlib import Path
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError, suggest
from jaxseg.encoders import create_encoder
from jaxseg.pretrained.bundle import is_bundle, load_bundle
from jaxseg.pretrained.convert import convert_encoder, torch_name, variables_template
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.imagenet import PACKAGES, imagenet_state_dict
from jaxseg.pretrained.state_dict import read_state_dict

SOURCES = ("torchvision", "timm", "smp")
PREFIXES = ("", "encoder.", "encoder.model.", "backbone.", "model.", "module.")  # of a backbone within a model


def load_encoder(name: str, source: str, *, in_channels: int = 3, **options) -> dict[str, Any]:
    """Loads weights for the encoder `name`.

    Args:
      name: a key of `jaxseg.ENCODERS`.
      source: "imagenet", trained on ImageNet-1k, from an installed package; or the path of a bundle, of a folder with
        one `.safetensors`, or of a `.safetensors` or `.pth` state dict of torchvision, timm or smp (a classifier or a
        whole model: it is told by its names); or one of these as `hf:OWNER/REPO` on the Hugging Face hub.
      in_channels: of the pictures; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    encoder = create_encoder(name, **options)
    if source in PACKAGES:
        state_dict = imagenet_state_dict(name, encoder, source)
        return convert_encoder(encoder, name, state_dict, source="timm", in_channels=in_channels)
    if not str(source).startswith("hf:") and not Path(source).expanduser().exists():
        raise UserError(
            f"Unknown source of encoder weights '{source}': no such file or folder. {suggest(source, PACKAGES)}"
            " Or name a file, a folder or hf:OWNER/REPO."
        )
    path = locate(source)
    if path.is_dir() and is_bundle(path):
        return _from_bundle(path, name, encoder)
    state_dict = read_state_dict(_one_file(path))
    library, prefix = guess_names(encoder, name, state_dict)
    if prefix:
        state_dict = {key.removeprefix(prefix): v for key, v in state_dict.items() if key.startswith(prefix)}
    return convert_encoder(encoder, name, state_dict, source=library, in_channels=in_channels)


def guess_names(encoder: nn.Module, name: str, state_dict: dict[str, Any]) -> tuple[str, str]:
    """Returns the library whose names the entries have, and the prefix before them: the pair that explains most."""
    if not hasattr(encoder, "torch_key"):
        raise UserError(f"Encoder '{name}' has no published weights to convert. Train it from random weights.")
    paths = flatten_dict(variables_template(encoder)).keys()
    best, most = ("torchvision", ""), 0
    for source in SOURCES:
        torch_key = getattr(encoder, f"{source}_key", encoder.torch_key)
        names = [torch_name(path, torch_key) for path in paths]
        for prefix in PREFIXES:
            explained = sum(prefix + key in state_dict for key in names)
            if explained > most:
                best, most = (source, prefix), explained
    return best


def _from_bundle(path, name, encoder):
    """The variables of a bundle's encoder, which must be this one."""
    module, variables, _ = load_bundle(path)
    if hasattr(module, "encoder"):
        module = module.encoder
        variables = {kind: values.get("encoder", {}) for kind, values in variables.items()}
    theirs, ours = (
        {path: x.shape for path, x in flatten_dict(tree).items()} for tree in (variables, variables_template(encoder))
    )
    if theirs != ours:
        raise UserError(
            f"The bundle {path} holds the encoder {type(module).__name__}, whose weights do not fit '{name}'."
        )
    return variables


def _one_file(path):
    """`path`, or the one `.safetensors` of a folder."""
    if path.is_file():
        return path
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise UserError(f"{path} holds {len(files)} .safetensors files, expected one. Name the file.")
    return files[0]
