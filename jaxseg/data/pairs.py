"""Finding the images and labels of a folder, pairing them by name, and dividing them into splits."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxseg.checks import UserError, listing
from jaxseg.data import readers
from jaxseg.data.name_lists import choose, read_lines
from jaxseg.data.readers import opening
from jaxseg.data.volumes import check_place

IMAGES, LABELS = readers.IMAGE_SUFFIXES, readers.LABEL_SUFFIXES
SEPARATORS = "_-. "
VOLUMES = (".nii", ".nii.gz")  # of files that say where they lie in the patient


@dataclasses.dataclass(frozen=True)
class Pair:
    """A record: its name, files, and the page of the files, None where they have one."""

    name: str
    image: str
    label: str
    page: int | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How files lie under `root`; the arguments are those of `folder`.

    Without `{split}` in them, `images` and `labels` are folders of each split, `root/SPLIT/images`; with lists or a
    division they are folders of `root`.
    """

    root: Path
    images: str = "images"
    labels: str = "labels"
    image_suffix: str = ""
    label_suffix: str = ""
    lists: str | tuple[tuple[str, str], ...] = ""
    division: tuple[tuple[str, float], ...] = ()
    group: str = ""
    seed: int = 0

    def splits(self) -> tuple[str, ...]:
        """Returns the names of the splits, in order."""
        if not isinstance(self.lists, str):
            return tuple(name for name, _ in self.lists)
        if self.lists:
            return self._matching(self.lists)
        if self.division:
            return tuple(name for name, _ in self.division)
        found = {
            *self._matching(self.images if "{split}" in self.images else f"{{split}}/{self.images}"),
            *self._matching(self.labels if "{split}" in self.labels else f"{{split}}/{self.labels}"),
        }
        return tuple(sorted(found))

    def folders(self, split: str) -> tuple[Path, Path]:
        """Returns the folders of a split's images and labels."""
        flat = bool(self.lists or self.division)
        parts = [p if "{split}" in p or flat else f"{{split}}/{p}" for p in (self.images, self.labels)]
        return self.root / parts[0].replace("{split}", split), self.root / parts[1].replace("{split}", split)

    def all_images(self) -> Iterator[str]:
        """Yields the images of all splits, one of which says what the bands are."""
        for split in self.splits():
            where, labels = self.folders(split)
            for file in walk(where):
                stem = opening.stem(file)
                is_label = where == labels and self.label_suffix and stem.endswith(self.label_suffix)
                if opening.suffix(file) in IMAGES and stem.endswith(self.image_suffix) and not is_label:
                    yield str(file)

    def pairs(self, split: str) -> tuple[Pair, ...]:
        """Returns the records of a split, sorted by name; raises a `UserError` where one of a pair is missing."""
        pairs = self._pair(split)
        if self.group and not self.division:
            self._check_groups(split, pairs)
        pairs = _pages(pairs)
        names = [pair.name.rpartition("/")[2] for pair in pairs]
        if len(set(names)) < len(names):
            names = [pair.name.replace("/", "_") for pair in pairs]
        return tuple(dataclasses.replace(p, name=name) for p, name in zip(pairs, names, strict=True))

    def _pair(self, split: str) -> list[Pair]:
        where = self.folders(split)
        images = list_files(where[0], "images", split, self.image_suffix, where[1], self.label_suffix)
        labels = list_files(where[1], "labels", split, self.label_suffix, where[0], self.image_suffix)
        if self.lists:
            names = self._listed(split)
            images, labels = (choose(files, names, split, images) for files in (images, labels))
        if images.keys() != labels.keys():
            short = [{key.rpartition("/")[2]: f for key, f in files.items()} for files in (images, labels)]
            if len(short[0]) == len(images) and len(short[1]) == len(labels) and short[0].keys() == short[1].keys():
                labels = {key: short[1][key.rpartition("/")[2]] for key in images}
        check_pairs(images, labels, where)
        pairs = [Pair(key, images[key], labels[key]) for key in sorted(images)]
        return self._divide(pairs, split) if self.division and not self.lists else pairs

    def _check_groups(self, split: str, pairs: Sequence[Pair]) -> None:
        """Raises a `UserError` if images of one group are in this split and in another, which is given as it is."""
        own = {self._group(pair.name) for pair in pairs}
        for other in self.splits():
            if other == split:
                continue
            try:
                names = [pair.name for pair in self._pair(other)]
            except UserError:  # which is said where that split is read
                continue
            shared = sorted(own & {self._group(name) for name in names})
            if shared:
                raise UserError(
                    f"The splits '{split}' and '{other}' both have images of {listing(shared)}, which"
                    f" group={self.group!r} keeps together: scores on what was trained on say little. Move all images"
                    " of each to one split, or let data.options.split divide them."
                )

    def _matching(self, pattern: str) -> tuple[str, ...]:
        """The names for which the pattern, with {split} in it, is a path under the root."""
        if "{split}" not in pattern:
            raise UserError(
                f"'{pattern}' needs '{{split}}' where the name of the split stands, as in lists/{{split}}.txt."
            )
        before, _, after = os.path.normpath(pattern).replace(os.sep, "/").partition("{split}")
        found = []
        for path in self.root.glob(before + "*" + after.replace("{split}", "*")):
            relative = path.relative_to(self.root).as_posix()
            match = re.fullmatch(
                re.escape(before) + "([^/]+)" + re.escape(after).replace(r"\{split\}", r"\1"), relative
            )
            hidden = match and match[1].startswith(".")
            if match and not hidden and (path.is_dir() or "." in after):
                found.append(match[1])
        return tuple(sorted(set(found)))

    def _listed(self, split: str) -> list[str]:
        """The names in the list of a split: a line each, its first word where there are several."""
        paths = {} if isinstance(self.lists, str) else dict(self.lists)
        path = self.root / (paths.get(split) or str(self.lists).replace("{split}", split))
        if not path.is_file():
            raise UserError(f"The list {path} of split '{split}' does not exist.")
        names = []
        for line in read_lines(path):
            if line and not line.startswith("#"):
                word = line if opening.suffix(line.split()[0]) not in IMAGES else line.split()[0]
                names.append(word)
        if not names:
            raise UserError(f"The list {path} of split '{split}' names nothing.")
        return names

    def _divide(self, pairs: Sequence[Pair], split: str) -> list[Pair]:
        """The pairs of one of the splits of `division`; those of one group stay together.

        Groups are ordered by a hash of the seed and the group's name, so that files added later move few others.
        """
        groups: dict[str, list[Pair]] = {}
        for pair in pairs:
            groups.setdefault(self._group(pair.name), []).append(pair)
        order = sorted(groups, key=lambda g: hashlib.sha256(f"{self.seed}:{g}".encode()).digest())
        if len(order) < len(self.division):
            raise UserError(
                f"{len(pairs)} images in {len(order)} group{'s' if len(order) > 1 else ''} cannot be divided into"
                f" {len(self.division)} splits: expected a group for each."
            )
        total = sum(share for _, share in self.division)
        ends, chosen, done, turn = [], [], 0, 0
        for _, share in self.division:
            ends.append((ends[-1] if ends else 0) + share / total * len(pairs))
        for i, group in enumerate(order):
            left = len(self.division) - 1 - turn
            full = done + len(groups[group]) / 2 > ends[turn] and any(self.division[turn][0] == c for c, _ in chosen)
            if turn < len(self.division) - 1 and (full or len(order) - i <= left):
                turn += 1
            chosen.append((self.division[turn][0], group))
            done += len(groups[group])
        kept = {group for name, group in chosen if name == split}
        return [pair for pair in pairs if self._group(pair.name) in kept]

    def _group(self, name: str) -> str:
        if not self.group:
            return name
        match = re.search(self.group, name)
        found = match and match[1 if match.re.groups else 0]
        if found is None:  # or its group, which may be left out, is
            raise UserError(f"group={self.group!r} does not match the name '{name}'. It must match every image's name.")
        return found


