"""The embedded data set: lit, overlapping shapes on textured ground, drawn on demand; nothing to download.

An image is a pure function of (seed, split, index). Every shape takes its colors, texture, size and turn from the
same distributions as all others, so that neither color nor texture tells its class: only the outline does (unless
`color` says otherwise). The ground has the same textures in duller colors. A ring is a disk but for its hole, and a
large shape is wider than a small receptive field; both need context. Classes are disjoint under overlap: the shape
drawn last hides what it covers.
"""

import functools
import math

import numpy as np
from jaxtyping import Float, UInt8

from jaxseg.checks import UserError
from jaxseg.data.dataset import Dataset
from jaxseg.data.drawn import drawn_splits

CLASSES = ("background", "disk", "square", "triangle", "star", "ring", "cross")
PALETTE = (
    (64, 64, 72),
    (230, 85, 75),
    (80, 150, 235),
    (245, 195, 70),
    (165, 105, 225),
    (70, 195, 140),
    (235, 130, 190),
)
IGNORE = 255
SMALLEST, LARGEST = 0.11, 0.3  # radius of a shape, of the image's side


def shapes(
    *,
    size: int = 128,
    train: int = 512,
    val: int = 64,
    seed: int = 0,
    border: int = 0,
    noise: float = 6.0,
    color: float = 0.0,
) -> Dataset:
    """Seven classes of drawn shapes: background, disk, square, triangle, star, ring, cross.

    Args:
      size: side of the images, pixels.
      train: number of images of the split "train".
      val: number of images of the split "val".
      seed: of all images; another seed is another data set of the same kind.
      border: width of the ignored band along the outlines, pixels; 0 has none.
      noise: largest standard deviation of the pixel noise, in units of 1/255.
      color: how far a shape's hue tells its class, 0 (not at all) to 1 (each class has one hue); larger is easier, so
        that a short run says something.
    """
    given = {"size": size, "train": train, "val": val, "seed": seed, "border": border, "noise": noise, "color": color}
    splits = drawn_splits(shapes, draw, given, smallest=16)
    if border < 0:
        raise UserError(f"shapes: `border` must be at least 0, got {border}.")
    if not 0 <= color <= 1:
        raise UserError(f"shapes: `color` must be in [0, 1], got {color}.")
    return Dataset("shapes", CLASSES, PALETTE, splits, IGNORE)


