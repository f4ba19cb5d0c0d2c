"""Entries of a registry: a class with some of its fields set."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any


class Variant:
    """A class, or another function, with some of its arguments set: a `functools.partial` that can be compared.

    It also answers for the class: an attribute is that of the options if one has its name, else that of the class.

    Args:
      make: what is called.
      **options: its arguments that are set; a call may set them anew.

    >>> half = Variant(complex, imag=0.5)
    >>> half(real=1), half.imag, half == Variant(complex, imag=0.5)
    ((1+0.5j), 0.5, True)
    """

    make: Callable[..., Any]
    options: dict[str, Any]

    def __init__(self, make: Callable[..., Any], /, **options: Any) -> None:
        vars(self).update(make=make, options=options, __doc__=inspect.getdoc(make))

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.make(*arguments, **{**self.options, **options})

    def __getattr__(self, name: str) -> Any:
        if name == "__signature__":
            return inspect.signature(functools.partial(self.make, **self.options))
        if name.startswith("__") or "make" not in vars(self):  # not yet made: being copied
            raise AttributeError(name)
        return self.options[name] if name in self.options else getattr(self.make, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"A variant cannot be changed: make another for {name}={value!r}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Variant) and (self.make, self.options) == (other.make, other.options)

    def __hash__(self) -> int:
        return hash((self.make, tuple(sorted(self.options.items(), key=lambda item: item[0]))))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{getattr(self.make, '__name__', self.make)}({options})"


def defaults(entry: Callable[..., Any]) -> Mapping[str, Any]:
    """Returns the options of an entry of a registry that have a default, with that default.

    >>> defaults(Variant(complex, imag=0.5))
    {'real': 0, 'imag': 0.5}
    """
    parameters = inspect.signature(entry).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in ("parent", "name")}
