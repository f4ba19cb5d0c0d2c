"""What is measured: a case, and the suites, which are tables of cases.

Every mode of the benchmark, the test of the compiled programs and the scripts of docs/gpu/check take their networks
from here, so that a figure of one can be held against a figure of another.
"""

from dataclasses import dataclass, replace

import numpy as np

from jaxseg.checks import UserError, lookup


@dataclass(frozen=True)
class Case:
    """What is measured."""

    model: str  # a key of `MODELS`, or of `jaxseg.bench.program.OWN`
    encoder: str  # a key of `ENCODERS`; "" is the model's own
    size: tuple[int, int]  # (height, width) in pixels
    batch: int  # images
    dtype: str = "float32"  # of the computation
    classes: int = 21  # at most 255, as labels are bytes
    output_stride: int | None = None  # of the encoder, in pixels; None is the model's own, or its peer's
    in_channels: int = 3  # of the images

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns random images u8[b, h, w, c] and labels u8[b, h, w]."""
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (self.batch, *self.size, self.in_channels), np.uint8)
        return images, random.integers(0, self.classes, (self.batch, *self.size), np.uint8)

    def title(self) -> str:
        """Returns the case as a line of text.

        >>> Case("unet", "resnet34", (256, 256), 4).title()
        'unet / resnet34, 4 x 256 x 256, float32'
        """
        height, width = self.size
        names = " / ".join(filter(None, (self.model, self.encoder)))
        return f"{names}, {self.batch} x {height} x {width}, {self.dtype}"


def _on_gpu(model: str, encoder: str, classes: int = 21, dtype: str = "bfloat16") -> Case:
    return Case(model, encoder, (512, 512), 16, dtype, classes)


# In order of worth: a run that is stopped has the first ones.
SUITES: dict[str, dict[str, Case]] = {
    "cpu": {
        "unet_r34": Case("unet", "resnet34", (256, 256), 4),
        "fpn_lite0": Case("fpn", "efficientnet_lite0", (320, 320), 8),
        "unet_mobilenet_v2": Case("unet", "mobilenet_v2", (256, 256), 4),
        "deeplabv3plus_r50": Case("deeplabv3plus", "resnet50", (256, 256), 2),
        "segformer_b0": Case("segformer", "mit_b0", (256, 256), 2),
    },
    "tiny": {  # seconds, to try the benchmark itself
        "segformer_plain": Case("segformer", "plain", (32, 32), 2, classes=3),
    },
    "gpu": {
        "unet_r34": _on_gpu("unet", "resnet34"),
        "segformer_b2": _on_gpu("segformer", "mit_b2", 150),
        "deeplabv3plus_r50": _on_gpu("deeplabv3plus", "resnet50"),
        "upernet_convnext_tiny": _on_gpu("upernet", "convnext_tiny", 150),
        "fpn_r50": _on_gpu("fpn", "resnet50"),
        "pspnet_r50": _on_gpu("pspnet", "resnet50"),
        "nnunet_2d": Case("nnunet_2d", "", (192, 160), 128, "bfloat16", 4, in_channels=4),
        "segformer_b0": _on_gpu("segformer", "mit_b0", 150),
        "unetpp_r34": _on_gpu("unetplusplus", "resnet34"),
        "unet_mobilenet_v2": _on_gpu("unet", "mobilenet_v2"),
        "deeplabv3_r101": _on_gpu("deeplabv3", "resnet101"),
        "unet_r34_f32": _on_gpu("unet", "resnet34", dtype="float32"),
        "fpn_lite0": _on_gpu("fpn", "efficientnet_lite0"),
    },
}

# Published images per second of training, where there is no peer to run: suite, case -> figure and its source.
PUBLISHED: dict[tuple[str, str], tuple[float, str]] = {
    ("gpu", "nnunet_2d"): (927.0, "nnU-Net in 2-D, one A100 80GB, mixed precision, NVIDIA DeepLearningExamples"),
}


def find_case(name: str) -> Case:
    """Returns the case that "SUITE:NAME" names.

    >>> find_case("cpu:unet_r34").batch
    4
    """
    suite, _, case = name.partition(":")
    if not case:
        raise UserError(f"Expected --case SUITE:NAME, such as cpu:unet_r34, got '{name}'.")
    return lookup(lookup(SUITES, suite, "suite"), case, f"case of the suite '{suite}'")


def smaller(case: Case, *, size: int | None = None, batch: int | None = None) -> Case:
    """Returns a case at another size, a side in pixels, and batch, to rehearse or to test."""
    height, width = case.size
    return replace(
        case,
        size=case.size if size is None else (size, max(size * width // height, 1)),
        batch=case.batch if batch is None else batch,
    )
