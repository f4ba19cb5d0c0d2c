"""`tfds:NAME`: the data sets of TensorFlow Datasets that hold an image and a mask, read without TensorFlow.

They must lie prepared on disk as ArrayRecord files, which can be read at random; nothing is ever downloaded here.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg.checks import Unreadable, UserError
from jaxseg.data.dataset import LARGEST, Dataset, palette_colors
from jaxseg.data.identity import identify_files
from jaxseg.files import read_json, short

if TYPE_CHECKING:
    import tensorflow_datasets

IMAGE_KEYS = ("image", "image_left")  # looked for in this order, then any only image of three channels
LABEL_KEYS = ("segmentation_mask", "segmentation_label", "mask", "annotation", "label", "labels")
NAME_KEYS = ("file_name", "filename", "image/filename", "image_id", "id", "name")


def tfds(
    name: str,
    root: str = "",
    *,
    image_key: str = "",
    label_key: str = "",
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    ignore: int = 255,
) -> Dataset:
    """A prepared data set of TensorFlow Datasets, its splits as TFDS names them.

    Args:
      name: as TFDS writes it, "oxford_iiit_pet" or "my_set/config:1.0.0".
      root: TFDS' data_dir; "" is TFDS' own, ~/tensorflow_datasets.
      image_key: the feature that holds the image; "" finds it.
      label_key: the feature that holds the mask; "" finds it.
      num_classes: number of classes, after relabeling, where neither the features nor `classes` tell.
      classes: their names.
      ignore: the mask's ignore value.
    """
    builder = _prepared_builder(name, root)
    features = dict(builder.info.features.items())
    image_key, label_key = _keys(name, features, image_key, label_key)
    names = _classes(name, features[label_key], num_classes, classes)
    text_key = next((k for k in NAME_KEYS if type(features.get(k)).__name__ == "Text"), "")
    splits = {
        split: Tfds(name, str(builder.data_path), split, info.num_examples, image_key, label_key, text_key)
        for split, info in builder.info.splits.items()
    }
    return Dataset(f"tfds:{name}", names, palette_colors(len(names)), splits, ignore)


@dataclasses.dataclass(frozen=True)
class Tfds:
    """One split; opened at the first use, in each process for itself."""

    name: str
    directory: str
    split: str
    count: int
    image_key: str
    label_key: str
    text_key: str

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), dataclasses.astuple(self)

    @functools.cached_property
    def records(self) -> Sequence[dict[str, Any]]:
        import tensorflow_datasets

        check_classes(Path(self.directory), ("",))
        return tensorflow_datasets.builder_from_directory(self.directory).as_data_source(self.split)

    def identity(self) -> dict[str, str]:
        """Returns digests of the files that hold the records of all splits; none where they lie in a bucket."""
        if not Path(self.directory).is_dir():
            return {}
        files = sorted(path for path in Path(self.directory).iterdir() if ".array_record" in path.name)
        return identify_files([self.split, *(path.name for path in files)], [[str(path)] for path in files])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        where = f"tfds:{self.name}, split '{self.split}', record {index}"
        try:
            record = self.records[index]
        except Exception as error:
            raise Unreadable(f"{where} does not read ({error}). Prepare the data set anew.") from None
        image, label = np.asarray(record[self.image_key]), np.asarray(record[self.label_key])
        if image.shape[:2] != label.shape[:2]:
            raise UserError(
                f"{where}: '{self.label_key}' is {label.shape[:2]} but '{self.image_key}' is {image.shape[:2]}"
                " (height, width). Expected one label per pixel: is it the right mask? Set data.options.label_key."
            )
        name = f"{index:06d}"
        if self.text_key:
            name = PurePath(record[self.text_key].decode()).stem or name
        return {"image": _rgb(image), "label": _ids(label, where), "name": name, "file": where}


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        image = ((image.astype(np.int32) + 128) // 257).astype(np.uint8)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.ascontiguousarray(image[..., :3])


def _ids(label: np.ndarray, where: str) -> np.ndarray:
    if label.ndim == 2:
        return label
    if label.shape[2] > 1 and (label != label[..., :1]).any():
        raise UserError(
            f"{where}: the mask is coded in colors, expected class ids. Save the set as a folder with a classes.json"
            " that lists the colors, and read it with data.name=folder."
        )
    return np.ascontiguousarray(label[..., 0])


def check_classes(folder: Path, below: Sequence[str]) -> None:
    """Raises a `UserError` for a prepared set that names classes outside of TFDS, whose modules TFDS would import.

    A set that someone else prepared could so have its own code run.

    Args:
      folder: the prepared set, or one that holds prepared sets.
      below: patterns of the folders in it that are looked at.
    """
    for pattern in below:
        for name in ("features.json", "dataset_info.json"):
            for file in folder.glob(f"{pattern}{name}"):
                for named in _classes_named(read_json(file, "Prepare the data set anew.")):
                    if not named.startswith("tensorflow_datasets."):
                        raise UserError(
                            f"{file} names the class {short(named)}, which is not of TFDS: reading the data set would"
                            " run code that came with it. Prepare it from its original source, or save it as a folder"
                            " of images (docs/trust.md)."
                        )


def _classes_named(value: Any) -> Iterator[str]:
    """Yields the classes that a file of TFDS names, as it does today and did formerly ("type")."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if isinstance(inside, str):
                named = key.replace("_", "").lower()
                if named == "pythonclassname" or (named == "type" and "." in inside):
                    yield inside
            else:
                yield from _classes_named(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _classes_named(inside)


def _prepared_builder(name: str, root: str) -> "tensorflow_datasets.core.DatasetBuilder":
    """Returns the TFDS builder of a set that lies on disk as ArrayRecord."""
    if not re.fullmatch(r"\w+(/\w[\w.+-]*)?(:[\d.*]+)?", name) or "://" in root:
        raise UserError(
            f"'tfds:{name}' in {root or 'the data_dir of TFDS'} is no data set that lies prepared on this machine:"
            " expected a name as in tfds:oxford_iiit_pet, tfds:my_set/config or tfds:my_set:1.0.0, and a folder."
        )
    import tensorflow_datasets
    from tensorflow_datasets.core.utils import file_utils

    for folder in file_utils.list_data_dirs(root or None):
        path = Path(folder).expanduser() / re.split("[/:]", name)[0]
        check_classes(path, ("", "*/", "*/*/", "*/*/*/"))
    try:
        builder = tensorflow_datasets.builder(name, data_dir=root or None)
    except tensorflow_datasets.core.registered.DatasetNotFoundError:
        known = difflib.get_close_matches(name, tensorflow_datasets.list_builders(with_community_datasets=False), n=3)
        hint = f" Did you mean {' or '.join(dict.fromkeys(known))}?" if known else ""
        raise UserError(
            f"TFDS knows no data set '{name}' and {root or 'its data_dir'} holds none of that name.{hint} Set data.root"
            " to the data_dir it was prepared in."
        ) from None
    except ImportError as error:
        raise UserError(f"The TFDS data set '{name}' cannot be used here: {error}") from None
    place = f", data_dir={root!r}" if root else ""
    recipe = (
        'python -c "import tensorflow_datasets as tfds;'
        f" tfds.builder({name!r}, file_format='array_record'{place}).download_and_prepare()\""
    )
    if not builder.info.splits:
        raise UserError(
            f"The TFDS data set '{name}' is not prepared in {builder.data_path}. jaxseg downloads nothing unasked;"
            f" prepare it, once, with\n  {recipe}\nor set data.root to the data_dir that holds it."
        )
    formats = {f.value for f in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise UserError(
            f"The TFDS data set '{name}' in {builder.data_path} is stored as {', '.join(sorted(formats))}, which cannot"
            f" be read at random. Prepare it as array_record into another data_dir:\n  {recipe}"
        )
    return builder


def _keys(name: str, features: dict[str, Any], image_key: str, label_key: str) -> tuple[str, str]:
    """Returns the features that hold the image and the mask."""
    shapes = {
        k: f.shape for k, f in features.items() if np.issubdtype(_dtype(f), np.integer) and len(f.shape) in (2, 3)
    }
    images = [k for k, s in shapes.items() if len(s) == 3 and s[2] in (1, 3, 4) and k != label_key]
    colored = [k for k in images if shapes[k][2] == 3]
    for key, option in ((image_key, "image_key"), (label_key, "label_key")):
        if key and key not in shapes:
            raise UserError(
                f"tfds:{name} has no image feature '{key}' ({option}), but {', '.join(shapes) or 'none at all'}."
            )
    image = image_key or next((k for k in IMAGE_KEYS if k in images), colored[0] if len(colored) == 1 else "")
    masks = [k for k in shapes if k != image and (len(shapes[k]) == 2 or shapes[k][2] in (1, 3))]
    single = [k for k in masks if len(shapes[k]) == 2 or shapes[k][2] == 1]
    label = label_key or next((k for k in LABEL_KEYS if k in masks), single[0] if len(single) == 1 else "")
    for key, what, option in ((image, "an image", "image_key"), (label, "a segmentation mask", "label_key")):
        if not key:
            raise UserError(
                f"tfds:{name}: none of its features looks like {what}: {', '.join(sorted(features))}. If one is, name"
                f" it in data.options.{option}."
            )
    return image, label


def _dtype(feature: Any) -> Any:
    """Returns the numpy type of a feature, object for what has none (text, nested features)."""
    try:
        return np.dtype(feature.np_dtype)
    except (AttributeError, TypeError, ValueError):
        return np.dtype(object)


def _classes(name: str, mask: Any, num_classes: int | None, classes: Sequence[str]) -> tuple[str, ...]:
    told = getattr(mask, "num_classes", None)
    if classes and num_classes not in (None, len(classes)):
        raise UserError(f"tfds:{name}: num_classes={num_classes} but {len(classes)} classes are named. Drop one.")
    if classes:
        return tuple(str(c) for c in classes)
    if num_classes is None and told is None:
        raise UserError(
            f"tfds:{name} does not say how many classes its mask has. Give data.options.num_classes=N or their names,"
            " data.options.classes=('a', 'b', ...); for ids that start at 1 set data.label_offset=-1 too."
        )
    if num_classes in (None, told) and getattr(mask, "names", None):
        return tuple(mask.names)
    count = num_classes or told
    if not 1 <= count <= LARGEST:
        raise UserError(f"tfds:{name} is to have {count} classes; expected 1 to {LARGEST}.")
    return tuple(f"class{i}" for i in range(count))
