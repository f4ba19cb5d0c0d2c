"""From a state dict to variables: strict on missing, extra and misshapen entries."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError

ModulePath = tuple[str, ...]
Renames = tuple[tuple[str, str], ...]

# A convolution and its normalisation are entries 0 and 1 of a Sequential, unless a later substitution says more.
SEQUENTIAL: Renames = ((r"\.conv$", ".0"), (r"\.norm$", ".1"))

# What Linen's leaves are called in PyTorch.
LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("params", "gamma"): "",  # the name of its module here is that of the parameter there
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}


def variables_template(module: nn.Module, in_channels: int = 3) -> dict[str, Any]:
    """Returns the variables of an encoder or a model with shapes in place of arrays; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, 64, 64, in_channels), jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)


def convert(
    template: Mapping[str, Any],
    state_dict: Mapping[str, np.ndarray],
    torch_key: Callable[[ModulePath], str],
    *,
    what: str,
    unused: Callable[[str], bool] = lambda key: False,
) -> dict[str, Any]:
    """Fills `template` from `state_dict`, or raises a `UserError` that lists every entry that does not fit.

    Args:
      template: variables with shapes, as `variables_template` makes them.
      state_dict: PyTorch's names and arrays.
      torch_key: from the path of a module in `template` to its name in `state_dict`.
      what: the name of the thing, for the error.
      unused: true for the names in `state_dict` that the thing rightly lacks.
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
        found = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in problems.items() if keys)
        raise UserError(f"The state dict does not fit {what}. {found}. Check the name and the options.")
    return unflatten_dict(filled)


def torch_name(path: tuple[str, ...], torch_key: Callable[[ModulePath], str]) -> str:
    """The name in a state dict of the leaf at (collection, *module, leaf)."""
    collection, *module, leaf = path
    return f"{torch_key(tuple(module))}.{LEAVES[collection, leaf]}".removesuffix(".")


def rename(path: ModulePath, renames: Renames) -> str:
    """Names a module as another library does: substitutions of patterns, one after the other, in its dotted
    path.

    >>> rename(("decoder", "block3", "conv"), ((r"\\.conv$", ".0"), (r"\\.block(\\d)", r".blocks.\\1")))
    'decoder.blocks.3.0'
    """
    name = ".".join(path)
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def aspp_renames(rates: Sequence[int]) -> Renames:
    """The names within an ASPP, in smp as in torchvision: numbered branches; the pooling is entry 0 of the last."""
    last = len(rates) + 1
    renames = [
        (r"\.point\.(\d)$", r".convs.0.\1"),
        (r"\.image\.0$", f".convs.{last}.1"),
        (r"\.image\.1$", f".convs.{last}.2"),
    ]
    for i, rate in enumerate(rates, start=1):
        renames += [
            (rf"\.rate{rate}\.depthwise$", f".convs.{i}.0.0"),
            (rf"\.rate{rate}\.pointwise$", f".convs.{i}.0.1"),
            (rf"\.rate{rate}\.(\d)$", rf".convs.{i}.\1"),
        ]
    return tuple(renames)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:6]) + (", …" if len(keys) > 6 else "")


def to_linen(array: np.ndarray, ndim: int) -> np.ndarray:
    """Reorders the axes of a convolution (OIHW to HWIO) or a linear layer (to IO, or to HWIO where `ndim` is
    4); drops those of a factor for every channel [c, 1, 1].

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
    """Fits the first convolution's weight [o, 3, h, w] to another number of input channels, as timm and smp
    do.

    One channel gets the sum of the three; more repeat them in turn, scaled so that the response keeps its
    size.

    >>> adapt_input(np.ones((1, 3, 1, 1)), 1).ravel(), adapt_input(np.ones((1, 3, 1, 1)), 4).ravel()
    (array([3.]), array([0.75, 0.75, 0.75, 0.75]))
    """
    if channels == 1:
        return weight.sum(1, keepdims=True)
    return weight[:, np.arange(channels) % weight.shape[1]] * (weight.shape[1] / channels)


