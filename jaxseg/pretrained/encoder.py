"""Weights for an encoder by the name of their source: a package, a bundle, a file of PyTorch's, a hub repository."""

import re
from pathlib import Path
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError, suggest
from jaxseg.encoders import create_encoder
from jaxseg.pretrained.bundle import is_bundle, load_bundle
from jaxseg.pretrained.convert import adapt_input, convert_encoder, respell, torch_name, variables_template
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.imagenet import PACKAGES, imagenet_state_dict
from jaxseg.pretrained.imported import Imported
from jaxseg.pretrained.names import find_source, find_sources
from jaxseg.pretrained.names.origin import Origin, smp_encoder
from jaxseg.pretrained.state_dict import StateDict, read_entries
from jaxseg.pretrained.wrapping import Entries, drop_prefix, find_prefix

# Where smp keeps an encoder of timm's, in a model and alone.
OF_TIMM = re.compile(r"^((?:.*\.)?encoder\.|)model\.(?!encoder\.)")


def read_encoder(library: str, name: str, source: StateDict, *, in_channels: int = 3, **options: Any) -> Imported:
    """Converts the weights of an encoder, from its own state dict or that of a model that contains it.

    Args:
      library: "torchvision", "timm" or "smp": whose names the entries have.
      name: a key of `jaxseg.ENCODERS`, or smp's name if `library` is "smp".
      source: a state dict, or the path of one; all names may have one prefix.
      in_channels: of the images.
      **options: the encoder's, as for `create_encoder`.
    """
    entries = read_entries(source)
    origin = Origin(name, {}, library)
    if library == "smp":
        origin = smp_encoder(name, by_timm=any(OF_TIMM.match(key) for key in entries.arrays))
        entries = entries._replace(arrays={OF_TIMM.sub(r"\1", key): value for key, value in entries.arrays.items()})
    encoder = create_encoder(origin.encoder, **(origin.options | options))
    prefix, _ = _explain(encoder, origin.encoder, origin.library, entries)
    entries = drop_prefix(entries, prefix)
    variables = convert_encoder(
        encoder, origin.encoder, entries.arrays, library=origin.library, in_channels=in_channels
    )
    return Imported(encoder, variables, in_channels, notes=entries.notes)


def load_encoder(name: str, source: str, *, in_channels: int = 3, **options: Any) -> dict[str, Any]:
    """Loads weights for the encoder `name`.

    Args:
      name: a key of `jaxseg.ENCODERS`.
      source: "imagenet", trained on ImageNet-1k, from an installed package; or the path of a bundle, of a folder with
        one `.safetensors`, or of a `.safetensors` or `.pth` state dict of torchvision, timm or smp (a classifier or a
        whole model: it is told by its names); or one of these as `hf:OWNER/REPO` on the Hugging Face hub.
      in_channels: of the images; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    encoder = create_encoder(name, **options)
    if source in PACKAGES:
        state_dict = imagenet_state_dict(name, encoder, source)
        return convert_encoder(encoder, name, state_dict, library="timm", in_channels=in_channels)
    if not str(source).startswith("hf:") and not Path(source).expanduser().exists():
        raise UserError(
            f"Unknown source of encoder weights '{source}': no such file or folder. {suggest(source, PACKAGES)}"
            " Or name a file, a folder or hf:OWNER/REPO."
        )
    path = locate(source)
    if path.is_dir() and is_bundle(path):
        return _from_bundle(path, name, encoder, in_channels)
    entries = read_entries(_one_file(path))
    library, prefix = guess_names(encoder, name, entries)
    arrays = drop_prefix(entries, prefix).arrays
    return convert_encoder(encoder, name, arrays, library=library, in_channels=in_channels)


def guess_names(encoder: nn.Module, name: str, entries: Entries) -> tuple[str, str]:
    """Returns the library whose names fit most of the entries, and the prefix of these entries."""
    found = {library: _explain(encoder, name, library, entries) for library in find_sources(encoder, name)}
    library = max(found, key=lambda key: found[key][1])
    return library, found[library][0]


def _explain(encoder: nn.Module, name: str, library: str, entries: Entries) -> tuple[str, int]:
    """The prefix with which a library's names explain most of the entries, and how many."""
    source = find_source(encoder, name, library)
    names = [torch_name(path, source.key) for path in flatten_dict(variables_template(encoder))]
    anchor = f"{source.key(getattr(encoder, 'stem', ('stem', 'conv')))}.weight"
    return find_prefix(respell(entries.arrays, source.spellings).keys(), anchor, names)


def _from_bundle(path: Path, name: str, encoder: nn.Module, in_channels: int) -> dict[str, Any]:
    """The variables of a bundle's encoder, which must be this one."""
    module, variables, _ = load_bundle(path)
    if hasattr(module, "encoder"):
        module = module.encoder
        variables = {kind: values.get("encoder", {}) for kind, values in variables.items()}
    theirs, ours = (
        {path: x.shape for path, x in flatten_dict(tree).items()}
        for tree in (variables, variables_template(encoder, in_channels))
    )
    stem = ("params", *getattr(encoder, "stem", ("stem", "conv")), "kernel")
    if in_channels != 3 and theirs.get(stem, (0, 0, 3))[2] == 3 and stem in ours:  # the weights are of RGB
        flat = flatten_dict(variables)
        flat[stem] = adapt_input(flat[stem].transpose(3, 2, 0, 1), in_channels).transpose(2, 3, 1, 0)
        variables = unflatten_dict(flat)
        theirs[stem] = flat[stem].shape
    if theirs != ours:
        raise UserError(
            f"The bundle {path} holds the encoder {type(module).__name__}, whose weights do not fit '{name}'."
        )
    return variables


def _one_file(path: Path) -> Path:
    """`path`, or the one `.safetensors` of a folder."""
    if path.is_file():
        return path
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise UserError(f"{path} holds {len(files)} .safetensors files, expected one. Name the file.")
    return files[0]
