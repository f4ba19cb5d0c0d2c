"""Data sets and input pipeline.

The contract. A data set is a function `(root, *, options…) -> Dataset`, or `(*, options…) -> Dataset` where it needs
no files, with one entry in `DATASETS`. A `Dataset` names its classes, their colors, its ignore label and its splits.
A split is a `Source`, random access to records:

- `len(source)` is the number of records; `source[i]`, `0 <= i < len(source)`, returns a fresh mapping of
  `"image"`: [h, w, c], as stored: uint8, uint16, int16 or float32, of the set's `bands`; `"label"`: integers[h, w],
  class ids or the ignore label, of the image's own size; `"name"`: a str without folders or extension that names the
  record within its split; and, if it was read from disk, `"file"`: the label's path, for messages.
- a source that can read a part of an image has the methods `size(i)`, (height, width), and `read(i, window)`, the
  record within (top, left, height, width); training then reads only the windows that it shows.
- a source that can tell its records from others, quickly, has the method `identity()`, which returns digests by what
  they are of; a run that goes on compares them. Without it only the number of records is compared.
- the same index always gives the same record, in any process: a source can be pickled.
- building the `Dataset` reads no pixels; a record that does not read raises a `UserError` naming the file.

`create_dataset` adds relabeling to any of them, and the check that no label is out of range.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jaxseg import checks
from jaxseg.data.ade20k import ade20k
from jaxseg.data.camvid import camvid
from jaxseg.data.cityscapes import cityscapes
from jaxseg.data.coco_stuff import coco_stuff
from jaxseg.data.dataset import Dataset, Source, check_dataset, palette_colors
from jaxseg.data.folder import folder
from jaxseg.data.isbi import isbi
from jaxseg.data.labels import Relabeled
from jaxseg.data.membranes import membranes
from jaxseg.data.oxford_pet import oxford_pet
from jaxseg.data.pages import pages
from jaxseg.data.shapes import shapes
from jaxseg.data.voc import voc

__all__ = ["DATASETS", "Dataset", "Source", "check_dataset", "create_dataset", "palette_colors"]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "shapes": shapes,
    "pages": pages,
    "membranes": membranes,
    "folder": folder,
    "ade20k": ade20k,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "coco_stuff": coco_stuff,
    "isbi": isbi,
    "oxford_pet": oxford_pet,
    "voc": voc,
}


def create_dataset(
    name: str,
    root: str = "",
    *,
    label_offset: int = 0,
    label_ignore: Iterable[int] = (),
    **options: Any,
) -> Dataset:
    """Returns the data set called `name`, its labels checked on reading.

    Args:
      name: a key of `DATASETS`, or "tfds:NAME" for a prepared data set of TensorFlow Datasets.
      root: the folder that holds the data, for the sets that need one.
      label_offset: added to every stored label that is not ignored; -1 for ids that start at 1.
      label_ignore: stored values, before the offset, that join the data set's ignore label.
      **options: the data set's own arguments.

    >>> create_dataset("shapes").classes
    ('background', 'disk', 'square', 'triangle', 'star', 'ring', 'cross')
    """
    numbers = {option: v.item() for option, v in options.items() if isinstance(v, np.generic)}  # NumPy's are Python's
    dataset = _build(name, root, {**options, **numbers})
    splits = {
        split: Relabeled(
            source, dataset.num_classes, dataset.ignore, int(label_offset), tuple(int(v) for v in label_ignore)
        )
        for split, source in dataset.splits.items()
    }
    return dataclasses.replace(dataset, splits=splits)


def check_options_are_its_own(options: Mapping[str, Any]) -> None:
    """Raises a `UserError` for options of a data set that are settings beside them."""
    for key in ("name", "root", "label_offset", "label_ignore"):
        if key in options:
            raise checks.UserError(f"data.options.{key}: this is a setting of its own. Set data.{key} instead.")


def _build(name: str, root: str, options: Mapping[str, Any]) -> Dataset:
    import inspect

    if name.startswith("tfds:"):
        from jaxseg.data import tfds

        function = tfds.tfds
        checks.check_options(function, options, "the TFDS data sets")
        return function(name.removeprefix("tfds:"), root, **options)
    function = checks.lookup({**DATASETS, "tfds:NAME": None}, name, "data set")
    if function is None:
        raise checks.UserError("Put the name of a TFDS data set for NAME, as in 'tfds:oxford_iiit_pet'.")
    checks.check_options(function, options, f"data set '{name}'")
    if "root" in inspect.signature(function).parameters:
        if not root:
            raise checks.UserError(
                f"Data set '{name}' needs the folder that holds its files, got none. Set data.root"
                " (--config.data.root=DIR on the command line)."
            )
        return function(root, **options)
    if root:
        raise checks.UserError(f"Data set '{name}' takes no root, got '{root}'. Leave data.root empty.")
    return function(**options)
