"""The feature maps of an encoder, by level."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax

from jaxseg.checks import UserError

# A feature map; in a tree that JAX traces or maps, whatever takes its place, such as its shape.
Level = TypeVar("Level")


@jax.tree_util.register_pytree_with_keys_class
class Levels(Mapping[str, Level]):
    """What an encoder sees in images: a mapping from "c1", "c2", …, from fine to coarse, to feature maps.

    Level ci has a nominal stride of 2^i pixels, or `output_stride` where that is less. It is a pytree, and cannot be
    changed; `levels | {"c5": …}` makes another.

    Args:
      features: feature maps by name, from fine to coarse.
      output_stride: of the encoder, in pixels.
      before_pooling: whether a level but the deepest is taken before the pooling that ends its block, as VGG's are,
        so that the features after the pooling are those of the next level's size.

    >>> levels = Levels({"c1": "fine", "c2": "coarse"})
    >>> levels["c1"], levels.deepest, levels.depth, levels.stride("c2")
    ('fine', 'coarse', 2, 4)
    """

    def __init__(self, features: Mapping[str, Level], *, output_stride: int = 32, before_pooling: bool = False) -> None:
        self._features = dict(features)
        self.output_stride, self.before_pooling = output_stride, before_pooling

    def __getitem__(self, name: str) -> Level:
        """The features of a level; a `UserError` names those that there are."""
        if name not in self._features:
            raise UserError(
                f"Unknown level of the encoder '{name}'. Known: {', '.join(self)}. Choose an encoder of more levels."
            )
        return self._features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __contains__(self, name: object) -> bool:
        return name in self._features

    def get(self, name: str, default: Any = None) -> Any:
        """The features of a level, or `default` where the encoder has no such level."""
        return self._features.get(name, default)

    def __or__(self, features: Mapping[str, Level]) -> "Levels":
        merged = {**self, **features}
        return Levels(merged, output_stride=self.output_stride, before_pooling=self.before_pooling)

    def __repr__(self) -> str:
        return f"Levels({self._features})"

    @property
    def depth(self) -> int:
        """The number of the deepest level."""
        return max(map(_number, self._features))

    @property
    def deepest(self) -> Level:
        """The features of the deepest level."""
        return self[f"c{self.depth}"]

    def names(self, finest: int = 1) -> list[str]:
        """The names of the levels from the deepest to c`finest`.

        >>> Levels({"c2": ..., "c3": ..., "c4": ...}).names(finest=3)
        ['c4', 'c3']
        """
        return sorted((name for name in self if _number(name) >= finest), key=_number, reverse=True)

    def stride(self, name: str) -> int:
        """The nominal stride of a level, in pixels of the image."""
        return min(2 ** _number(name), self.output_stride)

    def at(self, stride: int) -> Level:
        """The deepest features of a stride, in pixels of the image.

        >>> Levels({"c2": "fine", "c3": "coarse", "c4": "dilated"}, output_stride=8).at(8)
        'dilated'
        """
        for name in self.names():
            if self.stride(name) == stride:
                return self[name]
        known = ", ".join(str(n) for n in sorted({self.stride(name) for name in self}))
        raise UserError(f"The encoder has no level of stride {stride}. Choose one of {known}.")

    def shallower(self, name: str) -> Level:
        """The features of the level before `name`, the next finer one.

        >>> Levels({"c1": "fine", "c2": "coarse"}).shallower("c2")
        'fine'
        """
        return self[f"c{_number(name) - 1}"]

    def skips(self, size: tuple[int, int]) -> tuple[list[Level | None], list[tuple[int, int]]]:
        """The features on the way from the deepest level (left out) up to the image, and the size of each step.

        Where there are none (at the image's own size, or at an absent level) there is None; the size is then that of
        the image after as many halvings, each rounded down as smp's placeholders for absent levels are.

        Args:
          size: (height, width) of the image in pixels.
        """
        skips, sizes = [], []
        for depth in reversed(range(self.depth)):  # 0 is the image itself
            skip = self.get(f"c{depth}")
            height, width = (max(1, n // 2**depth) for n in size)
            skips.append(skip)
            sizes.append((height, width) if skip is None else skip.shape[1:3])
        return skips, sizes

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Of the pytree: the features with their keys, and what isn't an array."""
        keyed = [(jax.tree_util.DictKey(name), x) for name, x in self.items()]
        return keyed, (tuple(self), self.output_stride, self.before_pooling)

    @classmethod
    def tree_unflatten(cls, static: Any, features: Any) -> "Levels":
        """The inverse of `tree_flatten_with_keys`."""
        names, output_stride, before_pooling = static
        levels = cls({}, output_stride=output_stride, before_pooling=before_pooling)
        levels._features = dict(zip(names, features, strict=True))  # of any type: JAX also puts shapes into a tree
        return levels


def _number(name: str) -> int:
    return int(name[1:])
