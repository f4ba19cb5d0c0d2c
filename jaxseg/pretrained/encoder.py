"""Weights for an encoder by the name of their source: a package, a bundle, a file of PyTorch's, a hub repository."""

import re
import warnings
from pathlib import Path
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError, suggest
from jaxseg.encoders import create_encoder
from jaxseg.pretrained.bundle import is_bundle, load_bundle
from jaxseg.pretrained.convert import adapt_input, convert_encoder, respell, torch_name, variables_template
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.imported import Imported
from jaxseg.pretrained.installed import find_weights, is_name
from jaxseg.pretrained.keras_file import name_layers
from jaxseg.pretrained.names import find_source, find_sources
from jaxseg.pretrained.names.origin import Origin, smp_encoder
from jaxseg.pretrained.pixels import move_pixels, timms_pixels
from jaxseg.pretrained.state_dict import StateDict, read_entries
from jaxseg.pretrained.weights import NAMES, WEIGHTS, Weights
from jaxseg.pretrained.wrapping import Entries, drop_prefix, find_prefix

# Where smp keeps an encoder of timm's, in a model and alone.
OF_TIMM = re.compile(r"^((?:.*\.)?encoder\.|)model\.(?!encoder\.)")


def read_encoder(
    library: str, name: str, source: StateDict, *, in_channels: int = 3, own_pixels: bool = False, **options: Any
) -> Imported:
    """Converts the weights of an encoder, from its own state dict or that of a model that contains it.

    Args:
      library: "torchvision", "timm", "smp" or "keras": whose names the entries have.
      name: a key of `jaxseg.ENCODERS`, or smp's name if `library` is "smp".
      source: a state dict, or the path of one; all names may have one prefix.
      in_channels: of the images.
      own_pixels: whether the result shall be for images as the encoder normalizes them where the library normalizes
        them in another way (Keras); otherwise it is for the library's.
      **options: the encoder's, as for `create_encoder`.
    """
    entries = read_entries(source)
    origin = Origin(name, {}, library)
    if library == "smp":
        origin = smp_encoder(name, by_timm=any(OF_TIMM.match(key) for key in entries.arrays))
        entries = entries._replace(arrays={OF_TIMM.sub(r"\1", key): value for key, value in entries.arrays.items()})
    encoder = create_encoder(origin.encoder, **(origin.options | options))
    naming = find_source(encoder, origin.encoder, origin.library)
    if library == "keras":
        entries = name_layers(entries, encoder, naming)
    prefix, _ = _explain(encoder, origin.encoder, origin.library, entries)
    entries = drop_prefix(entries, prefix)
    arrays = respell(entries.arrays, naming.spellings)
    if own_pixels and naming.pixels:
        arrays = move_pixels(arrays, naming, encoder, naming.pixels)
    variables = convert_encoder(encoder, origin.encoder, arrays, library=origin.library, in_channels=in_channels)
    return Imported(encoder, variables, in_channels, notes=entries.notes)


def load_encoder(name: str, source: str | Path, *, in_channels: int = 3, **options: Any) -> dict[str, Any]:
    """Loads weights for the encoder `name`.

    Args:
      name: a key of `jaxseg.ENCODERS`.
      source: a name of published weights, such as "imagenet" (`jaxseg list --weights`), which must be on this machine;
        or the path of a bundle, of a folder with one `.safetensors`, or of a `.safetensors`, `.pth`, `.onnx` or `.h5`
        file of torchvision, timm, smp or Keras (a classifier or a whole model: it is told by its names); or a bundle
        or such a folder as `hf:OWNER/REPO` on the Hugging Face hub.
      in_channels: of the images; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder, for images as the encoder normalizes them.
    """
    encoder = create_encoder(name, **options)
    weights, path = _find(name, str(source))
    _warn(encoder, name, weights)
    if path.is_dir() and is_bundle(path):
        return _from_bundle(path, name, encoder, in_channels)
    file = _one_file(path)
    entries = read_entries(file)
    if file.suffix == ".h5":
        library, prefix = "keras", ""
        entries = name_layers(entries, encoder, find_source(encoder, name, library))
    else:
        library, prefix = guess_names(encoder, name, entries)
    naming = find_source(encoder, name, library)
    arrays = respell(drop_prefix(entries, prefix).arrays, naming.spellings)
    pixels = (weights and weights.pixels) or naming.pixels or timms_pixels(file.parent)
    if pixels:
        arrays = move_pixels(arrays, naming, encoder, pixels)
    return convert_encoder(encoder, name, arrays, library=library, in_channels=in_channels)


def weights_origin(name: str, source: str | Path) -> str:
    """Returns where the weights of the encoder `name` come from, for people: a name such as "imagenet" is looked up."""
    if not is_name(str(source)):
        return str(source)
    weights, path = find_weights(name, str(source))
    return f"{weights.source}, {path}"


def _exists(source: str) -> bool:
    """Whether a text is the path of something; one that cannot be a path is none."""
    try:
        return Path(source).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long; of no user; with a zero
        return False


def _find(name: str, source: str) -> tuple[Weights | None, Path]:
    """The weights that a source names, if they are in the table, and the path of their file or folder."""
    if is_name(source):
        return find_weights(name, source)
    if not source.startswith("hf:") and not _exists(source):
        raise UserError(
            f"Unknown source of encoder weights '{source}': no such file or folder. {suggest(source, NAMES)}"
            " Or name a file, a folder or hf:OWNER/REPO."
        )
    return next((w for w in WEIGHTS if (w.source, w.encoder) == (source, name)), None), locate(source)


def _warn(encoder: nn.Module, name: str, weights: Weights | None) -> None:
    """Warns of fields of the encoder that change its features and are others than what weights were trained with."""
    for field, value in (weights.options if weights else {}).items():
        if getattr(encoder, field) != value:
            warnings.warn(
                f"The weights {weights.source} were trained with {field}={value!r}, and the encoder '{name}' has"
                f" {getattr(encoder, field)!r}, so its features differ. Give it the option {field}={value!r}; in a"
                f" config, config.model.encoder_options = {{'{field}': {value!r}}}.",
                stacklevel=3,
            )


def guess_library(name: str, source: StateDict, **options: Any) -> str:
    """Returns the library whose names for the layers of an encoder fit most of the entries of a state dict or file.

    Args:
      name: a key of `jaxseg.ENCODERS`.
      source: a state dict, or the path of one.
      **options: the encoder's, as for `create_encoder`; `in_channels` makes no difference.
    """
    options.pop("in_channels", None)
    return guess_names(create_encoder(name, **options), name, read_entries(source))[0]


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
