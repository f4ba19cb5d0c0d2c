"""classes.json: what the values and colors in label files mean.

    {"ignore": 255, "classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, …]}

An entry may further hold `"values": [7, 8]`, the values that stand for the class in gray and palette files where
these differ from its id. An entry whose id is the ignore label names a color, or values, that are ignored. Names alone
(`["road", "car"]`) and Hugging Face's `{"0": "road", "1": "car"}` do too, where files hold ids.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.data.dataset import LARGEST as MOST
from jaxseg.data.dataset import palette_colors
from jaxseg.data.labels import INTERPOLATED, count_values, look_interpolated, replace_values
from jaxseg.data.readers import StoredLabel
from jaxseg.files import read_text

FORM = '{"ignore": 255, "classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, ...]}'


@dataclasses.dataclass(frozen=True)
class Legend:
    """The classes of a folder, and the labels that stand for stored values and colors.

    Labels are class ids or the ignore label. Of one class, the label 1 is the class and 0 is the rest.

    Args:
      names: of the classes.
      palette: their colors, 0..255.
      ignore: the ignore label.
      values: (stored value, label) pairs; None where files store labels.
      colors: (0xRRGGBB, label) pairs; empty where no color is known.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore: int = 255
    values: tuple[tuple[int, int], ...] | None = None
    colors: tuple[tuple[int, int], ...] = ()

    @property
    def num_labels(self) -> int:
        """The number of labels besides the ignore label."""
        return max(len(self.names), 2)

    @property
    def stored(self) -> tuple[tuple[int, ...], ...] | None:
        """Of each class, the values that stand for it in files; None where files store labels."""
        if self.values is None:
            return None
        first = 1 if len(self.names) == 1 else 0
        return tuple(tuple(v for v, label in self.values if label == first + i) for i in range(len(self.names)))

    def name(self, label: int) -> str:
        """The class of a label, for messages."""
        if label == self.ignore:
            return f"{label} (ignored)"
        name = ("not of the class", *self.names)[label] if len(self.names) == 1 else self.names[label]
        return f"{label} ({name})"

    def read(self, stored: StoredLabel, file: str) -> np.ndarray:
        """Returns the labels of what a file holds, integers[h, w]; values that mean nothing raise a `UserError`."""
        values = stored.values
        if values.ndim == 2:
            return self._from_values(values, file, stored.palette)
        gray = np.array_equal(values[..., 0], values[..., 1]) and np.array_equal(values[..., 0], values[..., 2])
        if gray:
            found, _ = count_values(np.ascontiguousarray(values[..., 0]))
            known = dict(self.colors)
            by_color = {v: known.get(v << 16 | v << 8 | v) for v in found.tolist()}
            if any(label is None for label in by_color.values()) and self._are_ids(by_color):
                return self._from_values(np.ascontiguousarray(values[..., 0]), file, None)
        return self._from_colors(values, file)

    def _are_ids(self, by_color: dict[int, int | None]) -> bool:
        """Whether gray values, some of which are of no class as colors, can be what files of one channel store."""
        return all(self._label(v) is not None and c in (None, self._label(v)) for v, c in by_color.items())

    def _label(self, value: int) -> int | None:
        """The label that a stored value stands for, None if for none."""
        if self.values is not None:
            return dict(self.values).get(value)
        return value if 0 <= value < self.num_labels or value == self.ignore else None

    def _from_values(self, values: np.ndarray, file: str, palette: np.ndarray | None) -> np.ndarray:
        by_color = {} if palette is None or not self.colors else self._from_palette(values, file, palette)
        if self.values is None and not by_color:
            return values
        found, counts = count_values(values)
        known = {**by_color, **dict(self.values or ())}
        unlisted = [v for v in found.tolist() if v not in known]
        if unlisted:
            what = f'{file}: value {listing(unlisted)} is in no "values" of classes.json.'
            if look_interpolated(found, counts, unlisted):
                raise UserError(f"{what} {INTERPOLATED}")
            ignored = f'{{"id": {self.ignore}, "name": "ignored", "values": […]}}'
            raise UserError(f"{what} Add it to a class, or to {ignored}.")
        labels = np.array([known[v] for v in found.tolist()], np.uint8 if self.ignore <= 255 else np.uint16)
        return replace_values(values, found, labels)

    def _from_palette(self, values: np.ndarray, file: str, palette: np.ndarray) -> dict[int, int]:
        """Returns the labels of the indices whose colors classes.json has, empty if these say nothing new.

        The colors are what people see and mean. An index that stands for another class than its color is an error
        where not all colors are known, or where classes.json lists values: nobody could tell which of the two is right.
        """
        found = [v for v in count_values(values)[0].tolist() if v < len(palette)]
        if all((palette[v] == v).all() for v in found):  # the gray ramp of a palette that nobody chose
            return {}
        known = dict(self.colors)
        colors = {v: tuple(palette[v].tolist()) for v in found}
        by_color = {v: known[r << 16 | g << 8 | b] for v, (r, g, b) in colors.items() if r << 16 | g << 8 | b in known}
        if self.values is None and all(v in by_color or v == self.ignore for v in found):
            return {**by_color, self.ignore: by_color.get(self.ignore, self.ignore)}
        for value, label in by_color.items():
            if self._label(value) not in (None, label):
                raise UserError(
                    f"{file}: index {value} stands for label {self.name(self._label(value))}, but the file's palette"
                    f" gives it the color {colors[value]}, which is that of label {self.name(label)} in classes.json."
                    ' Mend the "color" or "values" there, or store the labels as gray without a palette.'
                )
        return by_color if self.values is not None else {}

    def _from_colors(self, stored: np.ndarray, file: str) -> np.ndarray:
        if not self.colors:
            raise UserError(
                f'{file} is coded in colors, and no class has one. Give each class its "color" in classes.json, or'
                f" store class ids in a gray or palette file.{_hint(np.unique(stored.reshape(-1, 3), axis=0))}"
            )
        packed = np.left_shift(stored[..., 0], 16, dtype=np.uint32)  # faster than a product
        packed |= np.left_shift(stored[..., 1], 8, dtype=np.uint32)
        packed |= stored[..., 2]
        unlisted = 65535 if self.ignore != 65535 else 65534  # of no class: there are up to 65534
        labels = np.take(_color_table(self.colors, unlisted), packed)
        lost = labels == unlisted
        if lost.any():
            found = np.unique(packed[lost])
            unknown = [tuple(int(v) >> s & 255 for s in (16, 8, 0)) for v in found]
            hint = _hint(np.array(unknown))
            if not hint and _are_mixtures(np.array(unknown), self.colors):
                hint = f" {INTERPOLATED}"
            raise UserError(
                f"{file}: color {listing(unknown)} is not in classes.json. Add it to a class, or ignore it with"
                f' {{"id": {self.ignore}, "name": "ignored", "color": {list(unknown[0])}}}.{hint}'
            )
        return labels if self.ignore > 255 else labels.astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _color_table(colors: tuple[tuple[int, int], ...], unlisted: int) -> np.ndarray:
    """The label of each of the 2^24 colors, 32 MiB: looking labels up takes a tenth of the time of sorting pixels."""
    table = np.full(1 << 24, unlisted, np.uint16)
    for color, label in colors:
        table[color] = label
    return table


