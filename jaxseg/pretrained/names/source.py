"""The record of how one library names the weights of one encoder."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ModulePath = tuple[str, ...]  # ("stage2_block0", "conv1", "norm")
Renames = tuple[tuple[str, str], ...]  # substitutions: (pattern of `re`, replacement), one after the other


class Spelling(NamedTuple):
    """Another spelling of the names, in older files."""

    sign: str  # pattern of a name that only such a file has
    renames: Renames  # from its names to today's


@dataclasses.dataclass(frozen=True)
class Source:
    """How a library names an encoder's weights, and how it makes the encoder."""

    key: Callable[[ModulePath], str]  # from the path of a module here to the name of the same module there
    head: tuple[str, ...] = ()  # prefixes of the names there that lie beyond the features
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields that make the encoder the library's
    spellings: tuple[Spelling, ...] = ()
