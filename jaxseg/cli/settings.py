"""Config values from the command line: --config.KEY=VALUE, of the type that the key has."""

import ast
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxseg.checks import UserError, closest
from jaxseg.cli.peer_settings import of_peers
from jaxseg.config import ELEMENTS, OPEN

PREFIX = "--config."
TRUE, FALSE, NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")
WEIGHTS = ("loss.terms", "loss.heads")  # open mappings of numbers, where 0 takes the entry out
EXAMPLES = {"data.label_ignore": "0,255", "optim.freeze": "encoder"}
# Another name of the key makes the options of the former thing meaningless.
OPTIONS_OF = {"data.name": "data.options", "model.name": "model.options", "model.encoder": "model.encoder_options"}


def split(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Returns the words that are no config values, and [(key, value)]; the value is None where there is none.

    >>> split(["--config", "x.py", "--config.optim.lr=0.1", "--config.seed", "3", "--config.log.tensorboard"])
    (['--config', 'x.py'], [('optim.lr', '0.1'), ('seed', '3'), ('log.tensorboard', None)])
    """
    rest, settings, position = [], [], 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith(PREFIX):
            rest.append(word)
            continue
        key, equals, value = word.removeprefix(PREFIX).partition("=")
        if equals:
            settings.append((key, value))
        elif position < len(words) and not words[position].startswith("--"):
            settings.append((key, words[position]))
            position += 1
        else:
            settings.append((key, None))
    return rest, settings


def apply(config: ConfigDict, settings: Iterable[tuple[str, str | None]]) -> None:
    """Sets the values in `config`, in their order.

    An entry of an open mapping (`jaxseg.config.OPEN`) may be new: loss.terms.focal=1. "none" takes an entry out, and
    so does the weight 0 in loss.terms and loss.heads; a loss that goes takes its options along. Where data.name,
    model.name or model.encoder changes, the options that the config has for the former one are dropped first.

    Args:
      config: of a config file; locked.
      settings: (key, text) of `split`.

    Raises:
      UserError: for a key that the config does not have, and a text that does not fit the key's type.
    """
    settings = list(settings)
    for key, value in settings:
        mapping = OPTIONS_OF.get(key)
        if mapping and value != _get(config, key) and _get(config, mapping):
            print(
                f"config.{mapping} {_get(config, mapping).to_dict()} was for '{_get(config, key)}': not used for"
                f" '{value}'",
                file=sys.stderr,
            )
            _empty(_get(config, mapping))
    for key, value in settings:
        mapping = next((name for name in OPEN if key.startswith(f"{name}.")), None)
        if mapping:
            _set_open(config, mapping, key, value)
        else:
            _set(config, key, value)


def _get(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _empty(entries: ConfigDict) -> None:
    for name in list(entries):
        del entries[name]


def _set(config: ConfigDict, key: str, value: str | None) -> None:
    """Sets a key that the config must have."""
    *groups, name = key.split(".")
    group = config
    for depth, part in enumerate(groups):
        if not isinstance(group, ConfigDict) or part not in group:
            _unknown(config, key, ".".join(groups[:depth]))
        group = group[part]
    if not isinstance(group, ConfigDict) or name not in group:
        _unknown(config, key, ".".join(groups))
    if key in OPEN:
        new = _mapping(key, value)
        _empty(group[name])
        group[name].update(new)
        return
    if isinstance(group[name], ConfigDict):
        raise UserError(
            f"config.{key} is a group of settings. Set one of them: {', '.join(f'{key}.{n}' for n in group[name])}."
        )
    group[name] = convert(key, value, group[name], group.get_type(name))


def _set_open(config: ConfigDict, mapping: str, key: str, value: str | None) -> None:
    """Sets, makes or takes out an entry of an open mapping, or an entry of one of its entries."""
    *groups, name = key.removeprefix(f"{mapping}.").split(".")
    entries = _get(config, mapping)
    for part in groups:
        if not isinstance(entries.get(part), ConfigDict):
            entries[part] = ConfigDict()
        entries = entries[part]
    new = _guess(key, value)
    if mapping in WEIGHTS and not groups and not isinstance(new, int | float | dict | None):
        raise UserError(f"config.{key} must be a number, a schedule {{'start': 0.0, ...}} or none, got '{value}'.")
    if new is None or (mapping in WEIGHTS and not groups and new == 0):
        if name not in entries:
            raise UserError(f"config.{key} is not there to be taken out. {_there(mapping, entries)}")
        del entries[name]
        if mapping == "loss.terms" and name in config.loss.options:
            del config.loss.options[name]
        return
    if name in entries:
        del entries[name]  # its type does not bind the new value
    entries[name] = ConfigDict(new) if isinstance(new, dict) else new


def _there(mapping: str, entries: ConfigDict) -> str:
    return f"config.{mapping} has {', '.join(entries) or 'nothing'}."


def _mapping(key: str, value: str | None) -> dict[str, Any]:
    found = _guess(key, value)
    if not isinstance(found, dict):
        raise UserError(f"config.{key} is a mapping. Set {key}.NAME, or all of it: {{'NAME': VALUE}}; got '{value}'.")
    return found


def _guess(key: str, text: str | None) -> Any:
    """The value that a text means where no type is known: as Python writes it, else the text itself."""
    if text is None:
        raise UserError(f"--config.{key} needs a value: --config.{key}=VALUE.")
    words = {"true": True, "false": False, **dict.fromkeys(NONE)}
    if text.lower() in words:
        return words[text.lower()]
    try:
        found = ast.literal_eval(text)
        _check_names(key, found)
        return found
    except UserError:
        raise
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _check_names(key: str, found: Any) -> None:
    """Raises for a mapping with names that a config can't have."""
    if isinstance(found, dict):
        for name, value in found.items():
            if not isinstance(name, str) or not name or "." in name:
                raise UserError(f"config.{key} must have names without dots for its entries, got {name!r}.")
            _check_names(key, value)


def convert(key: str, text: str | None, default: Any, kind: type) -> Any:
    """Returns the value that `text` means for a key.

    Args:
      key: for the message.
      text: of the command line; None where a flag has no value, which a boolean may have.
      default: the value so far; its elements' type is that of the new elements, for a tuple.
      kind: the type.

    >>> convert("data.crop", "320,320", (128, 128), tuple)
    (320, 320)
    >>> convert("augment.scale", "(0.5, 2)", (1.0, 1.0), tuple)
    (0.5, 2.0)
    """
    if text is None:
        if kind is bool:
            return True
        raise UserError(f"--config.{key} needs a value: --config.{key}=VALUE.")
    if default is None and text.lower() in NONE:
        return None
    try:
        if kind is bool:
            return _boolean(text)
        if kind in (tuple, list):
            return kind(_elements(key, text, default))
        return text if kind is str else kind(text)
    except (ValueError, OverflowError):
        example = {bool: "True or False", int: "a whole number", float: "a number"}.get(kind)
        example = (
            example
            or f"values with commas between them, such as {','.join(map(str, default)) or EXAMPLES.get(key, 'a,b')}"
        )
        raise UserError(f"config.{key} must be {example}, got '{text}'. It is {default!r} so far.") from None


def _boolean(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError(text)
    return text.lower() in TRUE


def _elements(key: str, text: str, default: Sequence[Any]) -> list[Any]:
    """The elements of "1,2", "(1, 2)", "a,b" or "('a', 'b')", of the key's type, or that of the value so far."""
    try:
        found = ast.literal_eval(text)
        found = list(found) if isinstance(found, tuple | list) else [found]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        found = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    kinds = {ELEMENTS[key]} if key in ELEMENTS else {type(element) for element in default}
    if not kinds <= {int, float, str}:
        return found
    if kinds == {int, float}:
        kinds = {float}
    for kind in kinds:
        wrong = [e for e in found if not isinstance(e, kind) and not (kind is float and isinstance(e, int))]
        if wrong:
            raise ValueError(wrong[0])
        found = [kind(element) for element in found]
    return found


def _unknown(config: ConfigDict, key: str, group: str) -> None:
    """Raises the error for a key that the config does not have."""
    from jaxseg.experiment.limits import flatten

    every = list(flatten(config))
    own = {path: path.rpartition(".")[2] for path in every}  # the names without their groups
    inside_of, _, name = key.rpartition(".")
    misplaced = inside_of == group and name in own.values()
    near = f"{of_peers(key)} ".lstrip() or ("" if misplaced else closest(key, every))
    if not near:  # the right name in the wrong group
        like = difflib.get_close_matches(name, own.values(), n=1)
        found = [repr(path) for path in every if own[path] in like]
        near = f"Did you mean {' or '.join(found)}? " if found else ""
    inside = _get(config, group) if group else config
    names = ", ".join(inside) if isinstance(inside, ConfigDict) else "no settings inside"
    raise UserError(f"Unknown config key '{key}'. {near}Known in config{'.' + group if group else ''}: {names}.")
