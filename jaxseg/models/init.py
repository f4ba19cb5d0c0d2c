"""Initial variables of a model, without running or compiling a forward pass."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend.core import ClosedJaxpr, Literal, Var
from jax.typing import ArrayLike

from jaxseg.blocks.initializers import assemble


def init(
    model: nn.Module, key: jax.Array, *, image_size: tuple[int, int] = (64, 64), in_channels: int | None = None
) -> dict[str, Any]:
    """Makes the initial variables of `model`, {"params", "batch_stats"}, the same ones as `model.init` makes.

    No forward pass is run: the whole of `model.init` is traced, and only the equations that the variables depend on
    are computed. Kernels are drawn in chunks (see `jaxseg.blocks.initializers`) and filled and assembled by NumPy, so
    hardly anything is compiled.

    Args:
      model: any model or encoder.
      key: a key of `jax.random`; the same key, the same variables.
      image_size: (height, width) in pixels to trace with; no parameter depends on it.
      in_channels: channels of the images; None is what the model was made for, 3 if that is any number.

    Raises:
      UserError: the model was made for images of another number of channels.
    """
    images = jax.ShapeDtypeStruct((1, *image_size, channels_of(model, in_channels)), jnp.float32)
    program, shapes = jax.make_jaxpr(partial(model.init, train=False), return_shape=True)(key, images)
    variables = _evaluate(_needed_part(program), key, np.zeros(images.shape, images.dtype))
    return {"batch_stats": {}, **jax.tree.unflatten(jax.tree.structure(shapes), jax.device_put(variables))}


def channels_of(module: nn.Module, in_channels: int | None = None) -> int:
    """Returns `in_channels` or, if it is None, the number of channels that a model or an encoder was made for.

    >>> from jaxseg.models import create_model
    >>> channels_of(create_model("unet", "plain", num_classes=2, in_channels=4))
    4
    """
    return in_channels or getattr(module, "in_channels", None) or 3


def _needed_part(program: ClosedJaxpr) -> ClosedJaxpr:
    """`program` without the equations that none of its results depends on."""
    needed, equations = set(map(id, program.jaxpr.outvars)), []
    for equation in reversed(program.jaxpr.eqns):
        if not needed.isdisjoint(map(id, equation.outvars)):
            needed.update(map(id, equation.invars))
            equations.append(equation)
    return program.replace(jaxpr=program.jaxpr.replace(eqns=equations[::-1]))


def _evaluate(program: ClosedJaxpr, *arguments: Any) -> list[Any]:
    """Runs `program` equation by equation; what would be a program for every shape is done by NumPy, unless traced."""
    values = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values |= zip(program.jaxpr.invars, arguments, strict=True)

    def read(x: Var | Literal) -> ArrayLike:
        return x.val if isinstance(x, Literal) else values[x]

    for equation in program.jaxpr.eqns:
        inputs = [read(x) for x in equation.invars]
        out = equation.outvars[0].aval
        traced = any(isinstance(x, jax.core.Tracer) for x in inputs)
        if traced:
            result = equation.primitive.bind(*inputs, **equation.params)
        elif equation.params.get("name") == assemble.__name__:
            result = [np.concatenate(inputs)[: out.size].reshape(out.shape).astype(out.dtype)]
        elif equation.primitive.name == "broadcast_in_dim" and np.ndim(inputs[0]) == 0:
            result = [np.full(out.shape, inputs[0], out.dtype)]
        else:
            result = equation.primitive.bind(*inputs, **equation.params)
        values |= zip(equation.outvars, result if isinstance(result, list | tuple) else [result], strict=True)
    return [read(x) for x in program.jaxpr.outvars]
