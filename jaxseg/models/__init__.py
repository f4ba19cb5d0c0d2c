"""Models: image -> {"logits": …}.

The contract, which `tests/contracts/test_models.py` holds every entry of `MODELS` to:

- `model.apply(variables, images, train=bool)` maps f32[B,H,W,3], normalized, of any height and width, to a dict whose
  "logits" are f32[B,H,W,num_classes] whatever the compute type. Further heads are further keys of the same shape,
  listed in the architecture's docstring; no option changes the type of the result.
- In training, batch statistics come back under `mutable=["batch_stats"]` and dropout draws from the rng "dropout".
  In evaluation the result is a function of the variables and the one image.
- A model on an encoder is a `Segmenter`: parts, and a seam, `method="encode"` and `method="decode"`, between them. Its
  entry is an `Architecture`, which makes it from a decoder and a head; the options are the fields of the decoder, each
  with a default. `default_encoder` and `default_output_stride` are those it was published with or, where the paper's
  encoder is not of the library, its peer's or its nearest relative's.
- A decoder is called (levels, size, *, train) and returns what the head takes; see `Levels` for
  the first; `size` is (height, width) of the image. Levels may be 1x1 pixels, of odd size, of one size (dilation), of
  any width, or absent (a "c1", and those deeper than the encoder goes); the image's size changes no parameter's shape.
- Every module has a `name`. The docstring of the decoder (of the head, if there is no decoder) is the architecture's:
  its first line is what `jaxseg list` prints, and it ends with the paragraph `Outputs: "logits", …`.
- An architecture that is its own encoder is a module with the fields `num_classes`, `dtype`, `in_channels`,
  `head_dtype` (of the last convolution; None is `dtype`) and its own, all but the first with a default,
  `default_encoder = None`, the encoders' `pixel_mean`, `pixel_std` and `stem`, and, where its features have a stride of
  more than 32 pixels, `coarsest_stride`; it calls `check_images` first, and looks at the array that it returns.
- Parameters are float32 and lie under "encoder", "decoder", "head" and the names of further heads; an image pyramid's
  own, under "attention".
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from jaxseg.checks import UserError, check_numbers, check_options, lookup
from jaxseg.encoders import create_encoder
from jaxseg.models import (
    attention_unet,
    bifpn,
    cunet,
    ddrnet,
    deconvnet,
    deeplab,
    deeplabv3,
    fcn,
    fpn,
    image_pyramid,
    linknet,
    lraspp,
    manet,
    pan,
    panet,
    patch_cnn,
    pspnet,
    segformer,
    segnet,
    stacked_unet,
    unet,
    unet_original,
    unetplusplus,
    upernet,
)
from jaxseg.models.init import channels_of, init
from jaxseg.models.names_of_peers import check_names_of_peers
from jaxseg.models.parts import MAY_BE_NONE, Architecture
from jaxseg.models.segmenter import Segmenter

MODELS: dict[str, Callable[..., nn.Module]] = {
    **unet.VARIANTS,
    **unet_original.VARIANTS,
    **unetplusplus.VARIANTS,
    **attention_unet.VARIANTS,
    **linknet.VARIANTS,
    **manet.VARIANTS,
    **pan.VARIANTS,
    **stacked_unet.VARIANTS,
    **cunet.VARIANTS,
    **patch_cnn.VARIANTS,
    **fcn.VARIANTS,
    **segnet.VARIANTS,
    **deconvnet.VARIANTS,
    **fpn.VARIANTS,
    **panet.VARIANTS,
    **bifpn.VARIANTS,
    **pspnet.VARIANTS,
    **segformer.VARIANTS,
    **upernet.VARIANTS,
    **deeplab.VARIANTS,
    **deeplabv3.VARIANTS,
    **lraspp.VARIANTS,
    **ddrnet.VARIANTS,
}
MODELS["image_pyramid"] = image_pyramid.PyramidOf(MODELS)

# By how many pixels a crop exceeds a multiple of the stride where each feature is enlarged to its own place: 1 where it
# is done with `align_corners`, 0 where the corners of the image stay. Elsewhere (nearest and transposed enlargement, or
# both conventions) no size is better than the others, or none is free of a shift.
CROPS: dict[str, int] = {
    **dict.fromkeys((*deeplab.VARIANTS, *deeplabv3.VARIANTS, *pspnet.VARIANTS, *pan.VARIANTS), 1),
    **dict.fromkeys((*attention_unet.VARIANTS, *lraspp.VARIANTS, *stacked_unet.VARIANTS, "fcn"), 0),
    **dict.fromkeys((*segformer.VARIANTS, *upernet.VARIANTS, *ddrnet.VARIANTS), 0),
}

__all__ = [
    "CROPS",
    "MODELS",
    "Architecture",
    "Segmenter",
    "architecture",
    "coarsest_stride",
    "create_model",
    "init",
    "pixel_statistics",
]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


def create_model(
    name: str,
    encoder: str | nn.Module = "",
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    output_stride: int | None = None,
    dtype: Any = jnp.float32,
    head_dtype: Any = None,
    encoder_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Makes the model `name` of `MODELS` on an encoder.

    Args:
      name: a key of `MODELS`.
      encoder: a key of `ENCODERS`, or a module that keeps the encoders' contract; "" is the architecture's own.
      num_classes: of the logits, at least 1; there is no default, and None is an error.
      in_channels: of the images, at least 1; `init` makes variables for them, and images of another number are an
        error. None takes any number: variables are then for 3 channels, or for as many as `init` is told.
      output_stride: of the encoder, in pixels of the image; None is the one the architecture was published with.
      dtype: of the computation, e.g. `jnp.bfloat16` or "bfloat16"; parameters and logits stay float32.
      head_dtype: of the last convolution of every head and of what follows it, e.g. "float32"; None is `dtype`.
      encoder_options: further fields of the encoder's module, when it is given by name.
      **options: of the architecture, see `jaxseg.models.parts`.

    >>> create_model("unet", "resnet18", num_classes=2, attention="scse").decoder.decoder_channels
    (256, 128, 64, 32, 16)
    """
    entry = architecture(name)
    arguments = [key for key in inspect.signature(create_model).parameters if key not in ("name", "options")]
    own = [] if entry.default_encoder is not None else ["encoder", "output_stride", "encoder_options"]
    beside = [key for key in arguments if key not in own]
    check_names_of_peers(entry, options, f"model '{name}'", beside)
    check_options(entry, options, f"model '{name}'", beside=beside)
    check_numbers(options, f"model '{name}'", from_zero=MAY_BE_NONE.get(name, ()))
    for key, count in (("num_classes", num_classes), ("in_channels", 3 if in_channels is None else in_channels)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UserError(f"{key} must be a whole number of at least 1, got {count!r}.")
    dtype = _compute_type(dtype)
    head_dtype = dtype if head_dtype is None else _compute_type(head_dtype)
    options = {"num_classes": num_classes, "dtype": dtype, "in_channels": in_channels, **_frozen(options)}
    if head_dtype != dtype:
        options["head_dtype"] = head_dtype
    encoder = encoder or entry.default_encoder
    if entry.default_encoder is None:
        if encoder or output_stride or encoder_options:
            raise UserError(
                f"Model '{name}' is its own encoder: encoder, output_stride and encoder_options do not apply."
                " Leave them out."
            )
        return entry(**options)
    if not isinstance(encoder, nn.Module):
        for key in ("output_stride", "dtype"):
            if key in (encoder_options or {}):
                raise UserError(f"encoder_options holds '{key}', which is an argument of create_model. Give it there.")
        stride = entry.default_output_stride if output_stride is None else output_stride
        encoder = create_encoder(encoder, output_stride=stride, dtype=dtype, **_frozen(encoder_options or {}))
    elif output_stride is not None or encoder_options:
        raise UserError(
            "output_stride and encoder_options apply to an encoder given by name, and this one is a module."
            " Set them as the module's fields."
        )
    return entry(encoder=encoder, **options)


def _compute_type(dtype: Any) -> Any:
    """The type of `DTYPES` that a name or a type means."""
    if not isinstance(dtype, str):
        try:
            dtype = jnp.dtype(dtype).name
        except TypeError:
            raise UserError(f"Unknown compute type {dtype!r}. Known: {', '.join(DTYPES)}.") from None
    return lookup(DTYPES, dtype, "compute type")


def architecture(name: str) -> Any:
    """Returns the entry `name` of `MODELS`, with its `default_encoder`.

    >>> architecture("fcn8s").default_encoder
    'vgg16'
    """
    return lookup(MODELS, name, "model")


def coarsest_stride(model: nn.Module) -> int:
    """Returns the stride of the deepest level of the model's encoder, in pixels; 32 where it is not known.

    What a model says of a pixel depends on where the pixel lies in the cells of that level. Decoders that halve it
    further (BiFPN to 128 pixels, CU-Net to 64) enlarge by nearest neighbors, which keeps the place at any multiple.

    >>> coarsest_stride(create_model("deeplabv3", "resnet18", num_classes=2)), coarsest_stride(nn.Dense(1))
    (8, 32)
    """
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, nn.Module) or hasattr(model, "scales"):  # of which each has its own cells
        return getattr(model, "coarsest_stride", 32)
    depth = getattr(encoder, "depth", len(getattr(encoder, "widths", range(5))))
    return min(2**depth, getattr(encoder, "output_stride", 32))


