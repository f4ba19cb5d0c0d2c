"""Frozen parts: the parameters that training leaves as they are, and the tree of all others."""

import re
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import jax
import optax

from jaxseg.checks import UserError

Tree = TypeVar("Tree")
Prefixes = tuple[str, ...]  # paths of parameters or of the modules that hold them: ("encoder", "decoder/block1")


def path_name(path: tuple[Any, ...]) -> str:
    """Returns a path of JAX's as text, e.g. "encoder/conv1/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def under(name: str, prefixes: Prefixes) -> bool:
    """Returns whether the path `name` is one of `prefixes`, or lies below one of them.

    >>> under("encoder/conv1", ("encoder",)), under("encoder2/conv1", ("encoder",))
    (True, False)
    """
    return any(name == p or name.startswith(p.rstrip("/") + "/") for p in prefixes)


def named_by(name: str, pattern: str) -> bool:
    """Returns whether `pattern`, where * is any text, is the path `name` or that of a module above it.

    >>> named_by("head/conv/bias", "head"), named_by("head/conv/bias", "*/bias"), named_by("head2/bias", "head")
    (True, True, False)
    """
    pattern = pattern.rstrip("/")
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}/*")


def split_frozen(params: Tree, freeze: Prefixes) -> tuple[Tree, Tree]:
    """Returns (trained, frozen): two trees like `params`, each without the arrays of the other.

    Where an array is left out there is `optax.MaskedNode()`, which JAX and optax treat as an empty subtree. So the
    gradients and the optimizer's state have the same paths as the parameters, and hold nothing for a frozen one.

    Args:
      params: the parameters, arrays or their shapes.
      freeze: paths; all parameters below one of them are frozen.

    >>> import jax.numpy as jnp
    >>> params = {"encoder": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.ones(3)}}
    >>> trained, frozen = split_frozen(params, ("encoder",))
    >>> jax.tree.map(jnp.shape, trained)
    {'encoder': {'kernel': MaskedNode()}, 'head': {'kernel': (3,)}}
    >>> jax.tree.map(jnp.shape, join_frozen(trained, frozen))
    {'encoder': {'kernel': (2,)}, 'head': {'kernel': (3,)}}
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for prefix in freeze:
        if not any(under(name, (prefix,)) for name in names):
            raise UserError(f"freeze names '{prefix}', but no parameter lies below it. {_parts(prefix, names)}")
    if freeze and all(under(name, freeze) for name in names):
        raise UserError(f"freeze={freeze} leaves no parameter to train. Leave one of these paths out.")

    def keep(frozen: bool) -> Tree:
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x if under(path_name(path), freeze) == frozen else optax.MaskedNode(), params
        )

    return keep(False), keep(True)


def _parts(path: str, names: list[str]) -> str:
    """Says what could be frozen in place of a path that is none: what lies as deep as it is right.

    >>> _parts("encoder.layer1", ["encoder/stem/kernel", "encoder/stage1/kernel", "head/kernel"])
    "The parts of 'encoder': encoder/stage1, encoder/stem."
    """
    at = ()
    for part in re.split(r"[/.]", path):
        if not any(under(name, ("/".join((*at, part)),)) for name in names):
            break
        at = (*at, part)
    inside = [tuple(name.split("/")) for name in names if not at or under(name, ("/".join(at),))]
    parts = sorted({"/".join(name[: len(at) + 1]) for name in inside})
    return f"The parts of {repr('/'.join(at)) if at else 'the model'}: {', '.join(parts)}."


def join_frozen(trained: Tree, frozen: Tree) -> Tree:
    """Returns the whole tree of the two that `split_frozen` returned."""
    return jax.tree.map(
        lambda mine, other: other if isinstance(mine, optax.MaskedNode) else mine,
        trained,
        frozen,
        is_leaf=lambda x: isinstance(x, optax.MaskedNode),
    )
