"""jaxseg attention: attention maps of a trained model over images."""

import argparse
from pathlib import Path

from jaxseg.checks import UserError, printable
from jaxseg.cli import source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("model", metavar="MODEL", help=source.HELP)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of them")
    source.checkpoint(parser)
    parser.add_argument("--out", required=True, help="folder to write NAME_BLOCK.png to")


def main(args: argparse.Namespace) -> int:
    """Draws the attention over every image and returns the exit status."""
    from jaxseg import visualize
    from jaxseg.analysis.attention import attention
    from jaxseg.data.readers import read_rgb as read_image
    from jaxseg.inference.image_list import find_images
    from jaxseg.models.parts import title

    files, out = find_images(args.images), Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder.")
    trained = source.trained(args)
    for file in files:
        image = read_image(str(file))
        found = attention(trained.model, trained.variables, trained.preprocessing.normalize(image[None])[0])
        if not found:
            raise UserError(
                f"{title(trained.model)} has no attention that can be drawn. Models with some: attention_unet,"
                ' manet, pan, image_pyramid, and unet and unetplusplus with options={"attention": "scse"}.'
            )
        out.mkdir(parents=True, exist_ok=True)
        names = []
        for block, (maps, _) in found.items():
            if maps:
                names.append(out / f"{file.stem}_{block.replace('/', '.').replace(' ', '_')}.png")
                visualize.attention_figure(image, maps, names[-1], title=block)
        channels = {block: weights for block, (_, weights) in found.items() if weights is not None}
        if channels:
            names.append(out / f"{file.stem}_channels.png")
            visualize.channels_figure(image, channels, names[-1])
        print(printable(f"{file}: {len(found)} blocks -> {', '.join(map(str, names))}"))
    return 0
