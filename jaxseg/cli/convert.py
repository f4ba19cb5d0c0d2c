"""jaxseg convert: other libraries' weights as a bundle of jaxseg."""

import argparse
import ast
import dataclasses
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.models.parts import title
from jaxseg.pretrained.bundle import save_bundle
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.smp import encoder_from_smp, from_smp
from jaxseg.pretrained.timm import encoder_from_timm
from jaxseg.pretrained.torchvision import encoder_from_torchvision, from_torchvision
from jaxseg.trained import load

ENCODERS = {"torchvision": encoder_from_torchvision, "timm": encoder_from_timm, "smp": encoder_from_smp}
EPILOG = """examples:
  a folder of smp's save_pretrained, or one on the hub (needs jaxseg[hub]):
    jaxseg convert smp runs/my_smp_model --out bundles/mine
    jaxseg convert smp hf:OWNER/REPO --out bundles/theirs
  a state dict of smp, of torchvision, and of timm (an encoder alone):
    jaxseg convert smp fpn.pth --arch fpn --encoder resnet34 --classes 11 \\
      --out bundles/fpn
    jaxseg convert torchvision deeplab.pth --arch deeplabv3_resnet50 \\
      --out bundles/deeplab
    jaxseg convert timm a.safetensors --encoder resnet50 --out bundles/resnet50
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument("source", choices=list(ENCODERS), help="the library that wrote the file")
    parser.add_argument("file", help=".safetensors or .pth state dict, smp's save_pretrained folder, or hf:OWNER/REPO")
    parser.add_argument("--out", required=True, help="folder to write the bundle to")
    parser.add_argument("--arch", help="the library's name of the model; left out, the file holds an encoder alone")
    parser.add_argument("--encoder", help="a key of jaxseg.ENCODERS")
    parser.add_argument("--classes", type=int, help="of the model's head, for smp's state dicts")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further argument that the model was made with, by the library's name for it; may be repeated",
    )
    parser.add_argument("--note", default="", help="a sentence on where the weights come from, and their license")


def main(args: argparse.Namespace) -> int:
    """Converts and writes the bundle; returns the exit status."""
    path = locate(args.file)
    options = parse_options(args.option)
    note = args.note or f"converted from {args.source}: {Path(args.file).name}"
    if args.source == "smp" and path.is_dir():
        trained = dataclasses.replace(load(path), source=note)
        trained.save(args.out)
        print(f"{title(trained.model)} of smp -> {args.out}")
        return 0
    if args.arch is None:
        _need(args, "encoder")
        variables = ENCODERS[args.source](args.encoder, path, **options)
        module = create_encoder(args.encoder, **options)
    elif args.source == "smp":
        _need(args, "encoder", "classes")
        module, variables = from_smp(args.arch, args.encoder, path, args.classes, **options)
    elif args.source == "torchvision":
        module, variables = from_torchvision(args.arch, path)
    else:
        raise UserError(f"{args.source} has no segmentation models. Leave --arch out and name --encoder.")
    save_bundle(args.out, module, variables, source=note)
    print(f"{title(module)} of {args.source} -> {args.out}")
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


def _need(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(args, name) is None:
            raise UserError(f"Converting this needs --{name}. See `jaxseg convert --help`.")
