"""Folders of images and labels: `ROOT/{train,val,…}/{images,labels}`, with equal file names.

Images may be jpg, jpeg, png, tif, tiff, webp or bmp; gray, palette, RGB, RGBA or 16-bit. Labels are png, tif, tiff,
bmp or webp: class ids in a gray (8 or 16 bit) or palette file, or colors that `ROOT/classes.json` translates:

    {"ignore": 255, "classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, …]}

An entry may further hold `"values": [7, 8]`, the values that stand for the class in gray and palette files where
these differ from its id. An entry whose id is the ignore label names a color, or values, that are ignored.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.data import imagefile
from jaxseg.data.dataset import Dataset, palette_colors

IMAGES = imagefile.IMAGE_SUFFIXES
LABELS = (".png", ".tif", ".tiff", ".bmp", ".webp")
UNLISTED = 65535  # stands for a stored value or color that classes.json does not list


def folder(root: str, *, num_classes: int | None = None) -> Dataset:
    """A folder of images and labels; each sub-folder of `root` that holds `images` or `labels` is a split.

    Args:
      root: the folder described above.
      num_classes: replaces `classes.json` where there is none: labels hold ids 0 to num_classes - 1, or 255.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        raise UserError(f"Data folder '{root}' does not exist. Set data.root to the folder that holds the splits.")
    names = sorted(p.name for p in path.iterdir() if (p / "images").is_dir() or (p / "labels").is_dir())
    if not names:
        raise UserError(
            f"Data folder '{root}' holds no split: expected {path}/train/images and {path}/train/labels, found"
            f" {listing([p.name for p in sorted(path.iterdir())]) or 'nothing'}."
        )
    legend = _read_legend(path, num_classes, names)
    splits = {name: Folder(path / name, name, legend) for name in names}
    return Dataset("folder", legend.names, legend.palette, splits, legend.ignore)


@dataclasses.dataclass(frozen=True)
class Legend:
    """The contents of `classes.json`: class ids of the values and colors in label files."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore: int
    values: tuple[tuple[int, int], ...] | None = None  # (stored value, id) pairs; None stores ids
    colors: tuple[tuple[int, int], ...] = ()  # (0xRRGGBB, id) pairs; empty where no color is known


@dataclasses.dataclass(frozen=True)
class Folder:
    """One split: `path/images` and `path/labels`, listed at the first use and sorted by name."""

    path: Path
    split: str
    legend: Legend

    @functools.cached_property
    def pairs(self) -> tuple[tuple[str, str, str], ...]:
        """(name, image file, label file) of every record."""
        samples = self._list("images", IMAGES)
        labels = self._list("labels", LABELS)
        for have, lack, what, where in (
            (samples, labels, "images have no label", "labels"),
            (labels, samples, "labels have no image", "images"),
        ):
            alone = sorted(have.keys() - lack.keys())
            if alone:
                raise UserError(
                    f"{len(alone)} {what}: {listing([have[name] for name in alone])}. Each needs a file of the same"
                    f" name (the extension may differ) in {self.path / where}; add it, or remove these."
                )
        return tuple((name, samples[name], labels[name]) for name in sorted(samples))

    def _list(self, kind: str, extensions: tuple[str, ...]) -> dict[str, str]:
        """Returns name -> file for one of the two folders."""
        where = self.path / kind
        if not where.is_dir():
            raise UserError(f"Split '{self.split}' has no folder {where}. Put the split's {kind} there.")
        files, others = {}, []
        for file in sorted(where.iterdir()):
            if file.name.startswith("."):
                continue
            if kind == "labels" and file.suffix.lower() in (".jpg", ".jpeg"):
                raise UserError(f"{file} is a JPEG, whose compression invents labels. Save labels as PNG.")
            if file.suffix.lower() not in extensions:
                others.append(file.name + ("/" if file.is_dir() else ""))
            elif file.stem in files:
                raise UserError(f"Two {kind} have one name: {files[file.stem]} and {file}. Keep one of them.")
            else:
                files[file.stem] = str(file)
        if not files:
            found = f", found {listing(others)}" if others else ""
            raise UserError(f"No {kind} in {where}: expected files ending in {' '.join(extensions)}{found}.")
        return files

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, sample, label = self.pairs[index]
        image = imagefile.read_image(sample)
        ids = self._ids(label)
        if ids.shape != image.shape[:2]:
            turned = " The image's EXIF data turn it." if ids.shape == image.shape[1::-1] else ""
            raise UserError(
                f"{label} is {ids.shape[1]}x{ids.shape[0]} (width x height) but its image {sample} is"
                f" {image.shape[1]}x{image.shape[0]}. Expected one label per pixel: save the label at the image's"
                f" size, enlarging without interpolation.{turned}"
            )
        return {"image": image, "label": ids, "name": name, "file": label}

    def _ids(self, file: str) -> np.ndarray:
        """Returns the class ids of a label file."""
        stored = imagefile.read_label(file)
        if stored.ndim == 2:
            if self.legend.values is None:
                return stored
            found, ids = _translate(stored, self.legend.values)
            if UNLISTED in ids:
                raise UserError(
                    f'{file}: value {listing(found[ids == UNLISTED].tolist())} is in no "values" of classes.json.'
                    f' Add it to a class, or to {{"id": {self.legend.ignore}, "name": "ignored", "values": […]}}.'
                )
            return ids[np.searchsorted(found, stored)]
        return self._from_colors(file, stored)

    def _from_colors(self, file: str, stored: np.ndarray) -> np.ndarray:
        if not self.legend.colors:
            raise UserError(
                f'{file} is coded in colors, and no class has one. Give each class its "color" in classes.json, or'
                " store class ids in a gray or palette file."
            )
        packed = stored.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        found, ids = _translate(packed, self.legend.colors)
        if UNLISTED in ids:
            unknown = [tuple(int(v) >> s & 255 for s in (16, 8, 0)) for v in found[ids == UNLISTED]]
            gray = all(r == g == b for r, g, b in unknown)
            hint = " Are these class ids, saved as RGB? Save them as gray." if gray and max(unknown)[0] < 64 else ""
            raise UserError(
                f"{file}: color {listing(unknown)} is not in classes.json. Add it to a class, or ignore it with"
                f' {{"id": {self.legend.ignore}, "name": "ignored", "color": {list(unknown[0])}}}.{hint}'
            )
        return ids[np.searchsorted(found, packed)]


def _translate(stored: np.ndarray, table: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct values of `stored` and the id that `table` gives each, or UNLISTED."""
    found = np.unique(stored)
    known = dict(table)
    return found, np.array([known.get(v, UNLISTED) for v in found.tolist()], np.uint16)


