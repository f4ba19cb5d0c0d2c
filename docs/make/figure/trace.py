"""Traces a model: what it computes, and in which calls of its modules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from jaxseg.encoders.levels import Levels

SIZE = 512  # of the image, in pixels


@dataclass
class Call:
    """A call of a module.

    Args:
      number: of the call, in the order of the calls.
      parents: the numbers of the calls that it is inside of, outermost first.
      path: of the module.
      module: unbound, for its fields.
      levels: whether it returned levels, as an encoder does.
    """

    number: int
    parents: tuple[int, ...]
    path: tuple[str, ...]
    module: nn.Module
    levels: bool = False


@dataclass
class Traced:
    """A traced model: the calls of its modules, its jaxpr, the names of its outputs, the paths of its parameters."""

    calls: list[Call]
    jaxpr: Any
    outputs: list[str]
    learned: set[tuple[str, ...]]


def trace(model: nn.Module, channels: int = 3) -> Traced:
    """Traces a model for one image."""
    calls: list[Call] = []
    open_calls: list[int] = []

    def note(function: Callable, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        again = open_calls and calls[open_calls[-1]].path == context.module.path  # a call of the class above it
        if context.method_name != "__call__" or again:
            return function(*args, **kwargs)
        call = Call(len(calls), tuple(open_calls), context.module.path, context.module.clone(parent=None))
        calls.append(call)
        open_calls.append(call.number)
        try:
            with jax.named_scope(f"@{call.number}"):
                result = function(*args, **kwargs)
                if isinstance(result, Levels) and call.path[-1:] == ("encoder",):
                    call.levels = True
                    marked = {name: checkpoint_name(x, name) for name, x in result.items()}
                    result = result | marked
        finally:
            open_calls.pop()
        return result

    def apply(variables: Any, image: Any) -> Any:
        return model.apply(variables, image, train=False)

    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, channels), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), image)
    with nn.intercept_methods(note):
        jaxpr, shapes = jax.make_jaxpr(apply, return_shape=True)(variables, image)
    paths = {tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])}
    learned = {path[:n] for path in paths for n in range(len(path))}
    return Traced(calls, jaxpr.jaxpr, list(shapes), learned)
