"""Encoders: image -> {"c1": ..., "c2": ..., ...}.

The contract, which `tests/contracts/test_encoders.py` holds every entry of `ENCODERS` to:

- `encoder.apply(variables, images, train=bool)` maps f32[B,H,W,C], normalized, of any size and any number of
  channels to `Levels`: a mapping of feature maps f[B,h,w,c] in the encoder's dtype, keyed "c1" to "c5" from
  fine to coarse, that knows the encoder's output stride.
- Level ci has the nominal stride 2^i, that is, height ceil(H / 2^i) and the width likewise. A level that an
  encoder does not have is absent. Dilation (`output_stride`) changes the stride of the deepest levels, never
  their names: no level is coarser than `output_stride`.
- Fields: `output_stride` (one of the class's `output_strides`) and `dtype`, the compute type; parameters are
  float32.
- Class attributes: `pixel_mean` and `pixel_std`, per channel, in units of a 0..255 RGB image: what to
  subtract and what to divide by; `stem`, if it is not ("stem", "conv"), is the path of the first convolution,
  whose kernel says how many channels its images have.
- An encoder with published weights has a field `depth`, the levels to compute (5). What other libraries call its layers
  is said in `jaxseg.pretrained.names`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.checks import UserError, check_numbers, check_options, lookup
from jaxseg.encoders import convnext, densenet, efficientnet, mit, mobilenet_v2, mobilenet_v3, plain, resnet, vgg
from jaxseg.encoders.levels import Levels

ENCODERS: dict[str, Callable[..., nn.Module]] = {  # name -> module or `Variant` of one
    **plain.VARIANTS,
    **vgg.VARIANTS,
    **resnet.VARIANTS,
    **densenet.VARIANTS,
    **mobilenet_v2.VARIANTS,
    **mobilenet_v3.VARIANTS,
    **efficientnet.VARIANTS,
    **convnext.VARIANTS,
    **mit.VARIANTS,
}

__all__ = ["ENCODERS", "Levels", "create_encoder"]


def create_encoder(name: str, *, output_stride: int = 32, dtype: Any = jnp.float32, **options: Any) -> nn.Module:
    """Makes the encoder `name` of `ENCODERS`.

    Args:
      name: a key of `ENCODERS`.
      output_stride: the largest stride of a level, in pixels of the image; strides beyond it become dilation.
      dtype: of the computation, e.g. `jnp.bfloat16`.
      **options: further fields of the encoder's module.

    >>> create_encoder("resnet18", output_stride=8).output_stride
    8
    """
    constructor = lookup(ENCODERS, name, "encoder")
    check_options(constructor, options, f"encoder '{name}'")
    counts = {option: value for option, value in options.items() if option != "depth"}  # which has a check of its own
    check_numbers(counts, f"encoder '{name}'", from_zero=("blocks", "layers"))
    encoder = constructor(output_stride=output_stride, dtype=dtype, **options)
    missing = [field for field in ("output_strides", "pixel_mean", "pixel_std") if not hasattr(encoder, field)]
    if missing:
        raise UserError(
            f"Encoder '{name}' lacks {', '.join(missing)}. Give its class these attributes, as the docstring of"
            " jaxseg/encoders/__init__.py describes them."
        )
    if output_stride not in encoder.output_strides:
        known = ", ".join(map(str, encoder.output_strides))
        raise UserError(f"Encoder '{name}' has no output stride {output_stride!r}. Choose one of {known}.")
    if getattr(encoder, "depth", 5) not in range(1, 6):
        raise UserError(f"Encoder '{name}' cannot have depth {encoder.depth!r}. Choose 1 to 5 levels.")
    return encoder
