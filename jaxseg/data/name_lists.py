"""Lists of the images of a split: text files, a name a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxseg.checks import UserError, listing
from jaxseg.data.readers import IMAGE_SUFFIXES, opening
from jaxseg.files import read_text


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a list, stripped; raises a `UserError` if it is no text in UTF-8."""
    try:
        text = read_text(path, largest=2**28, encoding="utf-8-sig")  # of millions of names
    except ValueError as error:
        raise UserError(f"The list {path} does not read: {error}. Save it as text in UTF-8.") from None
    return [line.strip() for line in text.splitlines()]


def choose(files: dict[str, str], names: Sequence[str], split: str, images: Mapping[str, str]) -> dict[str, str]:
    """Returns the files that a list names, with or without folders and extension.

    Folders that a list names lie above the file, or it is another one: of equal names in several folders, the list's
    own would else be taken for that of another split. Raises a `UserError` for names that no file has, or several.

    Args:
      files: by name, images or labels.
      names: of the list.
      split: its name, for messages.
      images: by name; labels may lie in folders that none of these lies in.
    """
    short: dict[str, list[str]] = {}
    for key in files:
        short.setdefault(key.rpartition("/")[2], []).append(key)
    chosen, lost = {}, []
    for name in names:
        bare = name[: len(name) - len(opening.suffix(name))] if opening.suffix(name) in IMAGE_SUFFIXES else name
        # A file that is named whole is not looked for: of 10,000 folders with an `image.png` each, that took 43 s.
        found = [bare] if bare in files else _find(bare, short.get(bare.rpartition("/")[2], []), images)
        if len(found) > 1:
            raise UserError(
                f"The list of split '{split}' names '{name}', and there are {len(found)} such files:"
                f" {listing([files[key] for key in found])}. Write their folders into the list."
            )
        if not found:
            lost.append(name)
        else:
            chosen[found[0]] = files[found[0]]
    if lost:
        where = Path(next(iter(files.values()))).parent
        raise UserError(f"{len(lost)} names of the list of split '{split}' have no file in {where}: {listing(lost)}.")
    return chosen


def _find(bare: str, alike: Sequence[str], images: Mapping[str, str]) -> Sequence[str]:
    """Returns those of the names with the same last part that a name of a list can mean."""
    below = [key for key in alike if f"/{key}".endswith(f"/{bare}")]
    # Of what the list says beside the folders that are there, the file that most of it fits.
    above = sorted((key for key in alike if bare.endswith(f"/{key}")), key=len)[-1:]
    return below or above or [key for key in alike if len(alike) == 1 and key not in images]