def convert_encoder(
    encoder: nn.Module, name: str, state_dict: Mapping[str, np.ndarray], *, source: str, in_channels: int = 3
) -> dict[str, Any]:
    """Converts the state dict of a classifier, or of its features, to the variables of `encoder`.

    Where libraries name the same layers differently, the encoder has `torchvision_key`, `timm_key` or `smp_key` beside
    `torch_key`, and likewise `…_head`; `source` says whose names these are.

    It must fit the encoder, and may also be that of all five levels: what an encoder of less `depth` lacks is
    then checked and left out. If `in_channels` is not 3 and the state dict has 3, the first convolution is
    adapted.
    """
    if not hasattr(encoder, "torch_key"):
        raise UserError(f"Encoder '{name}' has no published weights to convert. Train it from random weights.")
    torch_key = getattr(encoder, f"{source}_key", encoder.torch_key)
    torch_head = getattr(encoder, f"{source}_head", encoder.torch_head)
    stem = f"{torch_key(('stem', 'conv'))}.weight"
    whole = variables_template(encoder.clone(depth=5), in_channels)
    known = {torch_name(path, torch_key) for path in flatten_dict(whole)}
    for pattern, spelling in getattr(encoder, "torch_aliases", ()):
        state_dict = {re.sub(pattern, spelling, key): value for key, value in state_dict.items()}
    # timm's feature extractors flatten the outermost Sequential: stages_0.blocks for stages.0.blocks
    flat = {key: key.replace("_", ".", 1) for key in state_dict.keys() - known}
    state_dict = {flat[key] if flat.get(key) in known else key: value for key, value in state_dict.items()}
    if stem in state_dict and in_channels != 3 and state_dict[stem].shape[1] == 3:
        state_dict[stem] = adapt_input(state_dict[stem], in_channels)
    template = variables_template(encoder, in_channels)
    deeper = flatten_dict(whole).keys() - flatten_dict(template).keys()
    is_whole = any(torch_name(path, torch_key) in state_dict for path in deeper)
    variables = convert(
        whole if is_whole else template,
        state_dict,
        torch_key,
        what=f"encoder '{name}'",
        unused=lambda key: key.startswith(torch_head),
    )
    kept = unflatten_dict({path: v for path, v in flatten_dict(variables).items() if path not in deeper})
    return {"batch_stats": {}, **kept}


def convert_model(
    model: nn.Module,
    encoder: str,
    state_dict: Mapping[str, np.ndarray],
    *,
    source: str,
    prefix: str,
    renames: Renames,
    what: str,
    in_channels: int = 3,
    unused: Callable[[str], bool] = lambda key: False,
) -> dict[str, Any]:
    """Converts the state dict of a whole model: its encoder by the encoder's own names, the rest by
    `renames`.

    Args:
      model: what to fill; the name of its encoder is `encoder`.
      encoder: a key of `jaxseg.ENCODERS`.
      state_dict: PyTorch's names and arrays.
      source: "torchvision", "timm" or "smp": whose names the encoder's entries have.
      prefix: of the encoder's entries in `state_dict`.
      renames: see `rename`.
      what: the name of the rest, for the error.
      in_channels: of the pictures.
      unused: true for the names that the model rightly lacks.
    """
    template = variables_template(model, in_channels)
    for collection in template.values():
        collection.pop("encoder", None)
    features = {key.removeprefix(prefix): v for key, v in state_dict.items() if key.startswith(prefix)}
    rest = {key: v for key, v in state_dict.items() if not key.startswith(prefix)}
    variables = convert(template, rest, lambda path: rename(path, renames), what=what, unused=unused)
    converted = convert_encoder(model.encoder, encoder, features, source=source, in_channels=in_channels)
    for collection, values in converted.items():
        variables.setdefault(collection, {}).update({"encoder": values} if values else {})
    return variables
