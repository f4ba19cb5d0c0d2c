"""Memory for time: the blocks of a model compute what the gradient needs of them again, in place of keeping it."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

Interceptor = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], nn.module.InterceptorContext], Any]
_PARTS = ("encoder", "decoder")
_HEADS = ("head", "auxiliary")


def recompute_blocks() -> Interceptor:
    """Returns an interceptor, for `flax.linen.intercept_methods`, that puts every block of a model behind `nn.remat`.

    Blocks are the modules right below "encoder" and "decoder", as "encoder/stage1_block0"; of a model that has neither,
    those right below it, but for heads. From the forward pass only what goes into a block is kept (Chen et al., 2016,
    arXiv:1604.06174); the rest is computed a second time for the gradient. Paths of parameters, running statistics and
    random numbers stay as they are.
    """
    entered: set[tuple[str, ...]] = set()

    def intercept(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        path = context.module.path
        below = (len(path) == 2 and path[0] in _PARTS) or (len(path) == 1 and path[0] not in _PARTS + _HEADS)
        if context.method_name != "__call__" or not below or path in entered:
            return call(*args, **kwargs)
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = [x for x in leaves if isinstance(x, jax.Array)]

        def block(module: nn.Module, *arrays: jax.Array) -> Any:
            given = iter(arrays)
            filled = [next(given) if isinstance(x, jax.Array) else x for x in leaves]
            args, kwargs = jax.tree.unflatten(tree, filled)
            return module(*args, **kwargs)

        entered.add(path)
        try:
            return nn.remat(block)(context.module, *arrays)
        finally:
            entered.remove(path)

    return intercept
