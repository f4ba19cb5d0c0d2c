"""Region mutual information: compares neighborhoods of prediction and label instead of single pixels."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import BinaryLabels, binary_targets, check_binary, counted_logits, one_hot


def region_mutual_information(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    stride: int = 3,
    region: int = 3,
    regularizer: float = 5e-4,
) -> Float[Array, ""]:
    """Region mutual information loss (Zhao et al., 2019, arXiv:1910.12037), mean over images and classes.

    The probability map P and the one-hot label T are averaged over windows of `stride` pixels; a pixel of the small
    maps is then the vector of its `region`² neighbors, in P and in T. With Σ the covariances of these vectors over the
    image, M = Σ_T - Σ_TP (Σ_P + αI)⁻¹ Σ_TPᵀ is the part of T that no linear map of P explains, and the loss is
    ½ log det(I + M / α) / region². It ignores single pixels, so the paper adds it to cross entropy, with weights of ½.

    What differs from the paper: covariances are means over pixels rather than sums, so that α is a variance and does
    not depend on the image's size; ½ log α is taken off, which makes 0 the least loss, with the same gradient (a map
    that is right costs at most ½ log 2: α leaves M that much); a neighbor that is ignored or beyond the edge stands at
    its mean, where the paper drops the neighborhoods at the edge; P is the softmax (the paper's sigmoids are
    `sigmoid_region_mutual_information`). Differentiate it once: its second derivatives leave a part out.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image with fewer than two contributes 0.
      stride: side of the windows averaged, in pixels, >= 1.
      region: side of the neighborhood, in windows, odd.
      regularizer: α above, a variance of probabilities, in [1e-4, 1].

    >>> labels = jnp.arange(36).reshape(1, 6, 6) % 5 % 2
    >>> right, flat = 20.0 * jax.nn.one_hot(labels, 2), jnp.zeros((1, 6, 6, 2))
    >>> loss = jax.jit(region_mutual_information)
    >>> print(f"{loss(right, labels):.2f} {loss(flat, labels):.2f}")
    0.10 0.30
    """
    check_logits_and_labels(logits, labels, where)
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    return _unexplained(probabilities, one_hot(labels, logits.shape[-1]), where, stride, region, regularizer)


def sigmoid_region_mutual_information(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    stride: int = 3,
    region: int = 3,
    regularizer: float = 5e-4,
) -> Float[Array, ""]:
    """`region_mutual_information` of the sigmoid of each class, the paper's own (Zhao et al., 2019, arXiv:1910.12037).

    Args:
      logits: scores, positive where the class is, any float dtype; the loss is computed in float32.
      labels: class ids, each class against all others (of a single class: 1 is the foreground, 0 is not), or a 0 or 1
        for every class of every pixel; never read where `where` is False.
      where: as in `region_mutual_information`.
      stride: as in `region_mutual_information`.
      region: as in `region_mutual_information`.
      regularizer: as in `region_mutual_information`.
    """
    check_binary(logits, labels, where)
    target = binary_targets(labels, logits.shape[-1])
    return _unexplained(jax.nn.sigmoid(counted_logits(logits, where)), target, where, stride, region, regularizer)


def _unexplained(probabilities, target, where, stride, region, regularizer):
    for name, value in (("stride", stride), ("region", region)):
        if value < 1 or (name == "region" and value % 2 == 0):
            raise UserError(f"`{name}` must be {'odd and ' * (name == 'region')}at least 1, got {value}.")
    if not 1e-4 <= regularizer <= 1:
        raise UserError(f"`regularizer` must be in [1e-4, 1], got {regularizer}: float32 holds no smaller variance.")
    if where is None:
        where = jnp.ones(target.shape[:-1], bool)
    classes = target.shape[-1]
    both = jnp.concatenate([probabilities, target.astype(jnp.float32)], axis=-1)
    both, counts = window_means(both, where, stride)
    vectors = neighborhoods(both, counts, region)  # [b, 2c, d, n], deviations from the mean
    pixels = jnp.maximum(counts.sum((1, 2)), 1).astype(jnp.float32)[:, None, None, None]
    unexplained = _residual_covariance(vectors[:, :classes], vectors[:, classes:], pixels, regularizer)
    diagonal = jnp.eye(region**2)[None, None]
    pivots = (jnp.linalg.cholesky(diagonal + unexplained / regularizer) * diagonal).sum(-1)
    return jnp.log(pivots).mean()


def _residual_covariance(p, t, pixels, alpha):
    """Returns M = Σ_T - Σ_TP (Σ_P + αI)⁻¹ Σ_TPᵀ of p, t [b, c, d, n] as the residual of a ridge regression.

    As a difference of covariances M would lose the digits that α has. It is also cov(T - BᵀP) + α BᵀB, sums alone, for
    B = (Σ_P + αI)⁻¹ Σ_PT; and that B makes it least, so an error of B enters as its square, and M's gradient is that
    for a fixed B.
    """

    def covariance(a: Array, b: Array) -> Array:
        return jnp.einsum("bcin,bcjn->bcij", a, b, precision=lax.Precision.HIGHEST) / pixels

    def residual(weights: Array) -> Array:
        return t - jnp.einsum("bcij,bcin->bcjn", weights, p, precision=lax.Precision.HIGHEST)

    weights = jnp.zeros((*p.shape[:2], p.shape[2], t.shape[2]))
    factor = cho_factor(covariance(p, p) + alpha * jnp.eye(p.shape[2])[None, None])
    for _ in range(2):  # the second time for what rounding left
        weights = weights + cho_solve(factor, covariance(p, residual(weights)) - alpha * weights)
    weights = lax.stop_gradient(weights)
    rest = residual(weights)
    return covariance(rest, rest) + alpha * jnp.einsum(
        "bcik,bcij->bckj", weights, weights, precision=lax.Precision.HIGHEST
    )


def window_means(
    x: Float[ArrayLike, "b h w c"], where: Bool[ArrayLike, "b h w"], stride: int
) -> tuple[Float[Array, "b h2 w2 c"], Bool[Array, "b h2 w2"]]:
    """Averages the valid pixels of each `stride` x `stride` window; also returns which windows have a valid pixel.

    >>> x = jnp.array([1.0, 3.0, 9.0, 9.0, 5.0]).reshape(1, 1, 5, 1)
    >>> means, counts = window_means(x, jnp.array([[[True, True, False, False, True]]]), 2)
    >>> means.ravel().tolist(), counts.ravel().tolist()
    ([2.0, 0.0, 5.0], [True, False, True])
    """
    b, h, w, _ = x.shape
    x = jnp.where(where[..., None], x, 0.0)
    held = jnp.concatenate([x, where[..., None].astype(x.dtype)], axis=-1)
    held = jnp.pad(held, ((0, 0), (0, -h % stride), (0, -w % stride), (0, 0)))
    sums = held.reshape(b, -(-h // stride), stride, -(-w // stride), stride, held.shape[-1]).sum((2, 4))
    count = sums[..., -1:]
    return sums[..., :-1] / jnp.maximum(count, 1), count[..., 0] > 0


def neighborhoods(
    x: Float[ArrayLike, "b h w c"], where: Bool[ArrayLike, "b h w"], side: int
) -> Float[Array, "b c d n"]:
    """Returns the values of the side² neighbors of every valid pixel, minus the mean over all pixels of such neighbors.

    Invalid pixels and neighbors, and neighbors outside the image, are 0, as if at the mean.

    >>> x = jnp.array([1.0, 2.0, 6.0]).reshape(1, 1, 3, 1)
    >>> neighborhoods(x, jnp.ones((1, 1, 3), bool), 3)[0, 0, 3:6].tolist()  # the left, itself, the right
    [[0.0, -0.5, 0.5], [-2.0, -1.0, 3.0], [-2.0, 2.0, 0.0]]
    """
    b, h, w, c = x.shape
    reach = side // 2
    around = ((0, 0), (reach, reach), (reach, reach))
    x, counts = jnp.pad(x, (*around, (0, 0))), jnp.pad(where, around)
    vectors = []
    for i in range(side):
        for j in range(side):
            valid = (where & counts[:, i : i + h, j : j + w])[..., None]
            value = jnp.where(valid, x[:, i : i + h, j : j + w], 0.0)
            count = jnp.maximum(valid.sum((1, 2), keepdims=True), 1).astype(x.dtype)
            mean = value.sum((1, 2), keepdims=True) / count
            vectors.append(jnp.where(valid, value - mean, 0.0).reshape(b, h * w, c))
    return jnp.stack(vectors, axis=1).transpose(0, 3, 1, 2)
