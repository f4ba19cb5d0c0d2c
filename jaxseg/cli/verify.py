"""jaxseg verify: whether a bundle says here what it said where it was written."""

import argparse

EPILOG = """The golden image of a bundle and what the model said of it are in the bundle
(docs/bundles.md). The status is 0 if this machine says the same, else 1.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or hf:OWNER/REPO[@REVISION]")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="the largest difference of a probability that is none"
    )


def main(args: argparse.Namespace) -> int:
    """Compares and returns the exit status."""
    from jaxseg.inference.verify import verify
    from jaxseg.pretrained.hub import locate

    found = verify(locate(args.bundle), tolerance=args.tolerance)
    print("\n".join(found.lines()))
    return 0 if found.holds else 1
