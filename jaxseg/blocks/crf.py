"""A fully connected CRF as a layer: unrolled mean field with learned weights."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from jaxseg.checks import UserError
from jaxseg.ops.meanfield import Filter, bilateral_kernel, mean_field, spatial_kernel

Scores = Float[Array, "h w c"]


def crf(
    logits: Scores,
    kernels: Sequence[Filter],
    weigh: Callable[[Sequence[Scores]], Scores],
    compatibility: Callable[[Scores], Scores],
    *,
    iterations: int,
) -> Scores:
    """Unrolls the mean field of one image (Zheng et al., 2015, alg. 1).

    Args:
      logits: the network's scores; the softmax of the result is the mean field.
      kernels: filters that pass messages between pixels.
      weigh: weighted sum of the kernels' messages.
      compatibility: function from messages to the cost of every label.
      iterations: number of mean field iterations.
    """
    return mean_field(logits, lambda q: compatibility(weigh([kernel(q) for kernel in kernels])), iterations=iterations)


class CRF(nn.Module):
    """Conditional random fields as recurrent neural networks (Zheng et al., 2015, arXiv:1502.03240, fig. 1).

    Learns a weight per class for the spatial and for the bilateral kernel, and a compatibility of labels; initialized
    to the Potts model. The kernels' widths are fixed, and no gradient flows to the image. Defaults are those of the
    authors' code: five iterations for training; for inference use ten: `layer.clone(iterations=10)` on the same
    parameters.
    """

    iterations: int = 5
    spatial_weight: float = 3.0  # at the start, in units of the logits
    spatial_sigma: float = 3.0  # pixels
    bilateral_weight: float = 5.0  # at the start, in units of the logits
    bilateral_sigma: float = 160.0  # pixels
    color_sigma: float = 3.0  # in units of the images
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        logits: Float[Array, "b h w c"],
        images: Shaped[Array, "b h w k"],
        *,
        where: Bool[Array, "b h w"] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Returns refined scores.

        Args:
          logits: the network's scores.
          images: the images in the units of `color_sigma`, uint8 or 0 to 255: not normalized.
          where: valid pixels (None means all).
        """
        if images.shape[:3] != logits.shape[:3]:
            raise UserError(f"Logits {logits.shape} and images {images.shape} disagree: expected one size and number.")
        classes = logits.shape[-1]
        starts = {"spatial": self.spatial_weight, "bilateral": self.bilateral_weight}
        weights = [
            self.param(f"{name}_weights", nn.initializers.constant(start), (classes,), self.param_dtype)
            for name, start in starts.items()
        ]
        cost = self.param(
            "compatibility", lambda _, shape, dtype: -jnp.eye(*shape, dtype=dtype), (classes, classes), self.param_dtype
        )

        def refine(sample):
            scores, image, valid = sample
            kernels = [
                spatial_kernel(valid.shape, self.spatial_sigma, where=valid),
                bilateral_kernel(image, self.bilateral_sigma, self.color_sigma, where=valid),
            ]

            def weigh(messages):
                pairs = zip(weights, messages, strict=True)
                return sum(jnp.broadcast_to(weight, message.shape) * message for weight, message in pairs)

            def compatibility(votes):
                return jnp.matmul(votes, cost, precision=lax.Precision.HIGHEST)

            return crf(scores, kernels, weigh, compatibility, iterations=self.iterations)

        return lax.map(refine, (logits, images, jnp.ones(logits.shape[:3], bool) if where is None else where))
