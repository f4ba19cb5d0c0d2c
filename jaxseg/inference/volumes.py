"""Label maps of NIfTI volumes: their slices, once all are written, as one volume that lies where the image lies."""

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data import readers
from jaxseg.data.pairs import VOLUMES
from jaxseg.data.readers import opening
from jaxseg.files import atomic_path
from jaxseg.inference.image_list import ImagePage, volume_stem

SLICES = "_label.png", ".png"  # endings of what `predict_file` writes: class ids, and values


class Volumes:
    """The volumes among the images that are predicted, each written when its last slice is.

    It is made of the slices on the disk: so it does not matter which of several processes, or which run, wrote them.

    Args:
      pages: all images, also those that are there already or that another process predicts.
      own: those that this process predicts.
      values: whether the slices are STEM.png, see `jaxseg.inference.files.Outputs`.
    """

    def __init__(self, pages: Iterable[ImagePage], own: Iterable[ImagePage], *, values: bool = False):
        self._ending = SLICES[values]
        self._pages: dict[Path, list[ImagePage]] = {}
        self._left: dict[Path, int] = {}
        self._failed: set[Path] = set()
        for page in pages:
            if opening.suffix(page.file) in VOLUMES:
                self._pages.setdefault(page.file, []).append(page)
        for page in own:
            if page.file in self._pages:
                self._left[page.file] = self._left.get(page.file, 0) + 1

    def missing(self) -> list[Path]:
        """Returns the files none of whose slices were left to this process, and that have no volume yet."""
        return [file for file in self._pages if file not in self._left and not self._path(file).exists()]

    def after(self, page: ImagePage, *, failed: bool) -> Path | None:
        """Notes that an image was tried; returns the path of the volume that its slice completed.

        Of a volume with a slice that failed nothing is written: what is there may be of another model.
        """
        if page.file not in self._left:
            return None
        if failed:
            self._failed.add(page.file)
        self._left[page.file] -= 1
        return None if self._left[page.file] or page.file in self._failed else self.write(page.file)

    def _path(self, file: Path) -> Path:
        stem = volume_stem(self._pages[file][0])
        return stem.with_name(stem.name + self._ending.replace(".png", ".nii.gz"))

    def write(self, file: Path) -> Path | None:
        """Writes the volume of a file and returns its path; None, and nothing, where slices are not there yet.

        Raises a `UserError` if they are of another image, an `OSError` for what cannot be read or written.
        """
        from PIL import Image

        pages = self._pages[file]
        slices = [page.stem.with_name(page.stem.name + self._ending) for page in pages]
        if not all(path.exists() for path in slices):  # another process is not done
            return None
        arrays = []
        for path in slices:
            with Image.open(path) as image:
                arrays.append(np.asarray(image))
        known = readers.header(file)
        for path, labels in zip(slices, arrays, strict=True):
            if labels.shape != (known.height, known.width):
                raise UserError(
                    f"{path} is of another image than {file} holds now, so no volume is made of it. Remove it and"
                    " predict again."
                )
        labels = np.stack(arrays, -1)
        write_labels(self._path(file), labels, file)
        return self._path(file)


def write_labels(path: Path, labels: np.ndarray, like: Path) -> None:
    """Writes labels as a NIfTI volume (.nii.gz) that lies in the patient as the image does, to the bit of its header.

    What the header may say of the patient beside that, and the range to show, is left out.

    Args:
      path: of the file.
      labels: uint8 or uint16 [h, w, slices], rows, columns and slices as those of the image.
      like: the file of the image.
    """
    import nibabel

    image = nibabel.load(like)
    header = image.header.copy()
    header.extensions.clear()
    for field in ("descrip", "aux_file"):
        header[field] = b""
    header["cal_min"] = header["cal_max"] = 0
    header.set_intent("none")
    header.set_data_dtype(labels.dtype)
    labels = labels.reshape(image.shape[:3])  # of two axes where the image has two
    volume = type(image)(labels, None, header)  # the affine is in the header; of one with nan no other can be made
    with atomic_path(path) as part:
        part.write_bytes(gzip.compress(volume.to_bytes(), mtime=0))
