"""What a model is made of: parameters, multiply-accumulates, strides and memory of its parts."""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.analysis.flops import count_macs
from jaxseg.checks import UserError
from jaxseg.models import MODELS, create_model

FOOTNOTE = """\
GMAC: 10^9 multiply-accumulates of convolutions and matrix products (resizing included), one image, forward; a training
step takes three times as many. Memory: what the part's convolutions, norms and other innermost modules put out, one
image; about what training keeps of it for the backward pass. Stride: image pixels a feature."""


@dataclass
class Part:
    """One row of the table."""

    name: str
    output: tuple[int, ...] = ()  # shape without the batch axis
    parameters: int = 0
    macs: int = 0
    memory: int = 0  # bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `run` reads."""
    parser.add_argument("what", metavar="CONFIG_OR_MODEL", help="a file of configs/, or a key of jaxseg.MODELS")
    parser.add_argument(
        "--encoder", default="", help="a key of jaxseg.ENCODERS; default: the architecture's; a config has its own"
    )
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--size", type=int, nargs="+", help="height and width in pixels; default: the crop, or 512")


def run(args: argparse.Namespace) -> int:
    """Prints the summary of a config's or an architecture's model and returns the exit status."""
    if args.what in MODELS:
        model, size = create_model(args.what, args.encoder, num_classes=args.classes), (512, 512)
    elif Path(args.what).suffix == ".py":
        model, size = _from_config(Path(args.what), args.classes)
    else:
        raise UserError(f"'{args.what}' is neither a config file nor a model. Known models: {', '.join(MODELS)}.")
    if args.size:
        size = (args.size[0], args.size[-1])
    print(summarize(model, size))
    return 0


def _from_config(path: Path, num_classes: int) -> tuple[nn.Module, tuple[int, int]]:
    import runpy

    from jaxseg.training.experiment import build_model

    if not path.exists():
        raise UserError(f"{path} does not exist. Give a file of configs/, or one of: {', '.join(MODELS)}.")
    config = runpy.run_path(str(path))["get_config"]()
    return build_model(config, num_classes), tuple(config.data.crop)


def summarize(model: nn.Module, image_size: tuple[int, int] = (512, 512)) -> str:
    """Returns a table of the model's parts, in the order in which they run; nothing is computed.

    Args:
      model: of `jaxseg.create_model`.
      image_size: (height, width) in pixels.
    """
    rows = parts(model, image_size)
    total = Part("total")
    names = [type(part).__name__ for part in (model, getattr(model, "encoder", None)) if part is not None]
    lines = [
        f"{' / '.join(names)}, {jnp.dtype(model.dtype).name}, one image of {image_size[0]} x {image_size[1]} pixels",
        "",
        f"{'part':28}{'output':>18}{'stride':>8}{'parameters':>13}{'GMAC':>10}{'':7}{'memory':>12}",
    ]
    for row in rows:
        total.parameters, total.macs = total.parameters + row.parameters, total.macs + row.macs
        total.memory += row.memory
    for row in [*rows, total]:
        shape = " x ".join(map(str, row.output))
        stride = f"{image_size[0] / row.output[0]:.3g}" if len(row.output) == 3 else ""
        share = f"{100 * row.macs / max(total.macs, 1):.0f} %"
        lines.append(
            f"{row.name:28}{shape:>18}{stride:>8}{row.parameters:>13,}{row.macs / 1e9:>10.3f}{share:>7}"
            f"{row.memory / 2**20:>8.1f} MiB"
        )
    return "\n".join([*lines, "", FOOTNOTE])


def parts(model: nn.Module, image_size: tuple[int, int]) -> list[Part]:
    """Returns the parts of a model: modules two deep, an encoder's blocks gathered into their stages.

    Args:
      model: of `jaxseg.create_model`.
      image_size: (height, width) in pixels.
    """
    image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    variables = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), image)
    rows, open_calls, modules = {}, [], {()}

    def at(path: tuple[str, ...]) -> Part:
        name = part_name(path)
        return rows.setdefault(name, Part(name))

    def watch(call, args, kwargs, context):
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        path = context.module.path
        modules.add(path)
        at(path)  # where it starts, not where it ends, decides about a row's place
        open_calls.append(0)
        output = call(*args, **kwargs)
        innermost = not open_calls.pop()
        if open_calls:
            open_calls[-1] += 1
        if innermost:
            at(path).memory += sum(_bytes(leaf) for leaf in jax.tree.leaves(output))
        if isinstance(output, jax.Array) and len(path) in (1, 2):
            at(path).output = output.shape[1:]
        return output

    def apply(variables, x):
        with nn.intercept_methods(watch):
            return model.apply(variables, x, train=False)

    macs = count_macs(apply, variables, image)
    for scope, count in macs.items():
        at(_module_path(scope, modules)).macs += count
    for path, parameter in jax.tree_util.tree_leaves_with_path(variables["params"]):
        at(tuple(key.key for key in path[:-1])).parameters += math.prod(parameter.shape)
    return [row for row in rows.values() if row.parameters or row.macs]


def part_name(path: tuple[str, ...]) -> str:
    """Returns the row that a module belongs to.

    >>> part_name(("encoder", "stage3_block2", "conv1"))
    'encoder/stage3'
    >>> part_name(("head", "conv"))
    'head'
    """
    if not path:
        return "the model itself"
    if path[0] not in ("encoder", "decoder"):
        return path[0]
    if len(path) == 1:
        return f"{path[0]} itself"
    return f"{path[0]}/{re.sub(r'_(block|conv)[0-9]+$', '', path[1])}"


def _module_path(scope: str, modules: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the innermost module among the name scopes of an equation; the first scope is the model's class."""
    names = tuple(scope.split("/")[1:])
    return max((names[:n] for n in range(len(names) + 1) if names[:n] in modules), key=len)


def _bytes(array: Any) -> int:
    return math.prod(array.shape[1:]) * array.dtype.itemsize
