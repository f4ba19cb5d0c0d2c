"""jaxseg receptive-field: theoretical and effective receptive fields of features and scores."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import Float, UInt8

from jaxseg.checks import UserError
from jaxseg.cli import source
from jaxseg.files import write_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help=source.HELP)
    source.checkpoint(parser)
    parser.add_argument(
        "--model", metavar="NAME", dest="name", help="instead: of `jaxseg list models`, freshly initialized"
    )
    parser.add_argument(
        "--encoder", default="", help="of --model (default: its own); without --model, the encoder alone"
    )
    parser.add_argument("--output-stride", type=int, help="of the encoder (default: the architecture's)")
    parser.add_argument("--classes", type=int, default=21, help="of the head")
    parser.add_argument("--size", type=int, nargs="+", default=[512], help="height and width in pixels")
    parser.add_argument("--depth", type=int, help="of the modules whose features are listed (default: 1, encoders 0)")
    parser.add_argument("--images", nargs="+", help="image files or folders for the gradients (default: noise)")
    parser.add_argument("--draws", type=int, default=8, help="images to average over; 0: no effective field")
    parser.add_argument("--seed", type=int, default=0, help="of fresh variables, of noise and of signs")
    parser.add_argument("--out", help="folder to write receptive_field.png and .json to")


def main(args: argparse.Namespace) -> int:
    """Prints the table of fields, writes the figure and returns the exit status."""
    import jax

    from jaxseg.analysis import receptive_field as fields_of
    from jaxseg.models import init
    from jaxseg.models.parts import title

    size = (args.size[0], args.size[-1])
    if min(size) < 1 or args.draws < 0 or (args.depth or 0) < 0:
        raise UserError("--size must be positive, --draws and --depth at least 0.")
    model, variables, mean, std = _model(args)
    depth = int(hasattr(model, "num_classes")) if args.depth is None else args.depth
    fields = fields_of.theoretical(model, size, depth)
    backdrop = None
    if args.draws:
        key = jax.random.key(args.seed)
        names = [field.name for field in fields if field.name != "head" and not set("/#") & set(field.name)]
        images, backdrop = _images(args, size, mean, std)
        variables = init(model, key) if variables is None else variables
        heat = fields_of.effective(model, variables, images, names, key=key)
        fields = [dataclasses.replace(field, heat=heat.get(field.name)) for field in fields]
    headline = f"{title(model)}, {size[0]} x {size[1]} pixels"
    print(f"{headline}\n\n{fields_of.table(fields)}\n\n{fields_of.FOOTNOTE}")
    if args.out:
        from jaxseg import visualize

        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        visualize.fields_figure(fields, size, out / "receptive_field.png", title=headline, image=backdrop)
        rows = [fields_of.numbers(field) for field in fields]
        write_text(out / "receptive_field.json", json.dumps(rows, indent=1) + "\n")
        print(f"\n-> {out / 'receptive_field.png'}")
    return 0


def _model(args: argparse.Namespace) -> tuple[nn.Module, Any, tuple[float, ...], tuple[float, ...]]:
    """Model, variables (None: to be made), mean and std."""
    from jaxseg.encoders import create_encoder
    from jaxseg.models import create_model, pixel_statistics

    fresh = args.name or args.encoder
    if bool(args.model) == bool(fresh):
        raise UserError("Name one: a trained MODEL, or --model NAME, or --encoder NAME for an encoder alone.")
    if args.model:
        trained = source.trained(args)
        return trained.model, trained.variables, trained.preprocessing.mean, trained.preprocessing.std
    if args.name:
        model = create_model(args.name, args.encoder, num_classes=args.classes, output_stride=args.output_stride)
    else:
        model = create_encoder(args.encoder, output_stride=args.output_stride or 32)
    return model, None, *pixel_statistics(model)


def _images(
    args: argparse.Namespace, size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Float[np.ndarray, "n h w c"], UInt8[np.ndarray, "h w c"] | None]:
    """Normalized images for the gradients, and one to draw them on (None: noise)."""
    if not args.images:
        return np.random.default_rng(args.seed).normal(size=(args.draws, *size, 3)).astype(np.float32), None
    from PIL import Image, ImageOps

    from jaxseg.data.readers import read_rgb as read_image
    from jaxseg.inference.image_list import find_images
    from jaxseg.ops.normalize import normalize

    files = find_images(args.images)
    files = [files[i] for i in np.linspace(0, len(files) - 1, min(args.draws, len(files))).round().astype(int)]
    images = [np.asarray(ImageOps.fit(Image.fromarray(read_image(str(f))), size[::-1])) for f in files]
    return np.asarray(normalize(np.stack(images), mean, std)), images[0]
