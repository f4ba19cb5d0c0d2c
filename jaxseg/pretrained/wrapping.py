"""State dicts out of what people wrap them in: checkpoints of trainers, and prefixes of the names."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxseg.checks import UserError, listing

# Where a checkpoint has its weights, the first one there is. Averaged weights come last: who wants them names the file.
ENTRIES = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "ema"),
)
COMPILED = "_orig_mod."  # of torch.compile, wherever a part of the model was compiled
WRITERS = {"module.": "DataParallel", "model.": "Lightning"}  # whose prefix it commonly is


class Entries(NamedTuple):
    """A state dict, and notes on what was left out of the file it came from."""

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()  # a sentence each, for the user


def unwrap(content: Any, is_tensor: type | tuple[type, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Finds the state dict in a checkpoint, which may be the state dict itself.

    Args:
      content: what a file holds.
      is_tensor: the types of an entry of a state dict.

    Returns:
      The state dict and the notes on it.

    >>> unwrap({"epoch": 3, "model": {"fc.bias": 1.0}}, float)
    ({'fc.bias': 1.0}, ("The weights are the file's entry 'model'; it also has 'epoch'.",))
    """
    _refuse_objects([content])
    if not isinstance(content, Mapping):
        raise UserError(f"it holds a {type(content).__name__}, expected a dictionary of tensors.")
    other = [name for name, value in content.items() if not isinstance(value, is_tensor)]
    told: dict[int, bool] = {}
    holders = [name for name in other if _holds_tensors(content[name], is_tensor, told)]
    # a checkpoint may hold single tensors, such as a score, beside the weights
    if not holders or len(other) < len(content) / 2:
        _refuse_objects(content[name] for name in other)
        if other:
            raise UserError(f"these entries are no tensors: {listing(other)}. Save `model.state_dict()`.")
        names = [name for name in content if not isinstance(name, str)]
        if names:
            raise UserError(f"its entries have names that are no text: {listing(names)}. Save `model.state_dict()`.")
        return dict(content), ()
    known = [name for name in ENTRIES if name in holders]
    if not known and len(holders) > 1:
        raise UserError(f"it holds several dictionaries of tensors: {listing(holders)}. Save the one that is wanted.")
    chosen = (known or holders)[0]
    beside = listing([f"'{name}'" for name in content if name != chosen], 12)
    state_dict, notes = unwrap(content[chosen], is_tensor)
    note = f"The weights are the file's entry '{chosen}'" + (f"; it also has {beside}." if beside else ".")
    return state_dict, (note, *notes)


def drop_compiled(entries: Entries) -> Entries:
    """Removes the prefixes that `torch.compile` gives to names."""
    if not any(COMPILED in key for key in entries.arrays):
        return entries
    arrays = {key.replace(COMPILED, ""): value for key, value in entries.arrays.items()}
    return Entries(arrays, (*entries.notes, f"'{COMPILED}' of torch.compile is left out of the names."))


def find_prefix(keys: Collection[str], anchor: str, wanted: Collection[str] = ()) -> tuple[str, int]:
    """Returns the prefix with which a state dict has most of the wanted names, and how many it has.

    Args:
      keys: of the state dict.
      anchor: a name that the model has; what stands before it in one of `keys` is tried as the prefix.
      wanted: the names that the model has.

    >>> find_prefix(["model.bn1.bias", "model.layer1.bn1.bias", "model.fc.bias"], "bn1.bias", ["bn1.bias", "fc.bias"])
    ('model.', 2)
    """
    prefixes = {key.removesuffix(anchor) for key in keys if key == anchor or key.endswith(f".{anchor}")}
    found = {prefix: sum(prefix + name in keys for name in wanted) for prefix in sorted(prefixes, key=len)}
    best = max(found, key=found.__getitem__, default="")
    return best, found.get(best, 0)


def drop_prefix(entries: Entries, prefix: str) -> Entries:
    """Keeps the entries whose names begin with `prefix`, without it."""
    if not prefix:
        return entries
    inside = {key.removeprefix(prefix): value for key, value in entries.arrays.items() if key.startswith(prefix)}
    outside = [key for key in entries.arrays if not key.startswith(prefix)]
    writer = f" ({WRITERS[prefix]})" if prefix in WRITERS else ""
    note = f"The names begin with '{prefix}'{writer}, which is left out"
    if outside:
        some = ", ".join(outside[:3]) + (", …" if len(outside) > 3 else "")
        note += f"; {len(outside)} entries without it are not read: {some}"
    return Entries(inside, (*entries.notes, f"{note}."))


def _holds_tensors(content: Any, is_tensor: type | tuple[type, ...], told: dict[int, bool]) -> bool:
    """Says whether a dictionary is a state dict, or holds one; `told` has what was said of each, by its id."""
    if not isinstance(content, Mapping):
        return False
    if id(content) not in told:
        told[id(content)] = False  # while it is looked at: it may hold itself
        tensors = sum(isinstance(value, is_tensor) for value in content.values())
        told[id(content)] = tensors > len(content) // 2 or any(
            name in ENTRIES and _holds_tensors(value, is_tensor, told) for name, value in content.items()
        )
    return told[id(content)]


def _refuse_objects(values: Iterable[Any]) -> None:
    """Raises a `UserError` about the first of `values` that is an object whose class was not loaded."""
    for value in values:
        if hasattr(value, "refers_to"):
            raise UserError(
                f"it refers to {value.refers_to}, where a state dict holds tensors only. Save `model.state_dict()`, or"
                " convert the file to safetensors where you trust it."
            )
