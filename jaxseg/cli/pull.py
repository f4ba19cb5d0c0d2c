"""jaxseg pull: a bundle of the Hugging Face hub into a folder."""

import argparse

EPILOG = """example:
  jaxseg pull hf:OWNER/camvid-fpn@main bundles/camvid

The folder then loads without a network and without jaxseg[hub].
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument("source", metavar="hf:OWNER/REPO[@REVISION]", help="the repository; a branch, tag or commit")
    parser.add_argument("directory", metavar="DIR", help="a new or empty folder, or a bundle, which is overwritten")


def main(args: argparse.Namespace) -> int:
    """Fetches the bundle and returns the exit status."""
    from jaxseg.pretrained.hub import pull

    folder = pull(args.source, args.directory)
    print(f"{args.source} -> {folder}")
    print(f"jaxseg verify {folder} says whether it does here what it did where it was written.")
    return 0