def draw(rng: np.random.Generator, size: int, border: int, noise: float, color: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image, uint8[size, size, 3], and its label, uint8[size, size], that `rng` leads to."""
    angle = 2 * math.pi * rng.random()
    light = np.array([math.sin(angle), math.cos(angle)], np.float32)  # (y, x), where the light comes from
    height = 0.5 + 0.3 * rng.random()  # of the light; low light shades and throws shadows more
    image = _paint(rng, size, size) * _glow(rng, light, size)
    label = np.zeros((size, size), np.uint8)
    count = 2 + int(4 * rng.random())
    radii = np.sort(size * SMALLEST * (LARGEST / SMALLEST) ** rng.random(count))[::-1]  # small ones over large ones
    for center, radius in zip(_spread(rng, radii, size), radii.tolist(), strict=True):
        _add_shape(rng, image, label, center, radius, light, height, border, color)
    grain = noise * rng.random() * rng.standard_normal((size, size, 1), np.float32)
    speckle = 0.5 * noise * rng.random() * rng.standard_normal((size, size, 3), np.float32)
    image += grain + speckle
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), label


def _spread(rng: np.random.Generator, radii: np.ndarray, size: int) -> list[tuple[float, float]]:
    """Returns a (y, x) for each radius: of four random places the one where it covers least, or is covered least."""
    centers: list[tuple[float, float]] = []
    for radius in radii:
        places = (size * (0.1 + 0.8 * rng.random((4, 2)))).tolist()

        def room(place: list[float], radius: float = radius) -> float:
            return min((math.dist(place, c) - radius - r for c, r in zip(centers, radii, strict=False)), default=0.0)

        centers.append(tuple(max(places, key=room)))
    return centers


def _add_shape(
    rng: np.random.Generator,
    image: Float[np.ndarray, "size size 3"],
    label: UInt8[np.ndarray, "size size"],
    center: tuple[float, float],
    radius: float,
    light: Float[np.ndarray, "2"],
    height: float,
    border: int,
    color: float,
) -> None:
    """Draws one shape of a random class, its shadow and its label into `image` and `label`."""
    size = label.shape[0]
    kind = 1 + int((len(CLASSES) - 1) * rng.random())
    turn = 2 * math.pi * rng.random()
    throw = radius * (0.15 + 0.25 * rng.random())  # how far the shadow falls
    reach = int(radius * 1.5 + throw + 2)
    top, left = (max(int(c) - reach, 0) for c in center)
    bottom, right = (min(int(c) + reach, size) for c in center)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - center[0])
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - center[1])
    distance = _distance(kind, y, x, radius, turn)

    window = image[top:bottom, left:right]
    shadow_distance = _distance(kind, y + throw * light[0], x + throw * light[1], radius, turn)
    softness = 0.35 * throw + 1.0
    shadow = np.clip(0.5 - shadow_distance / (2 * softness), 0, 1)
    shadow = shadow * shadow * (3 - 2 * shadow)
    window *= (1 - (0.75 - 0.5 * height) * shadow)[..., None]

    bevel = max(0.22 * radius, 1.5)
    rise = np.clip(-distance / bevel, 0, 1)
    slope_y, slope_x = np.gradient(rise * (2 - rise), axis=0), np.gradient(rise * (2 - rise), axis=1)
    relief = 1 - 0.55 * bevel * (slope_y * light[0] + slope_x * light[1])
    hues = ((kind - 1) / (len(CLASSES) - 1), 1 - color)
    surface = _paint(rng, bottom - top, right - left, hues) * np.clip(relief, 0.35, 1.6)[..., None]
    cover = np.clip(0.5 - distance, 0, 1)[..., None]  # of the pixel by the shape: antialiasing
    window += cover * (surface - window)

    ids = label[top:bottom, left:right]
    if border:
        ids[distance < border / 2] = IGNORE
    ids[distance < (-border / 2 if border else 0)] = kind


def _distance(kind: int, y: np.ndarray, x: np.ndarray, r: float, turn: float) -> np.ndarray:
    """Returns the signed distance, in pixels, of the points (y, x) to the outline of a shape; negative is inside."""
    c, s = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    u, v = c * x + s * y, c * y - s * x
    match CLASSES[kind]:
        case "disk":
            return np.hypot(u, v) - r
        case "ring":
            return np.abs(np.hypot(u, v) - 0.74 * r) - 0.26 * r
        case "square":
            return np.maximum(np.abs(u), np.abs(v)) - 0.85 * r
        case "triangle":
            return np.maximum(np.maximum(-v, 0.5 * v + 0.8660254 * u), 0.5 * v - 0.8660254 * u) - 0.58 * r
        case "cross":
            u, v = np.abs(u), np.abs(v)
            arm, long = np.minimum(u, v), np.maximum(u, v)
            return np.maximum(arm - 0.32 * r, long - r)
        case _:
            return _star(u, v, r)


def _star(u: np.ndarray, v: np.ndarray, r: float) -> np.ndarray:
    """Signed distance to the edges of a five-pointed star: each wedge of 36 degrees is bounded by one line."""
    sector = 2 * math.pi / 5
    angle = np.arctan2(v, u)
    angle = np.abs(angle - sector * np.round(angle / sector))  # from the nearest point's axis, 0..36 degrees
    away = np.hypot(u, v)
    tip, notch = 1.12 * r, 0.5 * r
    notch_x, notch_y = notch * math.cos(sector / 2), notch * math.sin(sector / 2)
    edge = math.hypot(tip - notch_x, notch_y)
    normal_x, normal_y = notch_y / edge, (tip - notch_x) / edge
    return away * (np.cos(angle) * normal_x + np.sin(angle) * normal_y) - tip * normal_x


def _paint(rng: np.random.Generator, height: int, width: int, hues: tuple[float, float] | None = None) -> np.ndarray:
    """Returns a patch of texture, float32[height, width, 3] in 0..255: two colors mixed by a random pattern.

    `hues` are the middle and the width of a shape's range of hues; None paints ground, which has all, but duller.
    """
    dark, bright = _two_colors(rng, hues)
    mix = _pattern(rng, height, width)[..., None]
    return dark + mix * (bright - dark)


def _two_colors(rng: np.random.Generator, hues: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns a color and a relative of it, darker or lighter and a little turned in hue."""
    hue, saturation, value = rng.random(3)
    if hues is None:
        saturation, value = 0.05 + 0.3 * saturation, 0.3 + 0.5 * value
    else:
        saturation, value = 0.35 + 0.55 * saturation, 0.5 + 0.45 * value
        if hues[1] < 1:
            hue = hues[0] + hues[1] * (hue - 0.5)
    step = (0.08 + 0.12 * rng.random()) * (1 if value < 0.6 else -1)
    shift = 0.1 * (rng.random() - 0.5)
    return _rgb(hue, saturation, value), _rgb(hue + shift, saturation, value + step)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    turned = (hue + np.array([0, 2 / 3, 1 / 3], np.float32)) * 6 % 6
    pure = np.clip(np.abs(turned - 3) - 1, 0, 1)
    return (255 * value * (1 - saturation + saturation * pure)).astype(np.float32)


def _pattern(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns one of five patterns in 0..1: plain, clouds, stripes, checks or dots, a little clouded each."""
    clouds = _clouds(rng, height, width)
    kind, angle, period = int(5 * rng.random()), math.pi * rng.random(), 5 + 11 * rng.random()
    if kind == 0:
        return 0.3 * clouds
    if kind == 1:
        return clouds
    phase = 2 * math.pi * rng.random()
    k = 2 * math.pi / period
    c, s = k * math.cos(angle), k * math.sin(angle)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    first = np.sin((c * x + phase) + s * y)
    if kind == 2:
        wave = first
    else:
        second = np.sin((c * y + phase) - s * x)
        wave = first * second if kind == 3 else first + second - 1
    return np.clip(0.5 + 1.5 * wave, 0, 1) * 0.8 + 0.2 * clouds


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns value noise of two octaves in about 0..1: random grids, smoothly enlarged."""
    total = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 0.65), (9, 0.35)):
        grid = rng.random((cells + 1, cells + 1), np.float32)
        total += weight * (_enlarge(height, cells) @ grid @ _enlarge(width, cells).T)
    return np.clip(1.4 * total - 0.2, 0, 1)


@functools.lru_cache(maxsize=512)
def _enlarge(length: int, cells: int) -> np.ndarray:
    """Returns the matrix [length, cells + 1] that interpolates `cells + 1` knots smoothly to `length` points."""
    at = (np.arange(length, dtype=np.float32) + 0.5) * (cells / length)
    weight = np.clip(1 - np.abs(at[:, None] - np.arange(cells + 1, dtype=np.float32)), 0, 1)
    return weight * weight * (3 - 2 * weight)


def _glow(rng: np.random.Generator, light: np.ndarray, size: int) -> np.ndarray:
    """Returns the fall-off of the light over the ground, float32[size, size, 1] around 0.9."""
    along = np.arange(size, dtype=np.float32) / size - 0.5
    ramp = along[:, None] * light[0] + along[None, :] * light[1]
    return (0.9 + (0.1 + 0.25 * rng.random()) * ramp)[..., None].astype(np.float32)
