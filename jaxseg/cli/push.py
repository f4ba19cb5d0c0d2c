"""jaxseg push: a bundle to a repository of the Hugging Face hub."""

import argparse

EPILOG = """examples:
  jaxseg push bundles/camvid hf:OWNER/camvid-fpn
  jaxseg push bundles/camvid hf:OWNER/camvid-fpn --private

needs jaxseg[hub], and a token that may write: hf auth login, or HF_TOKEN
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = EPILOG
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("target", metavar="hf:OWNER/REPO", help="the repository, made if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--message", default="", help="of the commit")
    parser.add_argument("--replace-card", action="store_true", help="overwrite a model card that was edited on the hub")


def main(args: argparse.Namespace) -> int:
    """Sends the bundle and returns the exit status."""
    from jaxseg.pretrained.hub import push

    address = push(args.bundle, args.target, private=args.private, message=args.message, replace_card=args.replace_card)
    print(f"{args.bundle} -> {address}")
    return 0
