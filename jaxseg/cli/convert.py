"""jaxseg convert: other libraries' weights as a bundle of jaxseg."""

import argparse
import ast
import dataclasses
import sys
from pathlib import Path

from jaxseg.checks import UserError, printable
from jaxseg.cli import seen
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.models import pixel_statistics
from jaxseg.models.parts import title
from jaxseg.pretrained.bundle import save_bundle
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.library import LIBRARIES, import_weights
from jaxseg.trained import load

EPILOG = """examples:
  a folder of smp's save_pretrained, or one on the hub (needs jaxseg[hub]):
    jaxseg convert smp runs/my_smp_model --out bundles/mine
    jaxseg convert smp hf:OWNER/REPO --out bundles/theirs
  a state dict of smp, of torchvision, and of timm (an encoder alone):
    jaxseg convert smp fpn.pth --arch FPN --encoder resnet34 \\
      --out bundles/fpn
    jaxseg convert torchvision deeplab.pth --arch deeplabv3_resnet50 \\
      --out bundles/deeplab
    jaxseg convert timm a.safetensors --encoder resnet50 --out bundles/resnet50
  the weights of an ONNX file that PyTorch exported from smp's model (needs
  jaxseg[onnx]), of satellite images:
    jaxseg convert onnx clouds.onnx --arch Unet --encoder efficientnet-b4 \\
      --option in_channels=4 --bands red,green,blue,nir --dtype float32 \\
      --window 0 2 --mean 0.2,0.2,0.2,0.3 --std 0.2,0.2,0.2,0.2 \\
      --class-names clear,cloud,shadow --out bundles/clouds
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument(
        "source", choices=LIBRARIES, help="the library that wrote the file; onnx: smp's model or an encoder, exported"
    )
    parser.add_argument(
        "file",
        help="state dict (.safetensors, .pth, .ckpt, .onnx, .h5), smp's save_pretrained folder, or hf:OWNER/REPO",
    )
    parser.add_argument("--out", required=True, help="folder to write the bundle to")
    parser.add_argument(
        "--arch", help="the library's name of the model, in any case; left out, the file gives an encoder alone"
    )
    parser.add_argument("--encoder", help="a key of jaxseg.ENCODERS, or smp's name of it")
    parser.add_argument("--classes", type=int, help="of an smp model; left out, as many as its head has")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further argument that the model was made with, by the library's name for it; may be repeated",
    )
    parser.add_argument("--note", default="", help="a sentence on where the weights come from")
    parser.add_argument(
        "--no-golden",
        action="store_true",
        help="leave out the image that `jaxseg verify` compares; for which the model is compiled",
    )
    seen.arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Converts and writes the bundle; returns the exit status."""
    note = args.note or f"converted from {args.source}: {Path(args.file).name}"
    if args.source == "smp" and locate(args.file).is_dir():
        trained = load(args.file)
        meaning = seen.classes(args, trained.num_logits)
        meaning["preprocessing"] = seen.preprocessing(args, trained.preprocessing)
        dataclasses.replace(trained, source=note, license=args.license, **meaning).save(
            args.out, with_golden=not args.no_golden
        )
        print(f"{title(trained.model)} of smp -> {args.out}")
        return 0
    imported = import_weights(
        args.source,
        args.file,
        arch=args.arch,
        encoder=args.encoder,
        num_classes=args.classes,
        **parse_options(args.option),
    )
    for sentence in imported.notes:
        print(printable(sentence), file=sys.stderr)
    mean, std = pixel_statistics(imported.module, imported.in_channels)
    default = Preprocessing.from_json({"mean": mean, "std": std, "bucket": imported.bucket})
    meaning = {
        "preprocessing": seen.preprocessing(args, default),
        "activation": imported.activation,
        "source": note,
        "with_golden": not args.no_golden,
        "license": args.license,
        **seen.classes(args, getattr(imported.module, "num_classes", None)),
    }
    save_bundle(args.out, imported.module, imported.variables, **meaning)
    print(f"{title(imported.module)} of {args.source} -> {args.out}")
    return 0


def parse_options(given: list[str]) -> dict[str, object]:
    """Returns {"name": value} of NAME=VALUE, values as Python writes them, else text.

    >>> parse_options(["encoder_depth=4", "decoder_attention_type=scse"])
    {'encoder_depth': 4, 'decoder_attention_type': 'scse'}
    """
    options = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text}: expected NAME=VALUE.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options
