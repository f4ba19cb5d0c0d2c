"""Model summary: a tree of modules and parameters with their shapes, parameters and multiply-accumulates."""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.analysis.flops import count_macs
from jaxseg.blocks.conv import unfolded
from jaxseg.models.init import channels_of
from jaxseg.models.parts import title

FOOTNOTE = """\
Names joined by "/" are the path of a part in variables["params"]; a row counts all inside it. Stride: image pixels a
feature. GMAC: 10^9 multiply-accumulates of convolutions and matrix products (resizing included), one image, forward; a
training step takes three times as many. MiB: memory, what the part's convolutions, norms and other innermost modules
put out, one image; about what training keeps of it for the backward pass."""

# A convolution, its norm and its activation go without saying, unless every module is asked for.
BRICKS = ("jaxseg.blocks.conv", "jaxseg.blocks.head", "jaxseg.blocks.separable")
REPEATED = re.compile(r"_(block|conv)(?P<number>[0-9]+)$")
COLUMNS = f"{'output':>14}{'stride':>7}{'parameters':>13}{'GMAC':>9}{'':6}{'MiB':>8}"


@dataclass
class Node:
    """A module, with the parameters and the cost of it and all modules inside it."""

    name: str
    kind: str = ""  # its class
    about: str = ""  # the first line of the class's docstring
    brick: bool = False
    output: tuple[int, ...] = ()  # shape without the batch axis, where it is one array
    parameters: int = 0
    macs: int = 0
    memory: int = 0  # bytes
    children: "dict[str, Node]" = field(default_factory=dict)  # in the order in which they run

    def down(self, path: Iterable[str]) -> "Iterator[Node]":
        """Yields this node and those along `path` below it; those that are not there yet are made."""
        node = self
        yield node
        for name in path:
            node = node.children.setdefault(name, Node(name))
            yield node


def summarize(
    model: nn.Module, image_size: tuple[int, int] = (512, 512), depth: int = 3, *, columns: int | None = None
) -> str:
    """Returns the model's parts as a tree, in the order in which they run; nothing is computed.

    Args:
      model: of `jaxseg.create_model`.
      image_size: (height, width) in pixels.
      depth: of the tree, at least 1, with the blocks of a stage folded into a row; 0 for every module.
      columns: of the terminal; where what each part is does not fit beside it, it is said below the table.
    """
    root = tree(model, image_size)
    rows = [("the whole model", root), *_rows(root, "", depth or math.inf, fold=depth > 0)]
    size = f"{image_size[0]} x {image_size[1]} pixels"
    headline = f"{title(model)}, {jnp.dtype(model.dtype).name}, one image of {size}"
    width = max(len(label) for label, _ in rows)
    lines = [f"{'part':{width}}{COLUMNS}"]
    lines += [f"{label:{width}}{_cells(node, root, image_size)}" for label, node in rows]
    told: dict[str, str] = {}  # about -> the part that says it
    kinds = ["what it is"]
    for label, node in rows:
        about = "" if node.about in told else f": {node.about}"
        told.setdefault(node.about, f"{label.lstrip('│├└ ')}: {node.kind}{about}")
        kinds.append(f"{node.kind}{about}")
    whole = [f"{line}  {kind}" for line, kind in zip(lines, kinds, strict=True)]
    if columns is None or max(map(len, whole)) <= columns:
        return "\n".join([headline, "", *whole, "", FOOTNOTE])
    glossary = [textwrap.fill(text, columns, subsequent_indent="  ") for text in told.values()]
    footnote = textwrap.fill(FOOTNOTE.replace("\n", " "), columns)
    return "\n".join([headline, "", *lines, "", *glossary, "", footnote])


