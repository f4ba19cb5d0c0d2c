"""The networks of other libraries, to be timed in turns with ours."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flax.traverse_util import flatten_dict

from jaxseg.bench.cases import Case
from jaxseg.bench.nnunet import WIDTHS
from jaxseg.bench.timing import Subject
from jaxseg.bench.torch_step import subjects
from jaxseg.checks import UserError, lookup
from jaxseg.encoders import create_encoder
from jaxseg.models import architecture
from jaxseg.pretrained.convert import torch_name, variables_template
from jaxseg.pretrained.names import SMP_MODELS, find_source
from jaxseg.pretrained.names.origin import Origin, smp_encoder


def _smp(case: Case) -> list[Subject]:
    """The network of segmentation_models_pytorch, in the ways that it can be run."""
    model, network, figures = make_smp(case)
    return subjects("smp", model, case, figures, network)


def _monai(case: Case) -> list[Subject]:
    """MONAI's DynUNet, which is nnU-Net's network."""
    if case.model != "nnunet_2d":
        raise UserError(f"--peer monai has nnunet_2d alone, got {case.model}. Use --peer smp, or measure without.")
    model, figures = make_monai(case)
    return subjects("monai", model, case, figures, None)


def make_monai(case: Case) -> tuple[Any, dict[str, Any]]:
    """Makes the network of `jaxseg.bench.nnunet` with MONAI; returns its module and figures."""
    try:
        import monai
        import torch
        from monai.networks.nets import DynUNet
    except ImportError as error:
        raise UserError(
            f"--peer monai needs PyTorch and MONAI, but {error}. Install them with `pip install torch monai`, or"
            " measure without --peer."
        ) from error
    levels = len(WIDTHS)
    model = DynUNet(
        spatial_dims=2,
        in_channels=case.in_channels,
        out_channels=case.classes,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=WIDTHS,
    )
    parameters = sum(p.numel() for p in model.parameters())
    return model, {"parameters": parameters, "version": monai.__version__, "torch": torch.__version__}


def make_smp(case: Case) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Makes smp's network with random weights.

    Returns:
      smp's module; the arguments of `create_model` that make the same network here, all but `num_classes` and `dtype`;
      and figures: the number of its parameters, of those that it has without using them, and smp's version.
    """
    smp = _import_smp()
    import torch

    name, arguments = _smp_arguments(case)
    try:
        origin, recipe = smp_encoder(name), SMP_MODELS[case.model](**arguments)
        model = smp.create_model(case.model, name, encoder_weights=None, classes=case.classes, **arguments)
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"smp cannot make {case.model} / {case.encoder}: {error}. Measure without --peer.") from error
    sizes = {key: p.numel() for key, p in model.named_parameters()}
    options = dict(recipe.options)
    encoder_options = options.pop("encoder_options", {}) | origin.options
    options |= {key: any(there.startswith(prefix) for there in sizes) for key, prefix in recipe.switches.items()}
    used = _encoder_names(origin, encoder_options)
    idle = sum(size for key, size in sizes.items() if re.match(recipe.idle, key) or _lies_outside(key, used))
    figures = {"parameters": sum(sizes.values()) - idle, "idle_parameters": idle, "version": smp.__version__}
    figures["torch"] = torch.__version__
    options |= {"name": case.model, "encoder": origin.encoder, "encoder_options": encoder_options}
    return model, options, figures


def smp_network(case: Case) -> dict[str, Any]:
    """Returns the arguments of `create_model` that make smp's network, as `make_smp` does, without smp.

    What smp decides by its encoder (VGG's further convolutions) is left out.
    """
    name, arguments = _smp_arguments(case)
    origin, options = smp_encoder(name), dict(SMP_MODELS[case.model](**arguments).options)
    encoder_options = options.pop("encoder_options", {}) | origin.options
    return {**options, "name": case.model, "encoder": origin.encoder, "encoder_options": encoder_options}


def _smp_arguments(case: Case) -> tuple[str, dict[str, Any]]:
    """What smp calls the encoder of a case, and the arguments that its model needs."""
    lookup(SMP_MODELS, case.model, "model of smp")
    name = _smp_name(case.encoder or architecture(case.model).default_encoder)
    return name, {"encoder_output_stride": case.output_stride} if case.output_stride else {}


def _encoder_names(origin: Origin, options: Mapping[str, Any]) -> set[str]:
    """What the library calls the weights of the encoder, those of the levels that are computed alone."""
    encoder = create_encoder(origin.encoder, **options)
    key = find_source(encoder, origin.encoder, origin.library).key
    return {torch_name(path, key) for path in flatten_dict(variables_template(encoder))}


def _lies_outside(key: str, used: Collection[str]) -> bool:
    """Whether a parameter of smp's is one of its encoder without being used: of a classifier, or of a deeper level."""
    if not key.startswith("encoder."):
        return False
    inside = key.removeprefix("encoder.").removeprefix("model.")
    return inside not in used and inside.replace("_", ".", 1) not in used  # timm writes stages_0 for stages.0


def _smp_name(encoder: str) -> str:
    """What smp calls an encoder of ours.

    >>> _smp_name("efficientnet_b0"), _smp_name("mobilenet_v3_large"), _smp_name("resnet18")
    ('efficientnet-b0', 'tu-mobilenetv3_large_100', 'resnet18')
    """
    for ours, theirs in (
        (r"efficientnet_lite\d", r"tu-tf_\g<0>"),
        (r"efficientnet_(b\d)", r"efficientnet-\1"),
        (r"mobilenet_v3_(\w+)", r"tu-mobilenetv3_\1_100"),
        (r"convnext_\w+", r"tu-\g<0>"),
    ):
        if re.fullmatch(ours, encoder):
            return re.sub(ours, theirs, encoder)
    return encoder


def _import_smp() -> Any:
    """Imports segmentation_models_pytorch, also where torchvision was built for another torch."""
    try:
        import torch

        try:
            import torchvision  # noqa: F401
        except RuntimeError:  # a CUDA build beside a CPU torch: declare the operators it misses, none is called
            for name in ("nms", "qnms"):
                schema = f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(*schema)
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise UserError(
            f"--peer smp needs PyTorch and segmentation_models_pytorch, but {error}."
            ' Install them with `pip install "jaxseg[parity]"`, or measure without --peer.'
        ) from error
    return smp


PEERS: dict[str, Callable[[Case], list[Subject]]] = {"smp": _smp, "monai": _monai}