def _are_mixtures(colors: np.ndarray, listed: tuple[tuple[int, int], ...]) -> bool:
    """Whether several colors all lie between two of the colors of classes, to rounding."""
    known = np.array([[c >> 16, c >> 8 & 255, c & 255] for c, _ in listed], float)
    if len(colors) < 4 or len(known) < 2:
        return False
    first, second = (known[i] for i in np.triu_indices(len(known), 1))
    way = second - first
    for color in colors[:: max(1, len(colors) // 50)]:
        along = ((color - first) * way).sum(1) / np.maximum((way**2).sum(1), 1)
        if not (np.abs(first + along.clip(0, 1)[:, None] * way - color).max(1) < 1.5).any():
            return False
    return True


def _hint(colors: np.ndarray) -> str:
    """What colors of no class may be, where they look like ids."""
    red, green, blue = colors.max(axis=0).tolist()
    if red < 64 and (colors == colors[:, :1]).all():
        return " Are these class ids, saved as RGB? Save them as gray."
    if green == blue == 0 and 0 < red < 255:
        return " Are these class ids, in the red channel? Save that channel as gray."
    return ""


def numbered(num_classes: int) -> Legend:
    """Returns the legend of classes without names whose files store ids."""
    if not 1 <= num_classes <= MOST:
        raise UserError(f"data.options.num_classes={num_classes}: expected 1 to {MOST} classes.")
    names = tuple(f"class{i}" for i in range(num_classes))
    return Legend(names, palette_colors(num_classes), 255 if num_classes <= 255 else 65535)


def from_document(document: Any) -> Legend:
    """Returns the legend of a document as classes.json holds it."""
    return _legend(*_entries(document))


def read_legend(file: Path, num_classes: int | None) -> Legend:
    """Returns the legend of a classes.json; `num_classes`, if given, must be the number of its classes."""
    try:
        document = json.loads(read_text(file, encoding="utf-8-sig"))
        entries, ignore = _entries(document)
        ids = [int(e["id"]) for e in entries if int(e["id"]) != ignore]
        legend = _legend(entries, ignore)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{file} does not read ({type(error).__name__}: {error}). Expected {FORM}.") from None
    if sorted(ids) != list(range(len(ids))):
        raise UserError(
            f"{file}: expected the ids 0 to {len(ids) - 1}, each once, got {listing(sorted(ids), 12)}. Where files"
            ' store other values, keep ids from 0 and list those values: {"id": 0, "name": "road", "values": [7]}.'
        )
    if num_classes is not None and num_classes != len(ids):
        raise UserError(f"{file} names {len(ids)} classes but num_classes is {num_classes}. Drop num_classes.")
    return legend


def _entries(document: Any) -> tuple[list[dict[str, Any]], int]:
    """Returns the entries, each with an id, and the ignore label, of all the forms a document may have."""
    if not isinstance(document, dict):
        document = {"classes": document}
    elif "classes" not in document:
        numbers = {key: value for key, value in document.items() if key.isdigit()}
        document = {**document, "classes": document.get("id2label") or numbers or document["classes"]}
    classes = document["classes"]
    if isinstance(classes, dict):
        if all(isinstance(v, int) for v in classes.values()):  # name -> id
            classes = {v: k for k, v in classes.items()}
        listed = [{"id": int(key), **_entry(value)} for key, value in classes.items()]
    else:
        listed = [{"id": i, **_entry(value)} for i, value in enumerate(classes)]
    if not listed:
        raise ValueError("it names no class")
    ignore = document.get("ignore")
    if ignore is None:
        ignore = 255 if len({int(e["id"]) for e in listed} - {255}) <= 255 else 65535
    return listed, int(ignore)


def _entry(value: Any) -> dict[str, Any]:
    return {"name": value} if isinstance(value, str) else dict(value)


def _legend(entries: list[dict[str, Any]], ignore: int) -> Legend:
    classes = sorted((e for e in entries if int(e["id"]) != ignore), key=lambda e: int(e["id"]))
    spare = palette_colors(len(classes))
    palette = tuple(tuple(int(v) for v in e.get("color", c)) for e, c in zip(classes, spare, strict=True))
    if any(len(color) != 3 or not all(0 <= v <= 255 for v in color) for color in palette):
        raise ValueError("a color is three numbers in 0..255")
    one = len(classes) == 1

    def label(entry: dict[str, Any]) -> int:
        return 1 if one and int(entry["id"]) != ignore else int(entry["id"])

    colored = [e for e in entries if "color" in e]
    colors = tuple((int(r) << 16 | int(g) << 8 | int(b), label(e)) for e in colored for r, g, b in [e["color"]])
    if len(dict(colors)) < len(colors):
        raise ValueError("two classes have one color")
    if one and colors and 0 not in dict(colors):
        colors += ((0, 0),)  # black is not of the class
    values = None
    if any("values" in e for e in entries):
        values = tuple((int(v), label(e)) for e in entries for v in e.get("values", [label(e)]))
        if len(dict(values)) < len(values):
            raise ValueError("two classes have one value")
        if one and 0 not in dict(values):
            values += ((0, 0),)
        if ignore not in dict(values):
            values += ((ignore, ignore),)
    return Legend(tuple(str(e["name"]) for e in classes), palette, ignore, values, colors)