def walk(where: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """Returns the files in a folder and those below, sorted, without hidden ones; links are followed, once each.

    Args:
      where: the folder.
      on_error: gets the error of a folder that may not be listed; None raises a `UserError`.
    """
    files, seen = [], set()
    for folder, below, names in os.walk(where, followlinks=True, onerror=on_error or _refuse_folder):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        names = [*names, *(name for name in below if opening.suffix(name) == opening.FOLDER)]  # which are images
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in names)
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(files)


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"The folder {error.filename} may not be listed: {error.strerror}. Mend its permissions.")


def list_files(where: Path, kind: str, split: str, ending: str, other: Path, other_ending: str) -> dict[str, str]:
    """Returns name -> file of the images or labels in a folder; names have no extension and not the `ending`.

    Where the other kind lies in the same folder, files with its ending are left out.
    """
    if not where.is_dir():
        raise UserError(f"Split '{split}' has no folder {where}. Put the split's {kind} there.")
    extensions = IMAGES if kind == "images" else LABELS
    files: dict[str, str] = {}
    others = []
    for file in walk(where):
        stem = opening.stem(file)
        if where == other and (not stem.endswith(ending) or (other_ending and stem.endswith(other_ending))):
            continue
        if kind == "labels" and opening.suffix(file) in (".jpg", ".jpeg") and stem.endswith(ending):
            raise UserError(f"{file} is a JPEG, whose compression invents labels. Save labels as PNG.")
        if opening.suffix(file) not in extensions or not stem.endswith(ending):
            others.append(file.name)
            continue
        name = (file.parent.relative_to(where) / stem[: len(stem) - len(ending)]).as_posix()
        if name in files:
            raise UserError(f"Two {kind} have one name: {files[name]} and {file}. Keep one of them.")
        files[name] = str(file)
    if not files:
        found = f", found {listing(others)}" if others else ""
        called = f" and named *{ending}" if ending else ""
        raise UserError(f"No {kind} in {where}: expected files ending in {' '.join(extensions)}{called}{found}.")
    return files


