"""jaxseg serve: a trained model behind HTTP."""

import argparse
import sys

from jaxseg.checks import UserError
from jaxseg.cli import source

EPILOG = """curl --data-binary @image.jpg http://127.0.0.1:8000/predict > label.png
docs/serve.md tells of requests, answers and limits.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    all_arguments(parser)


def all_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `run` reads."""
    from jaxseg.inference.refine import REFINERS

    source.arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="to listen at; 0.0.0.0 is heard by other machines, too")
    parser.add_argument("--port", type=int, default=8000, help="to listen at; 0 takes a free one")
    parser.add_argument("--batch", type=int, default=8, help="images that are computed together, at most")
    parser.add_argument("--wait", type=float, default=5.0, help="milliseconds that an image waits for others")
    parser.add_argument("--requests", type=int, default=64, help="that are taken at one time; more get the status 503")
    parser.add_argument("--max-pixels", type=int, default=2**24, help="of an image")
    parser.add_argument("--max-bytes", type=int, default=2**25, help="of a request")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until a request must be answered")
    parser.add_argument("--threads", type=int, default=0, help="that read images; 0 is one per core")
    parser.add_argument(
        "--bucket", type=int, metavar="N", help="pad images to multiples of N pixels: fewer sizes to compile for"
    )
    parser.add_argument(
        "--warm", metavar="HxW", nargs="+", default=[], help="compile for images of these sizes before the start"
    )
    parser.add_argument("--refine", choices=REFINERS, help="refine predictions, with the run's settings")
    parser.add_argument("--threshold", type=float, help="of a model of one class (default: the model's own)")
    source.tiling_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="say nothing of requests")


def main(args: argparse.Namespace) -> int:
    """Serves until it is asked to stop, and returns the exit status."""
    return run(args, page=False)


def run(args: argparse.Namespace, *, page: bool) -> int:
    """Serves the model that the flags name; with `page` also the page of `jaxseg demo`."""
    from jaxseg.inference.predict import Predictor
    from jaxseg.serve.app import check_installed
    from jaxseg.serve.server import serve
    from jaxseg.serve.service import Service, choosing
    from jaxseg.serve.uploads import Limits

    for name in ("batch", "requests", "max_pixels", "max_bytes", "timeout"):
        if getattr(args, name) <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be positive, got {getattr(args, name)}.")
    if args.wait < 0 or args.threads < 0:
        raise UserError("--wait and --threads must not be negative.")
    sizes = [_size(text) for text in args.warm]
    check_installed()
    options = {"bucket": args.bucket, "refine": args.refine, "threshold": args.threshold, **source.tiling(args)}
    predictor = Predictor(source.trained(args), **options)
    limits = Limits(args.max_bytes, args.max_pixels, args.timeout, args.requests)

    service = Service(
        predictor,
        limits=limits,
        batch=args.batch,
        wait=args.wait / 1e3,
        threads=args.threads,
        predictor_of=choosing(predictor, options) if page else None,
    )
    for height, width in sizes:
        service.warm(height, width)

    def started(address: str) -> None:
        what = f"open {address}/" if page else f"POST {address}/predict"
        print(f"{predictor.trained.source or args.model}: {what}; Ctrl-C stops.", file=sys.stderr, flush=True)

    serve(service, host=args.host, port=args.port, page=page, log=not args.quiet, started=started)
    return 0


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"--warm takes sizes as HEIGHTxWIDTH, such as 360x480, got {text!r}.")
    return int(height), int(width)
