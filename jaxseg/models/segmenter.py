"""`Segmenter`: encoder, decoder and head, which most models consist of."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.checks import UserError
from jaxseg.encoders.levels import Levels


class Segmenter(nn.Module):
    """A model made of parts: image -> levels (`encode`) -> {"logits": …} (`decode`).

    The seam is where features are taken for distillation, stopped to freeze the encoder, or exchanged:

        levels = model.apply(variables, images, train=False, method="encode")
        outputs = model.apply(variables, levels, images.shape[1:3], train=False, method="decode")

    Args:
      encoder: keeps the encoders' contract.
      decoder: (levels, size, *, train) -> features; None hands the levels themselves to the head. Where an encoder has
        fewer levels than its class attribute `least_levels`, if it has one, it finds the image itself as "c0".
      head: (features, size, *, train) -> scores f32[B,H,W,num_classes] at `size`; has the fields `num_classes` and
        `dtype`, and may have `head_dtype`.
      auxiliary: (levels, size, *, train) -> scores, the output "auxiliary"; None for a model without.
      dropout: probability that training drops a whole channel between decoder and head.
      in_channels: of the images, as for `create_model`.

    Outputs: "logits"; with `auxiliary` also "auxiliary".
    """

    encoder: nn.Module
    decoder: nn.Module | None
    head: nn.Module
    auxiliary: nn.Module | None = None
    dropout: float = 0.0
    in_channels: int | None = None

    @property
    def num_classes(self) -> int:
        """Of the logits."""
        return self.head.num_classes

    @property
    def dtype(self) -> Any:
        """Of the computation after the encoder."""
        return self.head.dtype

    @property
    def head_dtype(self) -> Any:
        """Of the scores; None is `dtype`."""
        return getattr(self.head, "head_dtype", None)

    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        return self.decode(self.encode(image, train=train), image.shape[1:3], train=train)

    def encode(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> Levels:
        """Returns what the encoder sees in normalized images, level by level."""
        image = check_images(self.encoder, image, self.in_channels)
        levels = self.encoder(image, train=train)
        if not isinstance(levels, Levels):  # an encoder from elsewhere may return a dict
            levels = Levels(levels, output_stride=getattr(self.encoder, "output_stride", 32))
        if levels.depth < getattr(self.decoder, "least_levels", 0):
            levels = Levels({"c0": image.astype(self.dtype)}) | levels
        return levels

    @nn.compact
    def decode(self, levels: Levels, size: tuple[int, int], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        """Returns the outputs that the levels of an image of `size`, (height, width) in pixels, lead to."""
        x = levels if self.decoder is None else self.decoder(levels, size, train=train)
        if self.dropout:
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(x, deterministic=not train)
        outputs = {"logits": self.head(x, size, train=train)}
        if self.auxiliary is not None:
            outputs["auxiliary"] = self.auxiliary(levels, size, train=train)
        return outputs


def check_images(module: nn.Module, image: Any, in_channels: int | None = None) -> Float[Array, "b h w c"]:
    """Returns images as an array of JAX, or raises a `UserError`, at trace time, if `module` cannot look at them.

    Args:
      module: a bound model or encoder; its class attribute `stem` (default: ("stem", "conv")) is the path of its first
        convolution, whose kernel says how many channels its images have.
      image: expected to be floating point, [batch, height, width, channels].
      in_channels: that the model was made for; None takes any number.
    """
    if image.ndim != 4:
        remedy = " Add the batch axis: image[None]." if image.ndim == 3 else ""
        raise UserError(f"Images have four axes, [batch, height, width, channels], got shape {image.shape}.{remedy}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise UserError(
            f"Images are normalized floating-point numbers, got {image.dtype}. Subtract the mean and divide by the"
            " standard deviation first: `jaxseg.models.pixel_statistics(model)` returns both."
        )
    if 0 in image.shape[1:]:
        raise UserError(f"Images have at least one pixel, got shape {image.shape}.")
    if in_channels is not None and image.shape[3] != in_channels:
        raise UserError(
            f"The model was made for images of {in_channels} channels, in_channels={in_channels}, got shape"
            f" {image.shape}. Channels come last; for other images make the model with in_channels={image.shape[3]}."
        )
    kernel = module.variables.get("params", {})
    for name in (*getattr(module, "stem", ("stem", "conv")), "kernel"):
        kernel = kernel.get(name, {}) if isinstance(kernel, Mapping) else {}
    if hasattr(kernel, "shape") and kernel.shape[2] != image.shape[3]:
        raise UserError(
            f"The model's parameters are for images of {kernel.shape[2]} channels, got shape {image.shape}. Channels"
            " come last; for other images make new parameters, or convert them with `in_channels`."
        )
    return jnp.asarray(image)
