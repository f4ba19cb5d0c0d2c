"""Loading of any supported library's weights: what `jaxseg convert` does before it writes a bundle."""

from pathlib import Path
from typing import Any

from jaxseg.checks import UserError
from jaxseg.pretrained.encoder import guess_library, read_encoder
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.imported import Imported
from jaxseg.pretrained.smp import read_smp, read_smp_folder
from jaxseg.pretrained.torchvision import read_torchvision

LIBRARIES = ("torchvision", "timm", "smp", "onnx", "keras")


def import_weights(
    library: str,
    source: str | Path,
    *,
    arch: str | None = None,
    encoder: str | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> Imported:
    """Imports a model, or an encoder alone, of another library.

    Args:
      library: one of `LIBRARIES`, which wrote the file; "onnx" is a model of smp that PyTorch exported to ONNX, or, if
        `arch` is None, an encoder of any library, which its names tell.
      source: the path of a state dict or of a trainer's checkpoint with one; a folder of smp's `save_pretrained`; or
        either as `hf:OWNER/REPO`.
      arch: the library's name of the model, in upper or lower case; None imports the encoder alone.
      encoder: a key of `jaxseg.ENCODERS`, or smp's name of it.
      num_classes: of an smp model; None takes the number that its head has.
      **options: further arguments that the model was made with, by the library's names; of an encoder, its fields.
        `in_channels` is the number of channels of the images.
    """
    path = locate(source)
    if library not in LIBRARIES:
        raise UserError(f"Unknown library '{library}'. Known: {', '.join(LIBRARIES)}.")
    if library == "onnx":
        if path.suffix != ".onnx":
            raise UserError(f"Expected a file whose name ends in .onnx, got '{path}'.")
        library = "smp" if arch is not None or encoder is None else guess_library(encoder, path, **options)
    if library == "smp" and path.is_dir():
        return read_smp_folder(path)
    if arch is None or library == "smp":
        if encoder is None:
            raise UserError("Converting this needs the name of an encoder. Give --encoder.")
        if arch is None:
            return read_encoder(library, encoder, path, own_pixels=True, **options)
        return read_smp(arch, encoder, path, num_classes, **options)
    if library in ("timm", "keras"):
        raise UserError(f"{library} has no segmentation models that convert. Leave --arch out and name --encoder.")
    return read_torchvision(arch, path, **options)
