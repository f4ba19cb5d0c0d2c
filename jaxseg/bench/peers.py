"""The networks of other libraries, to be timed in turns with ours."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax

from jaxseg.bench.timing import Case, Subject, cores
from jaxseg.checks import UserError


def _smp(case: Case) -> Subject:
    """The same network of segmentation_models_pytorch, set up as its users make it fast."""
    smp = _import_smp()
    import torch

    cuda = torch.cuda.is_available() and jax.default_backend() == "gpu"
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_num_threads(cores())
    encoder = case.encoder
    if encoder.startswith("efficientnet_lite"):
        encoder = f"tu-tf_{encoder}"
    options = {"encoder_output_stride": case.output_stride} if case.output_stride else {}
    try:
        model = smp.create_model(case.model, encoder, encoder_weights=None, classes=case.classes, **options)
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"smp cannot make {case.model} / {case.encoder}: {error}. Measure without --peer.") from error
    model = model.to(device, memory_format=torch.channels_last).train()
    figures = {"parameters": sum(p.numel() for p in model.parameters()), "version": smp.__version__}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = (torch.from_numpy(array).to(device) for array in case.arrays())
    images, labels = images.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), labels.long()
    run = torch.compile(model) if cuda else model
    cast = nullcontext
    if case.dtype == "bfloat16":
        cast = partial(torch.autocast, device.type, dtype=torch.bfloat16)

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize()

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        wait()

    def forward() -> None:
        model.eval()
        with torch.no_grad(), cast():
            run(images)
        wait()

    return Subject("smp", step, forward, figures)


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


PEERS: dict[str, Callable[[Case], Subject]] = {"smp": _smp}
