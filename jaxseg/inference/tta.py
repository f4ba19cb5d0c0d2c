"""Test-time augmentation: one prediction from those of an image mirrored, turned and scaled.

Each is mapped back to the image's pixels, and their probabilities are averaged. What is mirrored is the image, not its
padding: the network sees every variant padded as training showed it, at the same phase. So mirroring the image mirrors
what comes out; only the last bit of an exponential may depend on where in memory it is computed.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxseg.checks import UserError
from jaxseg.data.bands import FILL
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.ops.resize import resize_within

Logits = Callable[[Float[Array, "b h w c"]], Float[Array, "b h w k"]]  # of normalized, padded images
_NONE = ((False, False),)  # (up to down, left to right) of each variant
_MIRRORED = (*_NONE, (False, True))
_ALL = (*_MIRRORED, (True, False), (True, True))


@dataclasses.dataclass(frozen=True)
class TTA:
    """The variants of an image that are averaged: every scale, turned or not, with every flip.

    Args:
      scales: factors of the image's size; 1 is always among them.
      flips: (up to down, left to right) of each.
      turns: whether the image is transposed, too. With all four flips these are the eight symmetries of a square, D4.
    """

    scales: tuple[float, ...] = (1.0,)
    flips: tuple[tuple[bool, bool], ...] = _NONE
    turns: bool = False

    def __post_init__(self) -> None:
        scales = [float(scale) for scale in self.scales]
        if any(not 0.1 <= scale <= 10 for scale in scales):
            raise UserError(f"Scales of test-time augmentation are from 0.1 to 10, got {self.scales}.")
        object.__setattr__(self, "scales", tuple(dict.fromkeys([1.0, *scales])))

    def __len__(self) -> int:
        """Of how many predictions one is made."""
        return len(self.scales) * len(self.flips) * (2 if self.turns else 1)

    @classmethod
    def parse(cls, names: str | Iterable[str | float]) -> "TTA":
        """Returns the variants that are named: "flip" (left to right), "d4" (all flips and turns), and scales.

        >>> len(TTA.parse("flip")), len(TTA.parse("d4,0.75,1.25")), len(TTA.parse(""))
        (2, 24, 1)
        """
        names = names.split(",") if isinstance(names, str) else [str(name) for name in names]
        names = [name.strip().lower() for name in names if name.strip()]
        scales = []
        for name in names:
            if name in ("flip", "d4"):
                continue
            try:
                scales.append(float(name))
            except ValueError:
                known = "flip, d4, and scales as 0.75"
                raise UserError(f"Unknown test-time augmentation '{name}'. Known: {known}.") from None
        flips = _ALL if "d4" in names else _MIRRORED if "flip" in names else _NONE
        return cls(tuple(scales), flips, "d4" in names)

    def __str__(self) -> str:
        kinds = ["d4"] if self.turns else ["flip"] if len(self.flips) > 1 else []
        return ",".join(kinds + [f"{scale:g}" for scale in self.scales if scale != 1])


ALONE = TTA()  # the image as it is


def average(
    logits: Logits,
    images: Float[Array, "b h w c"],
    sizes: Int[Array, "b 2"],
    *,
    tta: TTA,
    preprocessing: Preprocessing,
    sigmoids: bool = False,
) -> Float[Array, "b h w k"]:
    """Returns logits whose probabilities are the mean of those of all variants of the images.

    Args:
      logits: of the network, at least two labels.
      images: normalized, padded at the bottom and right.
      sizes: (height, width) of each without its padding, pixels; 0 of images that are blank.
      tta: the variants.
      preprocessing: which says how the network wants images padded.
      sigmoids: whether each label has a probability of its own, which need no sum of 1.
    """
    parts = [
        _mean_of_flips(logits, images, sizes, scale, turned, tta.flips, preprocessing, sigmoids)
        for scale in tta.scales
        for turned in ((False, True) if tta.turns else (False,))
    ]
    yes, no = (_tree_sum(part) / len(parts) for part in zip(*parts, strict=True))
    least = 1e-30
    found = jnp.log(jnp.maximum(yes, least))
    return found - jnp.log(jnp.maximum(no, least)) if sigmoids else found


def _mean_of_flips(
    logits: Logits,
    images: Float[Array, "b h w c"],
    sizes: Int[Array, "b 2"],
    scale: float,
    turned: bool,
    flips: Sequence[tuple[bool, bool]],
    preprocessing: Preprocessing,
    sigmoids: bool,
) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w k"]]:
    """The mean probability that each label is, and is not, at each pixel, over the flips of one scale and turn."""
    canvas = images.shape[1:3]
    scaled, sizes_seen = images, sizes
    if scale != 1:
        seen = preprocessing.padded(*(math.ceil(n * scale) for n in canvas))
        sizes_seen = jnp.where(sizes > 0, jnp.maximum(jnp.round(sizes * scale).astype(sizes.dtype), 1), 0)
        scaled = resize_within(images, sizes, sizes_seen, seen)
    if turned:
        scaled, sizes_seen = scaled.swapaxes(1, 2), sizes_seen[:, ::-1]
        seen = preprocessing.padded(*scaled.shape[1:3])
    else:
        seen = scaled.shape[1:3]

    def one(flip: Bool[Array, " 2"]) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w k"]]:
        found = logits(_lay(scaled, sizes_seen, flip, seen, preprocessing))
        back = _pick(found, sizes_seen, flip, seen)
        size_back = sizes_seen
        if turned:
            back, size_back = back.swapaxes(1, 2), sizes_seen[:, ::-1]
        back = resize_within(back, size_back, sizes, canvas) if scale != 1 else back[:, : canvas[0], : canvas[1]]
        if sigmoids:
            return jax.nn.sigmoid(back), jax.nn.sigmoid(-back)
        found = jax.nn.softmax(back)
        return found, 1 - found

    if len(flips) == 1 and not any(flips[0]):
        return one(jnp.zeros(2, bool))
    stacked = lax.map(one, jnp.asarray(flips))  # one program for all: what differs are numbers
    return tuple(_tree_sum(list(values)) / len(flips) for values in stacked)


def _tree_sum(values: Sequence[Float[Array, "b h w k"]]) -> Float[Array, "b h w k"]:
    """The sum, of neighbors first: a flip exchanges neighbors, which does not change their sum."""
    values = list(values)
    while len(values) > 1:
        values = [sum(values[i + 1 : i + 2], values[i]) for i in range(0, len(values), 2)]
    return values[0]


def _pick(
    x: Float[Array, "b h w c"], sizes: Int[Array, "b 2"], flip: Bool[Array, " 2"], canvas: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
    """The part of every map that `sizes` tells, flipped, at the top left of `canvas`; beyond it, its mirror image."""
    for axis in (0, 1):
        n = jnp.maximum(sizes[:, axis, None], 1)
        at = jnp.arange(canvas[axis])[None] % (2 * n)
        at = jnp.where(at < n, at, 2 * n - 1 - at)
        at = jnp.where(flip[axis], n - 1 - at, at)
        shape = [x.shape[0], 1, 1, 1]
        shape[1 + axis] = canvas[axis]
        x = jnp.take_along_axis(x, at.reshape(shape), axis=1 + axis)
    return x


def _lay(
    x: Float[Array, "b h w c"],
    sizes: Int[Array, "b 2"],
    flip: Bool[Array, " 2"],
    canvas: tuple[int, int],
    preprocessing: Preprocessing,
) -> Float[Array, "b h2 w2 c"]:
    """Normalized images flipped within their sizes, padded to `canvas` as `Preprocessing.pad` does."""
    x = _pick(x, sizes, flip, canvas)
    if preprocessing.fill == "reflect":
        return x
    stored = preprocessing.bands.stored(preprocessing.mean if preprocessing.fill == "mean" else FILL)
    color = preprocessing.normalize(np.broadcast_to(stored, (1, 1, len(stored))))
    rows, columns = (jnp.arange(n)[None] < sizes[:, axis, None] for axis, n in enumerate(canvas))
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, color)
