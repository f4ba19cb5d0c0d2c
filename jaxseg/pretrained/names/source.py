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


class Pixels(NamedTuple):
    """How pixels were normalized before they entered: (x - mean) / std, of R, G and B from 0 to 255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False  # whether they entered as B, G, R; the numbers here are of R, G and B all the same


CAFFE = Pixels((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), bgr=True)
SYMMETRIC = Pixels((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))  # -1 to 1


@dataclasses.dataclass(frozen=True)
class Source:
    """How a library names an encoder's weights, and how it makes the encoder."""

    key: Callable[[ModulePath], str]  # from the path of a module here to the name of the same module there
    head: tuple[str, ...] = ()  # prefixes of the names there that lie beyond the features
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields that make the encoder the library's
    spellings: tuple[Spelling, ...] = ()
    pixels: Pixels | None = None  # how the library normalizes images, if not as the encoder does
