"""Conversion of a state dict to variables, strict on missing, extra and misshapen entries."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.blocks.initializers import shapes_only
from jaxseg.checks import UserError, listing
from jaxseg.models.init import channels_of
from jaxseg.pretrained.names import find_source
from jaxseg.pretrained.names.source import ModulePath, Renames, Spelling

Entry = TypeVar("Entry")  # what is under a name: an array, or the path that it goes to

# What Linen's leaves are called in PyTorch.
LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("params", "gamma"): "",  # the name of its module here is that of the parameter there
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}


def variables_template(module: nn.Module, in_channels: int | None = None) -> dict[str, Any]:
    """Returns the variables of an encoder or a model, with `jax.ShapeDtypeStruct`s in place of arrays.

    Args:
      module: an encoder or a model.
      in_channels: of its images; None is what it was made for, 3 if that is any number.
    """
    image = jax.ShapeDtypeStruct((1, 64, 64, channels_of(module, in_channels)), jnp.float32)
    with shapes_only():
        return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)


def input_channels(module: nn.Module, variables: Mapping[str, Any]) -> int:
    """Returns the number of channels of the images that `variables` of an encoder or a model are for.

    >>> from jaxseg.encoders import create_encoder
    >>> input_channels(create_encoder("plain"), variables_template(create_encoder("plain"), 5))
    5
    """
    free = module.clone(in_channels=None) if getattr(module, "in_channels", None) else module
    found, three, four = (
        {path: leaf.shape for path, leaf in flatten_dict(tree).items()}
        for tree in (variables, variables_template(free, 3), variables_template(free, 4))
    )
    for path in three:  # the first convolution is what the channels make a difference to
        for axis, sizes in enumerate(zip(three[path], four[path], strict=True)):
            if sizes == (3, 4) and path in found and axis < len(found[path]):
                return found[path][axis]
    return 3


def convert(
    template: Mapping[str, Any],
    state_dict: Mapping[str, np.ndarray],
    torch_key: Callable[[ModulePath], str],
    *,
    what: str,
    unused: Callable[[str], bool] = lambda key: False,
    hint: str = "Check the name and the options.",
) -> dict[str, Any]:
    """Returns `template` with the arrays of `state_dict`.

    Args:
      template: variables with shapes, as `variables_template` makes them.
      state_dict: PyTorch's names and arrays.
      torch_key: from the path of a module in `template` to its name in `state_dict`.
      what: what `template` is of, for the error.
      unused: whether a name of `state_dict` may be left over.
      hint: what the error tells the user to do.

    Raises:
      UserError: entries are missing, left over or of another shape; the message lists them.
    """
    missing, misshapen, filled, used = [], [], {}, set()
    for path, leaf in flatten_dict(template).items():
        key = torch_name(path, torch_key)
        used.add(key)
        if key not in state_dict:
            missing.append(key)
            continue
        value = to_linen(state_dict[key], len(leaf.shape))
        if value.shape != leaf.shape:
            misshapen.append(f"{key} (expected {leaf.shape}, got {value.shape}, both as Linen lays them out)")
        filled[path] = np.array(value, leaf.dtype, order="C")  # a copy: the source may go on changing
    known = used.union(key for key in state_dict if key.endswith("num_batches_tracked") or unused(key))
    extra = [key for key in state_dict if key not in known]
    problems = {"missing": missing, "not known": extra, "of another shape": misshapen}
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {listing(keys, 6)}" for kind, keys in problems.items() if keys)
        raise UserError(f"The state dict does not fit {what}. {found}. {hint}")
    return unflatten_dict(filled)


def torch_name(path: tuple[str, ...], torch_key: Callable[[ModulePath], str]) -> str:
    """Returns the name in a state dict of the array at (collection, *module, leaf)."""
    collection, *module, leaf = path
    return f"{torch_key(tuple(module))}.{LEAVES[collection, leaf]}".removesuffix(".")


def rename(path: ModulePath, renames: Renames) -> str:
    """Returns the name of a module in another library: its dotted path after all substitutions, one after the other.

    >>> rename(("decoder", "block3", "conv"), ((r"\\.conv$", ".0"), (r"\\.block(\\d)", r".blocks.\\1")))
    'decoder.blocks.3.0'
    """
    name = ".".join(path)
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def to_linen(array: np.ndarray, ndim: int) -> np.ndarray:
    """Converts PyTorch's axis order: OIHW to HWIO, OI to IO (to HWIO if `ndim` is 4), and [c, 1, 1] to [c].

    >>> to_linen(np.zeros((8, 1, 3, 5)), 4).shape
    (3, 5, 1, 8)
    """
    if array.ndim == 2:
        array = array.T
        return array[None, None] if ndim == 4 else array
    if array.ndim == 3 and ndim == 1:
        return array.reshape(-1)
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def adapt_input(weight: np.ndarray, channels: int) -> np.ndarray:
    """Adapts the first convolution's weight [o, 3, h, w] to another number of input channels, as timm and smp do.

    One channel gets the sum of the three. More channels repeat the three in turn, scaled so that the response keeps
    its magnitude.

    >>> adapt_input(np.ones((1, 3, 1, 1)), 1).ravel(), adapt_input(np.ones((1, 3, 1, 1)), 4).ravel()
    (array([3.]), array([0.75, 0.75, 0.75, 0.75]))
    """
    if channels == 1:
        return weight.sum(1, keepdims=True)
    return weight[:, np.arange(channels) % weight.shape[1]] * (weight.shape[1] / channels)


def convert_encoder(
    encoder: nn.Module, name: str, state_dict: Mapping[str, np.ndarray], *, library: str, in_channels: int = 3
) -> dict[str, Any]:
    """Converts the state dict of a classifier, or of its features, to the variables of `encoder`.

    If the encoder computes fewer than five levels (`depth`), the state dict may be that of all five; the rest is then
    checked and left out. If `in_channels` is not 3 and the state dict has 3, the first convolution is adapted.

    Args:
      encoder: what to fill.
      name: of the encoder, a key of `jaxseg.ENCODERS`, for errors.
      state_dict: PyTorch's names and arrays.
      library: "torchvision", "timm" or "smp": whose names these are.
      in_channels: of the images.
    """
    source = find_source(encoder, name, library)
    stem = f"{source.key(getattr(encoder, 'stem', ('stem', 'conv')))}.weight"
    whole = variables_template(encoder.clone(depth=5), in_channels)
    known = {torch_name(path, source.key) for path in flatten_dict(whole)}
    state_dict = respell(state_dict, source.spellings)
    # timm's feature extractors flatten the outermost Sequential: stages_0.blocks for stages.0.blocks
    flat = {key: key.replace("_", ".", 1) for key in state_dict.keys() - known}
    state_dict = {flat[key] if flat.get(key) in known else key: value for key, value in state_dict.items()}
    if stem in state_dict and in_channels != 3 and state_dict[stem].shape[1] == 3:
        state_dict[stem] = adapt_input(state_dict[stem], in_channels)
    template = whole if encoder.depth == 5 else variables_template(encoder, in_channels)
    deeper = flatten_dict(whole).keys() - flatten_dict(template).keys()
    is_whole = any(torch_name(path, source.key) in state_dict for path in deeper)
    variables = convert(
        whole if is_whole else template,
        state_dict,
        source.key,
        what=f"encoder '{name}'",
        unused=lambda key: key.startswith(source.head),
        **_channels_hint(state_dict.get(stem), in_channels),
    )
    kept = unflatten_dict({path: v for path, v in flatten_dict(variables).items() if path not in deeper})
    return {"batch_stats": {}, **kept}


def respell(state_dict: Mapping[str, Entry], spellings: tuple[Spelling, ...]) -> dict[str, Entry]:
    """Renames the entries of an older file to today's names.

    >>> respell({"norm.1.bias": 0}, (Spelling(r"norm\\.1", ((r"(norm|conv)\\.", r"\\1"),)),))
    {'norm1.bias': 0}
    """
    for spelling in spellings:
        if any(re.search(spelling.sign, key) for key in state_dict):
            state_dict = {rename((key,), spelling.renames): value for key, value in state_dict.items()}
    return dict(state_dict)


def _channels_hint(stem: np.ndarray | None, in_channels: int) -> dict[str, str]:
    """The hint for `convert` where the first convolution says what is wrong."""
    if stem is None or stem.ndim != 4 or stem.shape[1] == in_channels:
        return {}
    channels = stem.shape[1]
    return {"hint": f"Its first convolution is for images of {channels} channels: give in_channels={channels}."}


def convert_model(
    model: nn.Module,
    encoder: str,
    state_dict: Mapping[str, np.ndarray],
    *,
    library: str,
    prefix: str,
    renames: Renames,
    what: str,
    in_channels: int = 3,
    unused: Callable[[str], bool] = lambda key: False,
) -> dict[str, Any]:
    """Converts the state dict of a whole model: its encoder by the encoder's own names, the rest by `renames`.

    Args:
      model: what to fill; the name of its encoder is `encoder`.
      encoder: a key of `jaxseg.ENCODERS`.
      state_dict: PyTorch's names and arrays.
      library: "torchvision", "timm" or "smp": whose names the encoder's entries have.
      prefix: of the encoder's entries in `state_dict`.
      renames: see `rename`.
      what: what the rest is, for the error.
      in_channels: of the images.
      unused: whether a name of `state_dict` may be left over.
    """
    template = variables_template(model, in_channels)
    for collection in template.values():
        collection.pop("encoder", None)
    features = {key.removeprefix(prefix): v for key, v in state_dict.items() if key.startswith(prefix)}
    rest = {key: v for key, v in state_dict.items() if not key.startswith(prefix)}
    variables = convert(template, rest, lambda path: rename(path, renames), what=what, unused=unused)
    converted = convert_encoder(model.encoder, encoder, features, library=library, in_channels=in_channels)
    for collection, values in converted.items():
        variables.setdefault(collection, {}).update({"encoder": values} if values else {})
    return variables
