"""Fully connected conditional random fields, solved by mean field: every pixel votes on every other's label."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Shaped

from jaxseg.checks import UserError, lookup
from jaxseg.ops.permutohedral import build_lattice, lattice_filter

Number = float | Float[ArrayLike, ""]  # maybe traced
Filter = Callable[[Float[Array, "h w c"]], Float[Array, "h w c"]]

# name -> scales applied before and after blurring, computed from norm = blur(1) and its mean
NORMALIZATIONS: dict[str, Callable] = {
    "symmetric": lambda norm, mean: (norm**-0.5, norm**-0.5),
    "before": lambda norm, mean: (1 / norm, 1.0),
    "after": lambda norm, mean: (1.0, 1 / norm),
    "none": lambda norm, mean: (1 / mean, 1.0),
}


def mean_field(
    logits: Float[ArrayLike, "... c"],
    pairwise: Callable[[Float[ArrayLike, "... c"]], Float[ArrayLike, "... c"]],
    *,
    iterations: int,
) -> Float[Array, "... c"]:
    """Returns scores whose softmax is Q, the mean field of a random field (Krähenbühl & Koltun, 2011, alg. 1).

    Starts from Q = softmax(logits); each iteration sets Q = softmax(logits - pairwise(Q)) at all pixels at once.

    Args:
      logits: scores of a network: log-probabilities, up to a constant per pixel.
      pairwise: function from Q to the cost of every label at every pixel.
      iterations: number of iterations, at least 0.

    >>> beside = lambda q: -2 * q[::-1]  # two pixels that want the same label
    >>> jnp.argmax(mean_field(jnp.array([[3.0, 0.0], [0.0, 0.1]]), beside, iterations=3), -1).tolist()
    [0, 0]
    """
    if iterations < 0:
        raise UserError(f"`iterations` must be at least 0, got {iterations}.")
    logits = logits.astype(jnp.float32)
    return lax.fori_loop(0, iterations, lambda _, scores: logits - pairwise(jax.nn.softmax(scores)), logits)


def spatial_kernel(
    size: tuple[int, int],
    sigma: Number,
    *,
    where: Bool[ArrayLike, "h w"] | None = None,
    normalization: str = "symmetric",
) -> Filter:
    """Returns the exact blur by exp(-|distance|² / 2σ²) over all pixels, as one matrix per axis.

    Args:
      size: (height, width) of the image, in pixels.
      sigma: σ, in pixels.
      where: valid pixels (None means all). Invalid pixels neither send nor receive messages.
      normalization: "symmetric" (D^-½ K D^-½, with D the row sums of K), "before" (K D^-1), "after" (D^-1 K) or
        "none" (K over D's mean).

    >>> spatial_kernel((1, 3), 1.0, normalization="after")(jnp.ones((1, 3, 1))).round(5).ravel().tolist()
    [1.0, 1.0, 1.0]
    """

    def weights(n: int) -> Float[Array, "n n"]:
        i = jnp.arange(n)
        squared = (i[:, None] - i[None]) ** 2
        return jnp.exp(-0.5 * squared.astype(jnp.float32) / sigma**2)

    rows, columns = (weights(n) for n in size)

    def blur(x):
        return jnp.einsum("yi,xj,ijc->yxc", rows, columns, x, precision=lax.Precision.HIGHEST)

    return _normalize(blur, jnp.ones(size, bool) if where is None else where, normalization)


def bilateral_kernel(
    image: Shaped[ArrayLike, "h w k"],
    sigma: Number,
    color_sigma: Number,
    *,
    where: Bool[ArrayLike, "h w"] | None = None,
    normalization: str = "symmetric",
) -> Filter:
    """Returns the blur by exp(-|distance|² / 2σ² - |difference of color|² / 2σ_c²), on a permutohedral lattice.

    Args:
      image: any number of channels, e.g. uint8 RGB.
      sigma: σ, in pixels.
      color_sigma: σ_c, in the image's units.
      where: valid pixels (None means all). Invalid pixels neither send nor receive messages.
      normalization: as for `spatial_kernel`.

    >>> image = jnp.array([[[0, 0, 0], [0, 0, 0], [255, 255, 255]]])
    >>> blur = jax.jit(lambda x: bilateral_kernel(image, 80.0, 13.0, normalization="after")(x))
    >>> print(blur(jnp.array([[[1.0], [3.0], [7.0]]])).round(1).ravel())
    [2. 2. 7.]
    """
    h, w, k = image.shape
    where = jnp.ones((h, w), bool) if where is None else where
    place = jnp.stack(jnp.meshgrid(jnp.arange(w), jnp.arange(h)), -1)
    features = jnp.concatenate(
        [place.astype(jnp.float32) / sigma, image.astype(jnp.float32) / color_sigma], -1
    ).reshape(h * w, k + 2)
    valid = features[jnp.argmax(where)]  # an invalid pixel adds no vertex to the lattice
    lattice = build_lattice(jnp.where(where.reshape(-1, 1), features, valid))

    def blur(x):
        return lattice_filter(lattice, x.reshape(h * w, -1)).reshape(x.shape)

    return _normalize(blur, where, normalization)


def _normalize(blur, where, how):
    where = where[..., None]
    norm = jnp.maximum(blur(where.astype(jnp.float32)), 1e-20)
    mean = jnp.where(where, norm, 0).sum() / jnp.maximum(where.sum(), 1).astype(jnp.float32)
    before, after = lookup(NORMALIZATIONS, how, "normalization")(norm, mean)
    return lambda x: jnp.where(where, after * blur(jnp.where(where, before * x, 0)), 0)


def dense_crf(
    logits: Float[ArrayLike, "b h w c"],
    images: Shaped[ArrayLike, "b h w k"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    iterations: int = 5,
    spatial_weight: Number = 3.0,
    spatial_sigma: Number = 3.0,
    bilateral_weight: Number = 4.0,
    bilateral_sigma: Number = 50.0,
    color_sigma: Number = 5.0,
    compatibility: Float[ArrayLike, "c c"] | None = None,
    normalization: str = "symmetric",
) -> Float[Array, "b h w c"]:
    """Refines scores by a fully connected CRF with Gaussian edges (Krähenbühl & Koltun, 2011, arXiv:1210.5644).

    The softmax of the result is the mean field Q. As in the authors' code, and unlike in the paper, a pixel also
    votes on its own label. The spatial kernel is exact; the bilateral one is on a lattice. Widths and weights
    may be traced arrays. Images are processed one by one, so that memory does not grow with the batch.

    Args:
      logits: a network's scores of every pixel.
      images: the images, in the units of `color_sigma`: uint8 or 0 to 255.
      where: valid pixels (None means all), for images that were padded to one size.
      iterations: of the mean field, at least 0.
      spatial_weight: of the kernel of positions, in units of the logits.
      spatial_sigma: its width, in pixels.
      bilateral_weight: of the kernel of positions and colors, in units of the logits.
      bilateral_sigma: its width in space, in pixels.
      color_sigma: its width in color, in units of the images.
      compatibility: cost of label j beside label i, [i, j]; None is Potts: 1 for different labels, 0 for the same.
      normalization: of both kernels, as for `spatial_kernel`.

    >>> image = jnp.array([[[[0, 0, 0]] * 4 + [[255, 255, 255]] * 2]])
    >>> says = jnp.array([0, 0, 1, 0, 1, 1])[None, None, :, None] == jnp.arange(2)  # the third pixel is wrong
    >>> print(jax.jit(dense_crf)(1.0 * says, image).argmax(-1))
    [[[0 0 0 0 1 1]]]
    """
    if images.shape[:3] != logits.shape[:3]:
        raise UserError(f"Logits {logits.shape} and images {images.shape} disagree: expected one size and number.")
    if where is None:
        where = jnp.ones(logits.shape[:3], bool)

    def refine(sample):
        scores, image, valid = sample
        kernels = [
            (spatial_weight, spatial_kernel(valid.shape, spatial_sigma, where=valid, normalization=normalization)),
            (
                bilateral_weight,
                bilateral_kernel(image, bilateral_sigma, color_sigma, where=valid, normalization=normalization),
            ),
        ]

        def pairwise(q):
            votes = sum(weight * kernel(q) for weight, kernel in kernels)
            return -votes if compatibility is None else votes @ compatibility

        return mean_field(scores, pairwise, iterations=iterations)

    return lax.map(refine, (logits, images, where))