def pixel_statistics(model: nn.Module, in_channels: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and std per channel, in 0..255, with which `model` expects images to be normalized.

    Those of RGB are the encoder's. One channel gets the average of the three; more channels repeat the three, as the
    kernels of the first convolution do in adapted weights.

    Args:
      model: a model or an encoder.
      in_channels: of the images; None is what the model was made for, 3 if that is any number.

    >>> pixel_statistics(create_model("unet", "efficientnet_lite0", num_classes=2))
    ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
    """
    source, channels = getattr(model, "encoder", model), channels_of(model, in_channels)
    return tuple(_of_channels(values, channels) for values in (source.pixel_mean, source.pixel_std))


def _of_channels(of_rgb: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Statistics of RGB as those of other channels: of one the average, of more the three repeated, as weights are."""
    if channels == 1:
        return (sum(of_rgb) / len(of_rgb),)
    return tuple(of_rgb[i % len(of_rgb)] for i in range(channels))


def _frozen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as fields of a module, which must be hashable: lists (as JSON has them) become tuples."""

    def freeze(value: Any) -> Any:
        if isinstance(value, Mapping):
            return FrozenDict(_frozen(value))
        return tuple(map(freeze, value)) if isinstance(value, list | tuple) else value

    return {name: freeze(value) for name, value in options.items()}
