"""jaxseg export: a trained model's whole predictor as one file that runs without jaxseg."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxseg.checks import UserError, printable
from jaxseg.cli import source
from jaxseg.trained import TrainedModel

if TYPE_CHECKING:
    from jaxseg.export import Agreement, Form
    from jaxseg.export.onnx_file import Scoring

FORMATS = ("onnx", "stablehlo", "litert", "web")
ENDINGS = {".stablehlo": "stablehlo", ".zip": "stablehlo", ".tflite": "litert"}
EPILOG = """examples:
  for onnxruntime, of images of 360 x 480 pixels:
    jaxseg export runs/camvid --out camvid.onnx --size 360 480
  any number of images, up to that size, and probabilities:
    jaxseg export runs/camvid --out camvid.onnx --size 360 480 \\
      --dynamic batch size --output probabilities
  for JAX on CPUs, NVIDIA GPUs and TPUs:
    jaxseg export runs/camvid --out camvid.stablehlo --format stablehlo
  the mean of an image and its mirror image, in overlapping tiles:
    jaxseg export runs/camvid --out camvid.onnx --size 720 960 \\
      --tile 320 --tta flip
  weights of 8 bits, and what they cost on the run's own validation split:
    jaxseg export runs/camvid --out camvid.onnx --size 360 480 \\
      --weights int8 --score
  for phones and small boards, in LiteRT:
    jaxseg export runs/camvid --out camvid.tflite
  a page that runs it in the browser, on images and the camera:
    npm install onnxruntime-web
    jaxseg export runs/camvid --format web --out site/ \\
      --runtime node_modules/onnxruntime-web
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from jaxseg.export.function import DYNAMIC, OUTPUTS
    from jaxseg.export.onnx_weights import WEIGHTS

    parser.epilog = EPILOG
    source.arguments(parser)
    parser.add_argument("--out", metavar="FILE", required=True, help="file to write; of a page, the folder")
    parser.add_argument("--format", choices=FORMATS, help="of the file (default: what its ending says, else onnx)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of the images, in pixels (default: of the training crop, else 512 512)",
    )
    parser.add_argument("--output", choices=OUTPUTS, default="labels", help="what the file returns of every pixel")
    parser.add_argument(
        "--dynamic",
        choices=DYNAMIC,
        nargs="+",
        default=[],
        help="what a caller may choose: the number of images; their size, up to --size",
    )
    _ways(parser)
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="float32",
        help="how an ONNX file stores the weights: float16 halves the file, int8 quarters it, with a scale of each"
        " output channel; it computes in float32 (default: float32)",
    )
    parser.add_argument("--batch", type=int, metavar="N", default=1, help="number of images, where it is not dynamic")
    parser.add_argument(
        "--runtime", metavar="DIR", help="of a page: the folder of the npm package onnxruntime-web, which is copied"
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="of an ONNX file: score it on labeled images of its size, and with weights in float32; the file then says"
        " both",
    )
    source.data_arguments(parser.add_argument_group("the images of --score"))


def _ways(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of what the file does with an image."""
    from jaxseg.inference.tiling import BLEND, OVERLAP
    from jaxseg.ops.tiling import BLENDS

    parser.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="sides of the tiles, in pixels, that the file cuts larger images into (default: it sees them whole)",
    )
    parser.add_argument(
        "--overlap", type=float, metavar="X", default=OVERLAP, help="share of a tile that its neighbor has too"
    )
    parser.add_argument("--blend", choices=sorted(BLENDS), default=BLEND, help="of tiles")
    parser.add_argument(
        "--tta",
        metavar="NAME,…",
        default="",
        help="test-time augmentation in the file: the mean over flip, d4 (flips and turns) and scales, as"
        " flip,0.75,1.25 (default: none)",
    )


def main(args: argparse.Namespace) -> int:
    """Writes the file, if it says what the model says; returns the exit status."""
    from jaxseg.export import Form, export_litert, export_onnx, export_stablehlo
    from jaxseg.export.function import default_size
    from jaxseg.inference.calibration import find_calibration
    from jaxseg.inference.tta import TTA

    out = Path(args.out)
    kind = args.format or ENDINGS.get(out.suffix, "onnx")
    if out.is_dir() and kind != "web":
        raise UserError(f"--out: {out} is a folder, expected the name of a file.")
    if kind in ("stablehlo", "litert") and (args.weights != "float32" or args.score):
        raise UserError("--weights and --score are of ONNX files: leave them out, or --format onnx.")
    if kind == "web" and args.score:
        raise UserError("--score is of ONNX files: score one of the page's size, --format onnx.")
    if kind != "web" and args.runtime:
        raise UserError("--runtime is of --format web.")
    trained = source.trained(args)
    size = tuple(args.size or default_size(trained))
    if kind == "web":
        return _write_page(args, trained, size)
    ways = {"tile": args.tile, "overlap": args.overlap, "blend": args.blend, "tta": TTA.parse(args.tta)}
    form = Form(size, args.output, tuple(args.dynamic), args.batch, **ways)
    calibration = find_calibration(trained) if form.output == "probabilities" else None
    if kind == "onnx":
        scoring = _scoring(args, trained, form) if args.score else None
        agreement = export_onnx(trained, out, form, calibration=calibration, weights=args.weights, scoring=scoring)
    else:
        write = {"stablehlo": export_stablehlo, "litert": export_litert}[kind]
        agreement = write(trained, out, form, calibration=calibration)
    shape = ", ".join(map(str, form.shape(trained.bands.count)))
    print(f"{form.output} of {trained.bands.dtype}[{shape}], {kind} -> {printable(str(out))}")
    _tell(args, agreement, out)
    return 0


def _scoring(args: argparse.Namespace, trained: TrainedModel, form: "Form") -> "Scoring":
    """What scores the functions of files on the images of the flags."""
    from jaxseg.export.score import score

    dataset, split = source.data(args, trained)
    return partial(score, trained=trained, form=form, dataset=dataset, split=split)


def _tell(args: argparse.Namespace, agreement: "Agreement", file: Path) -> None:
    """Prints how far a file is from the model, and its size."""
    from jaxseg.export.score import told

    what = "compared with the model" if args.weights == "float32" else f"{args.weights} compared with float32"
    print(f"{what}: {agreement}; {file.stat().st_size / 2**20:.1f} MiB")
    if agreement.scores:
        print(told(agreement.scores))


def _write_page(args: argparse.Namespace, trained: TrainedModel, size: tuple[int, int]) -> int:
    """Writes the folder of a page."""
    from jaxseg.export.web import REMEDY, export_web

    if args.runtime is None:
        raise UserError(f"The page runs the network with onnxruntime-web. {REMEDY}")
    if args.output != "labels" or args.dynamic or args.batch != 1 or args.tile or args.tta:
        raise UserError(
            "A page shows labels, of one image at a time, seen whole and once: leave out --output, --dynamic, --batch,"
            " --tile and --tta."
        )
    agreement = export_web(trained, args.out, size, args.runtime, weights=args.weights)
    print(f"a page -> {printable(args.out)}: serve it, say with `python -m http.server --directory {args.out}`")
    _tell(args, agreement, Path(args.out) / "model.onnx")
    return 0
