"""What other libraries call the arguments of a model, and what is to be done here instead."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxseg.checks import UserError

_WEIGHTS = (
    "a model has no weights of its own: they are variables. See jaxseg.pretrained.load_encoder and jaxseg.load; in a"
    " config, set config.model.encoder_weights."
)
_NORMALIZATION = "normalization is a part of each architecture: there is nothing to choose."
_SIZE = "logits have the size of the image, whatever it is: there is nothing to set."

# Argument of segmentation_models_pytorch (smp), torchvision, mmsegmentation, MONAI, Keras or timm -> the keywords for
# it here, of which a model takes the first that it has; or a sentence. docs/coming.md has the other names.
PEERS: dict[str, tuple[str, ...] | str] = {
    # The encoder.
    "encoder_name": ("encoder",),
    "backbone": ("encoder",),
    "backbone_name": ("encoder",),
    "encoder_depth": ("encoder_options={'depth': …}",),
    "encoder_output_stride": ("output_stride",),
    "drop_path_rate": ("encoder_options={'drop_path': …}",),
    "encoder_weights": _WEIGHTS,
    "weights": _WEIGHTS,
    "weights_backbone": _WEIGHTS,
    "pretrained": _WEIGHTS,
    "pretrained_backbone": _WEIGHTS,
    "init_cfg": _WEIGHTS,
    # Images and classes.
    "in_chans": ("in_channels",),
    "classes": ("num_classes",),
    "n_classes": ("num_classes",),
    "nclass": ("num_classes",),
    "out_channels": ("num_classes",),
    "input_shape": "images may be of any size; in_channels says how many channels they have.",
    "spatial_dims": "images have two dimensions: there is nothing to set.",
    # The decoder.
    "decoder_channels": ("features",),
    "channels": ("decoder_channels", "widths", "features"),
    "decoder_attention_type": ("attention",),
    "decoder_interpolation": ("method",),
    "decoder_pab_channels": ("pab_features",),
    "decoder_pyramid_channels": ("pyramid_features",),
    "decoder_segmentation_channels": ("features",),
    "decoder_merge_policy": ("policy",),
    "decoder_atrous_rates": ("rates",),
    "dilations": ("rates",),
    "decoder_aspp_separable": ("separable",),
    "psp_out_channels": ("features",),
    "pool_scales": ("bins",),
    "ppm_channels": ("context_features",),
    "c1_channels": ("detail_features",),
    "decoder_dropout": ("dropout",),
    "decoder_aspp_dropout": ("dropout",),
    "psp_dropout": ("dropout",),
    "dropout_ratio": ("dropout",),
    "decoder_use_batchnorm": _NORMALIZATION,
    "decoder_use_norm": _NORMALIZATION,
    "psp_use_batchnorm": _NORMALIZATION,
    "norm_cfg": _NORMALIZATION,
    # The heads.
    "aux_loss": ("auxiliary=True",),
    "auxiliary_head": ("auxiliary=True",),
    "aux_params": "models label pixels, not images: there is no classifier beside them.",
    "activation": "logits come out of a model; jaxseg.Predictor makes labels and probabilities of them.",
    "upsampling": _SIZE,
}


def check_names_of_peers(entry: Callable, options: Mapping[str, Any], kind: str, beside: Iterable[str]) -> None:
    """Raises a `UserError` for the first option that another library has and `entry` has not; it says what to do.

    Args:
      entry: of `MODELS`.
      options: its keywords.
      kind: what it is, for messages: "model 'unet'".
      beside: keywords that may be given beside those of the entry.
    """
    known = {*inspect.signature(entry).parameters, *beside}
    for option in options:
        here = PEERS.get(option)
        if here is None or option in known:
            continue
        start = f"Unknown option '{option}' of {kind}"
        if isinstance(here, str):
            raise UserError(f"{start}: {here}")
        for keyword in here:
            if keyword.partition("=")[0] in known:
                raise UserError(f"{start}. It is called {keyword} here.")
        raise UserError(
            f"{start}. Where a model has it, it is called {' or '.join(here)} here; this one has not. Known:"
            f" {', '.join(sorted(known))}."
        )
