"""Receptive fields: the part of the image that can reach a feature or a score, and the part that does."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.analysis.spans import trace_spans
from jaxseg.blocks.conv import unfolded
from jaxseg.models.init import channels_of

UNBOUNDED = 4096  # pixels; a field that fills an image of this size is said to be the whole image
THRESHOLD = 1 - 0.9545  # of the largest gradient: what is left outside two standard deviations of a Gaussian

FOOTNOTE = f"""\
For the feature, or the class score, in the middle of the image. Theoretical: pixels that can reach it, in an image
without borders; "local" leaves out what averages over the whole image (pooling, attention) bring. Effective (Luo et
al., 2016): the side of a square of as many pixels as have more than {100 * THRESHOLD:.2f} % of the largest gradient;
share: its part of the theoretical field in this image."""


@dataclasses.dataclass(frozen=True)
class Field:
    """The field of the middle of one feature map."""

    name: str
    stride: float  # pixels of the image a feature
    box: tuple[int, int, int, int]  # that can reach it in this image: top, left, bottom, right; the last two excluded
    size: tuple[int, int] | None  # (height, width) of the field without borders; None: the whole of any image
    local: tuple[int, int] | None  # the same without averages over the whole image
    heat: Float[np.ndarray, "h w"] | None = None  # gradient, root mean square

    @property
    def side(self) -> float:
        """Side, in pixels, of a square with the area of the effective field."""
        return float(np.sqrt((self.heat > THRESHOLD * self.heat.max()).sum()))


def features(
    apply: Callable[[Float[Array, "1 h w c"]], Any], image: Float[Array, "1 h w c"], depth: int
) -> dict[str, Shaped[Array, "1 _h _w _c"]]:
    """Returns the feature maps that a call of a model passes through, by name, in the order in which they appear.

    An encoder's levels go by their names, "c1" to "c5", other modules by their paths; a later call of one module has
    a number. The model's own outputs come last.

    Args:
      apply: runs the model on `image`.
      image: normalized.
      depth: of the modules, in names; those inside the encoder are left out.
    """
    found, running = {}, []

    def keep(name: str, result: Any) -> None:
        for path, leaf in jax.tree.leaves_with_path(result):
            full = "/".join([name, *(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)]).strip("/")
            if getattr(leaf, "ndim", 0) == 4:
                calls = sum(other.partition(" #")[0] == full for other in found)
                found[f"{full} #{calls + 1}" if calls else full] = leaf

    def watch(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: nn.module.InterceptorContext
    ) -> Any:
        path = context.module.path
        if context.method_name != "__call__" or path in running:  # within a call of the same module
            return call(*args, **kwargs)
        running.append(path)
        result = call(*args, **kwargs)
        running.pop()
        if 0 < len(path) <= depth and path[0] != "encoder":
            keep("/".join(path), result)
        elif path == ("encoder",):
            keep("", result)
        return result

    with nn.intercept_methods(watch):
        outputs = apply(image)
    keep("", outputs)
    return found


def theoretical(model: nn.Module, image_size: tuple[int, int], depth: int = 1) -> list[Field]:
    """Returns the theoretical fields of a model's feature maps; only shapes are computed.

    Args:
      model: of `jaxseg.create_model`, or an encoder.
      image_size: (height, width) in pixels.
      depth: see `features`.
    """

    def apply(image: Float[Array, "1 h w c"]) -> Any:
        with unfolded():
            return model.init_with_output(jax.random.key(0), image, train=False)[0]

    @cache
    def trace(size: tuple[int, int]) -> tuple[ClosedJaxpr, dict[str, jax.ShapeDtypeStruct]]:
        image = jax.ShapeDtypeStruct((1, *size, channels_of(model)), jnp.float32)
        return jax.make_jaxpr(partial(features, apply, depth=depth), return_shape=True)(image)

    def measure(
        size: tuple[int, int], *, averages: bool = True
    ) -> dict[str, tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]]:
        """Name -> shape, first and last row, first and last column."""
        program, maps = trace(size)
        leaves, order = jax.tree.flatten(maps)
        along = [trace_spans(program, (1, *size, 3), axis=axis, averages=averages) for axis in (1, 2)]
        found = [
            (leaf.shape, _middle(rows, leaf.shape), _middle(columns, leaf.shape))
            for leaf, rows, columns in zip(leaves, *along, strict=True)
        ]
        return {name: found[i] for name, i in jax.tree.unflatten(order, range(len(found))).items()}

    here, wide = measure(image_size), measure((UNBOUNDED, UNBOUNDED))
    sizes = {name: _size(*spans) for name, (_, *spans) in wide.items()}
    local = sizes
    if None in sizes.values():
        local = {name: _size(*spans) for name, (_, *spans) in measure((UNBOUNDED, UNBOUNDED), averages=False).items()}
    fields = []
    for name, (shape, (top, bottom), (left, right)) in here.items():
        box = (top, left, bottom + 1, right + 1)
        fields.append(Field(name, image_size[0] / shape[1], box, sizes[name], local[name]))
    return fields


def _middle(bounds: Int[np.ndarray, "2 b h w c"], shape: tuple[int, ...]) -> tuple[int, int]:
    """First and last pixel that the element in the middle of a feature map depends on, over its channels."""
    row, column = (shape[axis] // 2 if bounds.shape[1 + axis] > 1 else 0 for axis in (1, 2))
    first, last = bounds[:, 0, row, column]
    return int(first.min()), int(last.max())


def _size(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[int, int] | None:
    """(height, width) of a field; None if it fills the image."""
    if rows == columns == (0, UNBOUNDED - 1):
        return None
    return rows[1] - rows[0] + 1, columns[1] - columns[0] + 1


def effective(
    model: nn.Module,
    variables: Mapping[str, Any],
    images: Float[Array | np.ndarray, "n h w c"],
    names: Sequence[str],
    *,
    key: jax.Array,
) -> dict[str, Float[np.ndarray, "h w"]]:
    """Returns the effective receptive field of the center of each feature map (Luo et al., 2016, arXiv:1701.04128).

    It is the gradient, with respect to the image, of the sum of the center's channels with random signs; its root mean
    square over images and colors. Luo et al. average over random images and weights; here the weights are given.
    Signs are drawn for each image, so that the mean is over all channels, of the scores over all classes.

    Args:
      model: of `jaxseg.create_model`, or an encoder.
      variables: its variables, fresh or trained.
      images: normalized, or noise.
      names: of the feature maps, see `features`, of depth 1.
      key: for the signs.
    """

    def middles(image: Float[Array, "1 h w c"]) -> list[Float[Array, " _c"]]:
        found = features(partial(model.apply, variables, train=False), image, depth=1)
        return [found[name][0, found[name].shape[1] // 2, found[name].shape[2] // 2] for name in names]

    @jax.jit
    def gradients(image: Float[Array, "1 h w c"], key: jax.Array) -> Float[Array, "n 1 h w c"]:
        values, pullback = jax.vjp(middles, image)
        keys = jax.random.split(key, len(names))
        signs = [jax.random.rademacher(k, v.shape, v.dtype) for k, v in zip(keys, values, strict=True)]
        chosen = [jnp.eye(len(names), dtype=s.dtype)[:, i, None] * s for i, s in enumerate(signs)]  # one map at a time
        return jax.lax.map(pullback, chosen)[0]

    total = np.zeros((len(names), *images.shape[1:3]))
    for image, draw in zip(images, jax.random.split(key, len(images)), strict=True):
        found = np.asarray(gradients(image[None], draw), np.float64)[:, 0]
        total += (found**2).sum(-1)
    return dict(zip(names, np.sqrt(total / len(images)), strict=True))


def table(fields: Sequence[Field]) -> str:
    """Returns the fields as text, one per line.

    >>> print(table([Field("c1", 2.0, (0, 0, 3, 3), (3, 3), (3, 3)), Field("logits", 1.0, (0, 0, 9, 9), None, (5, 7))]))
    features  stride    theoretical         local  effective    share
    c1             2          3 x 3         3 x 3
    logits         1  whole image         5 x 7
    """
    width = max(len("features"), *(len(field.name) for field in fields))
    lines = [f"{'features':{width}}{'stride':>8}{'theoretical':>15}{'local':>14}{'effective':>11}{'share':>9}"]
    for field in fields:
        line = f"{field.name:{width}}{field.stride:>8.3g}{_pixels(field.size):>15}{_pixels(field.local):>14}"
        if field.heat is not None:
            line += f"{field.side:>11.0f}{100 * share(field):>7.1f} %"
        lines.append(line)
    return "\n".join(lines)


def _pixels(size: tuple[int, int] | None) -> str:
    return "whole image" if size is None else f"{size[0]} x {size[1]}"


def share(field: Field) -> float:
    """Returns the effective field's area divided by the theoretical one's, in this image."""
    top, left, bottom, right = field.box
    return field.side**2 / ((bottom - top) * (right - left))


def numbers(field: Field) -> dict[str, Any]:
    """Returns a field as JSON holds it: all but its heat."""
    found = {key: getattr(field, key) for key in ("name", "stride", "box", "size", "local")}
    return found if field.heat is None else {**found, "effective_side": field.side, "share": share(field)}
