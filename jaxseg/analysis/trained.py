"""A trained model for an analysis: from a workdir or a bundle, with what its pictures must look like."""

import argparse
from typing import Any, NamedTuple

from flax import linen as nn

from jaxseg.checks import UserError


class Trained(NamedTuple):
    """A model, its variables and its normalisation."""

    model: nn.Module
    variables: dict[str, Any]
    mean: tuple[float, ...]  # of each channel, in units of the uint8 picture
    std: tuple[float, ...]


def add_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds what `load` reads."""
    source = parser.add_mutually_exclusive_group(required=required)
    source.add_argument("--workdir", help="folder that train.py wrote")
    source.add_argument("--bundle", help="folder that `jaxseg convert` wrote, or hf:OWNER/REPO")
    parser.add_argument(
        "--checkpoint", default="best", help="of the workdir: best (by validation mIoU), latest or a step"
    )


def load(args: argparse.Namespace) -> Trained:
    """Returns the model that the arguments name."""
    if args.bundle:
        from jaxseg.pretrained.bundle import load_bundle
        from jaxseg.pretrained.hub import locate

        bundle = load_bundle(locate(args.bundle))
        if not hasattr(bundle.module, "num_classes"):
            raise UserError(f"The bundle {args.bundle} holds an encoder alone. Give one of a whole model.")
        return Trained(bundle.module, bundle.variables, bundle.mean, bundle.std)
    from jaxseg.experiment.restore import load_for_inference

    restored = load_for_inference(args.workdir, args.checkpoint)
    return Trained(restored.model, restored.variables, restored.mean, restored.std)