def check_pairs(images: Mapping[str, str], labels: Mapping[str, str], where: tuple[Path, Path]) -> None:
    """Raises a `UserError` if an image has no label, or a label no image."""
    for have, lack, what, place in (
        (images, labels, "images have no label", where[1]),
        (labels, images, "labels have no image", where[0]),
    ):
        alone = sorted(have.keys() - lack.keys())
        if alone:
            suffixes = suggest_suffixes(list(images), list(labels))
            options = ", ".join(f'data.options.{key}="{value}"' for key, value in suffixes.items())
            hint = f" The names would pair with {options}." if suffixes else ""
            raise UserError(
                f"{len(alone)} {what}: {listing([have[name] for name in alone])}. Each needs a file of the same"
                f" name (the extension may differ) in {place}; add it, or remove these.{hint}"
            )


def suggest_suffixes(images: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Returns the options with which the names would pair; empty if there are none.

    >>> suggest_suffixes(["p0", "p1"], ["p0_mask", "p1_mask"])
    {'label_suffix': '_mask'}
    """
    images, labels = ([name.rpartition("/")[2] for name in names] for names in (images, labels))
    if set(images) == set(labels):
        return {}
    ends = [_common_ending(names) for names in (images, labels)]
    for image_end, label_end in (("", ends[1]), (ends[0], ""), (ends[0], ends[1])):
        cut = [{n[: len(n) - len(e)] for n in names} for names, e in ((images, image_end), (labels, label_end))]
        if cut[0] == cut[1]:
            return {k: v for k, v in (("image_suffix", image_end), ("label_suffix", label_end)) if v}
    return {}


def _common_ending(names: Sequence[str]) -> str:
    """The longest ending that all names have and that begins with a separator; of one name, its last part."""
    shortest, ending = min(names, key=len), names[0]
    if len(names) > 1:
        alike = (n for n in range(len(shortest), 0, -1) if all(name.endswith(shortest[-n:]) for name in names))
        ending = shortest[len(shortest) - next(alike, 0) :]
    starts = [i for i, letter in enumerate(ending) if letter in SEPARATORS]
    if not starts:
        return ""
    return ending[starts[0] if len(names) > 1 else starts[-1] :]


def _pages(pairs: Sequence[Pair]) -> list[Pair]:
    """One record a page; image and label have equally many."""
    listed = []
    for pair in pairs:
        count = check_pages(pair.image, pair.label)
        if count == 1:
            listed.append(pair)
        else:
            names = [readers.page_name(pair.name, page, count) for page in range(count)]
            listed += [Pair(name, pair.image, pair.label, page) for page, name in enumerate(names)]
    return listed


def check_pages(image: str, label: str) -> int:
    """Returns how many pages an image has; raises a `UserError` if its label has others, or lies elsewhere."""
    count, labels = readers.pages(image), readers.pages(label, label=True)
    if count != labels:
        raise UserError(
            f"{image} holds {count} page{'s' if count > 1 else ''}, but its label {label} {labels}. Expected a page of"
            " the label for each of the image. Save bands of one image as its samples, not as pages."
        )
    if opening.suffix(image) in VOLUMES and opening.suffix(label) in VOLUMES:
        check_place(image, label)
    return count
