"""Encoder names of timm and smp mapped to jaxseg's, with the options that reproduce them."""

from typing import Any, NamedTuple

from jaxseg.encoders import create_encoder
from jaxseg.pretrained.names import find_source


class Origin(NamedTuple):
    """An encoder of another library."""

    encoder: str  # a key of `ENCODERS`
    options: dict[str, Any]  # further arguments of `create_encoder`
    library: str  # "timm" or "smp": whose names its weights have


TIMM = {
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
}
PYTORCH = {"padding": "symmetric", "momentum": 0.9, "epsilon": 1e-5}
TENSORFLOW = {"padding": "tensorflow", "momentum": 0.9, "epsilon": 1e-3}  # trained there, ported to timm


def timm_encoder(name: str) -> Origin:
    """Returns which encoder of jaxseg, with which options, is the one that timm calls `name`.

    >>> timm_encoder("tf_mobilenetv3_small_100.in1k").options["padding"]
    'tensorflow'
    """
    name = name.split(".")[0]  # what follows says which weights
    ported = name.startswith("tf_")
    name = name.removeprefix("tf_")
    encoder = TIMM.get(name, name)
    options = _options(encoder, "timm")
    if hasattr(create_encoder(encoder), "padding"):
        options |= TENSORFLOW if ported else PYTORCH
    return Origin(encoder, options, "timm")


def smp_encoder(name: str, *, by_timm: bool = False) -> Origin:
    """Returns which encoder of jaxseg, with which options, is the one that smp calls `name`.

    It is one of smp's own ("resnet34") or one of timm's ("tu-resnet34"). Where `name` is a name of jaxseg's, `by_timm`
    says which of the two is meant.

    >>> smp_encoder("efficientnet-b1").options["padding"]
    240
    >>> smp_encoder("timm-mobilenetv3_large_100") == smp_encoder("tu-tf_mobilenetv3_large_100")
    True
    """
    if name.startswith("timm-mobilenetv3"):
        name = name.replace("timm-", "tu-tf_")
    if name.startswith("tu-"):
        return timm_encoder(name.removeprefix("tu-"))
    encoder = name.removeprefix("timm-").removeprefix("tf_").replace("-", "_")
    if not name.startswith("timm-"):
        library = "timm" if by_timm else "smp"
        return Origin(encoder, _options(encoder, library), library)
    # timm's EfficientNet, with smp's levels and dilation
    return Origin(encoder, {**PYTORCH, "early_levels": ("c1",), "dilate_first": True}, "timm")


def _options(encoder: str, library: str) -> dict[str, Any]:
    return dict(find_source(create_encoder(encoder), encoder, library).options)