def _read_legend(root: Path, num_classes: int | None, splits: list[str]) -> Legend:
    """Returns the legend of `root/classes.json`, or one of `num_classes` numbered classes."""
    file = root / "classes.json"
    if not file.is_file():
        if num_classes is None:
            raise UserError(_no_legend(root, splits))
        names = tuple(f"class{i}" for i in range(num_classes))
        return Legend(names, palette_colors(num_classes), 255)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        entries = [{"name": e} if isinstance(e, str) else dict(e) for e in document["classes"]]
        entries = [{"id": i, **e} for i, e in enumerate(entries)]
        ignore = int(document.get("ignore", 255))
        ids = [int(e["id"]) for e in entries if int(e["id"]) != ignore]
        legend = _legend(entries, ignore)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} does not read ({type(error).__name__}: {error}). Expected"
            ' {"ignore": 255, "classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, ...]}.'
        ) from None
    if sorted(ids) != list(range(len(ids))):
        raise UserError(
            f"{file}: expected the ids 0 to {len(ids) - 1}, each once, got {listing(sorted(ids), 12)}. Where files"
            ' store other values, keep ids from 0 and list those values: {"id": 0, "name": "road", "values": [7]}.'
        )
    if num_classes is not None and num_classes != len(ids):
        raise UserError(f"{file} names {len(ids)} classes but num_classes is {num_classes}. Drop num_classes.")
    return legend


def _legend(entries: list[dict], ignore: int) -> Legend:
    classes = sorted((e for e in entries if int(e["id"]) != ignore), key=lambda e: int(e["id"]))
    spare = palette_colors(len(classes))
    palette = tuple(tuple(int(v) for v in e.get("color", c)) for e, c in zip(classes, spare, strict=True))
    if any(len(color) != 3 or not all(0 <= v <= 255 for v in color) for color in palette):
        raise ValueError("a color is three numbers in 0..255")
    colored = [e for e in entries if "color" in e]
    colors = tuple((int(r) << 16 | int(g) << 8 | int(b), int(e["id"])) for e in colored for r, g, b in [e["color"]])
    if len(dict(colors)) < len(colors):
        raise ValueError("two classes have one color")
    values = None
    if any("values" in e for e in entries):
        values = tuple((int(v), int(e["id"])) for e in entries for v in e.get("values", [e["id"]]))
        if len(dict(values)) < len(values):
            raise ValueError("two classes have one value")
        if ignore not in dict(values):
            values += ((ignore, ignore),)
    return Legend(tuple(str(e["name"]) for e in classes), palette, ignore, values, colors)


def _no_legend(root: Path, splits: list[str]) -> str:
    """Says what is missing and, from a few label files, what to write."""
    found: set[int] = set()
    for split in splits:
        where = root / split / "labels"
        files = sorted(f for f in where.iterdir() if f.suffix.lower() in LABELS) if where.is_dir() else []
        for file in files[:10]:
            stored = imagefile.read_label(str(file))
            if stored.ndim == 2:
                found.update(np.unique(stored).tolist())
    seen = f" The first labels hold the values {listing(sorted(found), 12)}." if found else ""
    return (
        f"{root}/classes.json does not exist, so the classes are not known. Write it, as"
        ' {"ignore": 255, "classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, ...]}, or give their number'
        f" with data.options.num_classes=N.{seen}"
    )
