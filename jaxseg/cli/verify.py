"""jaxseg verify: whether a bundle, or an exported file, says here what it said where it was written."""

import argparse
from pathlib import Path

EPILOG = """The golden image of a bundle and what the model said of it are in the bundle
(docs/bundles.md). A file of `jaxseg export` has its own: it is run in
onnxruntime, by JAX or in LiteRT. The status is 0 if this machine says the same,
else 1.

  jaxseg verify bundles/camvid
  jaxseg verify camvid.onnx
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument(
        "source",
        metavar="BUNDLE|FILE",
        help="a bundle's folder, hf:OWNER/REPO[@REVISION], or a file of `jaxseg export`",
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="the largest difference of a probability that is none"
    )


def main(args: argparse.Namespace) -> int:
    """Compares and returns the exit status."""
    from jaxseg.export.golden import told, verify_exported
    from jaxseg.inference.verify import verify
    from jaxseg.pretrained.hub import locate

    if Path(args.source).is_file():
        found = verify_exported(args.source, tolerance=args.tolerance)
        print("\n".join(told(found)))
    else:
        found = verify(locate(args.source), tolerance=args.tolerance)
        print("\n".join(found.lines()))
    return 0 if found.holds else 1