def _cells(node: Node, root: Node, image_size: tuple[int, int]) -> str:
    """The numbers of a row, under `COLUMNS`."""
    shape = "x".join(map(str, node.output))
    stride = f"{image_size[0] / node.output[0]:.3g}" if len(node.output) == 3 else ""
    share = f"{100 * node.macs / max(root.macs, 1):.0f} %"
    return f"{shape:>14}{stride:>7}{node.parameters:>13,}{node.macs / 1e9:>9.3f}{share:>6}{node.memory / 2**20:>8.1f}"


def tree(model: nn.Module, image_size: tuple[int, int]) -> Node:
    """Returns the modules of a model, each with what it holds and costs.

    Args:
      model: of `jaxseg.create_model`.
      image_size: (height, width) in pixels.
    """
    image = jax.ShapeDtypeStruct((1, *image_size, channels_of(model)), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), image)
    root, open_calls = Node(""), []

    def watch(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        module, nodes = context.module, list(root.down(context.module.path))
        if not nodes[-1].kind:
            _describe(nodes[-1], type(module))
        open_calls.append(0)
        output = call(*args, **kwargs)
        innermost = not open_calls.pop()
        if open_calls:
            open_calls[-1] += 1
        if innermost:
            for node in nodes:
                node.memory += sum(_bytes(leaf) for leaf in jax.tree.leaves(output))
        array = output["logits"] if not module.path and isinstance(output, dict) else output
        if isinstance(array, jax.Array) and not nodes[-1].output:
            nodes[-1].output = array.shape[1:]
        return output

    def apply(variables: Mapping[str, Any], x: Float[Array, "1 h w c"]) -> Any:
        with nn.intercept_methods(watch), unfolded():
            return model.apply(variables, x, train=False)

    for scope, count in count_macs(apply, variables, image).items():
        for node in root.down(_module_path(scope, root)):
            node.macs += count
    for path, parameter in jax.tree_util.tree_leaves_with_path(variables["params"]):
        for node in root.down(key.key for key in path[:-1]):
            node.parameters += math.prod(parameter.shape)
    return root


def _describe(node: Node, kind: type) -> None:
    node.kind = kind.__name__
    node.about = (kind.__doc__ or "").strip().partition("\n")[0]
    node.brick = kind.__module__ in BRICKS


def _rows(node: Node, indent: str, depth: float, *, fold: bool) -> list[tuple[str, Node]]:
    """The label and the node of each row below `node`."""
    children = [child for child in node.children.values() if child.parameters or child.macs]
    if depth < 1 or (node.brick and fold):
        return []
    rows = []
    folded = _fold(children) if fold else children
    for i, child in enumerate(folded):
        last = i == len(folded) - 1
        rows.append((f"{indent}{'└ ' if last else '├ '}{child.name}", child))
        rows += _rows(child, indent + ("  " if last else "│ "), depth - 1, fold=fold)
    return rows


def _fold(nodes: list[Node]) -> list[Node]:
    """Makes one node of the numbered blocks of a stage, or convolutions of a level, that follow one another.

    >>> [node.name for node in _fold([Node("stem"), Node("stage1_block0"), Node("stage1_block1")])]
    ['stem', 'stage1_block0 … 1']
    """
    folded = []
    for _, members in groupby(nodes, key=lambda node: REPEATED.sub("", node.name)):
        first, *rest = members
        if rest:
            last = rest[-1]
            first = Node(
                f"{first.name} … {REPEATED.search(last.name)['number']}",
                f"{1 + len(rest)} {first.kind}",
                first.about,
                output=last.output,
                parameters=sum(node.parameters for node in (first, *rest)),
                macs=sum(node.macs for node in (first, *rest)),
                memory=sum(node.memory for node in (first, *rest)),
            )
        folded.append(first)
    return folded


def _module_path(scope: str, root: Node) -> list[str]:
    """The path of the innermost module among the name scopes of an equation; other scopes are passed over."""
    path, node = [], root
    for name in scope.split("/"):
        if name in node.children:
            node = node.children[name]
            path.append(name)
    return path


def _bytes(array: Any) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
