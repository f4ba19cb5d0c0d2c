"""Pairing what can be paired of a folder whose images and labels do not match, to say all that is wrong at once."""

import dataclasses
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.data import pairs, readers
from jaxseg.data.check import Problem
from jaxseg.data.dataset import Source
from jaxseg.data.folder import Folder
from jaxseg.data.pairs import Layout, Pair
from jaxseg.data.readers import opening


@dataclasses.dataclass(frozen=True)
class Matched:
    """The files of a split: these pairs, see `jaxseg.data.folder.Files`."""

    matched: tuple[Pair, ...]

    def pairs(self, split: str) -> tuple[Pair, ...]:
        """Returns every record."""
        return self.matched


def matching(source: Source) -> tuple[Source | None, list[Problem]]:
    """Returns a source of the records that are right, None where nothing is known of it, and what is wrong.

    Args:
      source: a split of the data set `folder`, as `create_dataset` returns it, that cannot list its records.
    """
    inner = getattr(source, "source", None)
    layout = inner.layout if isinstance(inner, Folder) else None
    if not isinstance(layout, Layout) or layout.lists or layout.division:
        return None, []
    found, problems = match(layout, inner.split)
    return dataclasses.replace(source, source=dataclasses.replace(inner, layout=Matched(found))), problems


def match(layout: Layout, split: str) -> tuple[tuple[Pair, ...], list[Problem]]:
    """Returns the pairs of a split whose files are one image and one label, and what is wrong with the others."""
    folders = layout.folders(split)
    problems: list[Problem] = []
    images = _files(folders[0], "images", layout.image_suffix, folders[1], layout.label_suffix, problems)
    labels = _files(folders[1], "labels", layout.label_suffix, folders[0], layout.image_suffix, problems)
    for name in {n for files in (images, labels) for n, several in files.items() if len(several) > 1}:
        images.pop(name, None), labels.pop(name, None)  # its other one is not alone
    images, labels = ({name: several[0] for name, several in files.items()} for files in (images, labels))
    if images and labels:
        both = images.keys() & labels.keys()
        again = both and images.keys() - labels.keys()  # the first call does not come to labels without an image then
        for paired in (images, {key: images[key] for key in both}) if again else (images,):
            try:
                pairs.check_pairs(paired, labels, folders)
            except UserError as error:
                problems.append(Problem(str(folders[0]), str(error)))
        suffixes = {} if both else pairs.suggest_suffixes(list(images), list(labels))
        if suffixes:  # which the error has named
            return match(dataclasses.replace(layout, **suffixes), split)[0], problems
    found: list[Pair] = []
    for key in sorted(images.keys() & labels.keys()):
        try:
            count = pairs.check_pages(images[key], labels[key])
        except UserError as error:
            problems.append(Problem(images[key], str(error)))
            continue
        if count == 1:
            found.append(Pair(key, images[key], labels[key]))
        else:
            found += [Pair(readers.page_name(key, i, count), images[key], labels[key], i) for i in range(count)]
    return tuple(found), problems


def _files(
    where: Path, kind: str, ending: str, other: Path, other_ending: str, problems: list[Problem]
) -> dict[str, list[str]]:
    """name -> files, of which there should be one; what is wrong joins `problems`."""
    if not where.is_dir():
        problems.append(Problem(str(where), f"There is no folder {where}. Put the split's {kind} there."))
        return {}
    known = pairs.IMAGES if kind == "images" else pairs.LABELS
    files: dict[str, list[str]] = {}
    for file in pairs.walk(where):
        stem = opening.stem(file)
        if where == other and (not stem.endswith(ending) or (other_ending and stem.endswith(other_ending))):
            continue
        if kind == "labels" and opening.suffix(file) in (".jpg", ".jpeg") and stem.endswith(ending):
            problems.append(
                Problem(str(file), f"{file} is a JPEG, whose compression invents labels. Save labels as PNG.")
            )
        if opening.suffix(file) in known and stem.endswith(ending):
            name = (file.parent.relative_to(where) / stem[: len(stem) - len(ending)]).as_posix()
            files.setdefault(name, []).append(str(file))
    for several in files.values():
        if len(several) > 1:
            problems.append(
                Problem(several[0], f"Several {kind} have one name: {', '.join(several)}. Keep one of them.")
            )
    if not files:
        problems.append(Problem(str(where), f"No {kind} in {where}: expected files ending in {' '.join(known)}."))
    return files
