"""What data a run is of, as dataset.json holds it, and what tells it from other data."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from jaxseg.checks import listing
from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.files import plain, short

# What the digests of a split are of, and how it is said that two of them differ.
DIGESTS = {
    "names": "other names of images",
    "sizes": "files of other sizes",
    "sample": "files with other content, of those that were looked into",
}


@dataclasses.dataclass(frozen=True)
class Difference:
    """One thing that data is not as dataset.json has it.

    Args:
      text: what it is there and here.
      fatal: whether the model of the run can't take it.
    """

    text: str
    fatal: bool = False


def describe_data(
    dataset: Dataset, splits: Iterable[str], preprocessing: Preprocessing | None = None
) -> dict[str, Any]:
    """Returns what dataset.json holds: what labels and bands mean, and digests of the splits that are read.

    Args:
      dataset: of the run.
      splits: names of those of its splits that the run reads.
      preprocessing: what is done to its images, if that is known.
    """
    found = {
        "name": dataset.name,
        "classes": dataset.classes,
        "palette": [list(map(int, color)) for color in dataset.palette],
        "ignore": dataset.ignore,
        "values": dataset.values,
        "bands": dataset.bands.to_json(),
        "splits": {split: _describe_split(dataset.splits[split]) for split in dict.fromkeys(splits)},
        **({"preprocessing": preprocessing.to_json()} if preprocessing else {}),
    }
    return json.loads(json.dumps(found))  # lists for tuples, as it is read again


def _describe_split(source: Any) -> dict[str, Any]:
    identity = getattr(source, "identity", None)
    return {"count": len(source), **(identity() if identity else {})}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Difference]:
    """Returns what differs between a dataset.json and the data at hand; what one of the two does not say is equal.

    >>> there = {"classes": ["a", "b"], "splits": {"val": {"count": 40}}}
    >>> for found in differences(there, {"classes": ["b", "a"], "splits": {"val": {"count": 20}}}):
    ...     print(found.text)
    classes: the same in another order, a, b there; b, a here
    split 'val': 40 images there, 20 here
    """
    found = [
        *_classes(*(_strings(data.get("classes")) for data in (there, here))),
        *_bands(*(data.get("bands") for data in (there, here))),
    ]
    found += [
        Difference(f"{what}: {short(there[key])} there, {short(here[key])} here")
        for key, what in (("ignore", "ignore label"), ("values", "values of the classes in label files"))
        if key in there and key in here and there[key] != here[key]
    ]
    for split in [name for name in _object(there, "splits") if name in _object(here, "splits")]:
        found += _split(split, _object(there["splits"], split), here["splits"][split])
    return found


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object that a stranger's file may hold under a key."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _strings(value: Any) -> list[str]:
    return [plain(str(name)) for name in value] if isinstance(value, list | tuple) else []


def _classes(there: list[str], here: list[str]) -> Iterable[Difference]:
    if there == here or not there:
        return
    names = f"{listing(there, 6)} there; {listing(here, 6)} here"
    if len(there) != len(here):
        yield Difference(f"classes: {len(there)} there, {len(here)} here: {names}", fatal=True)
    elif sorted(there) == sorted(here):
        yield Difference(f"classes: the same in another order, {names}")
    else:
        yield Difference(f"classes: other names, {names}")


def _bands(there: Any, here: Any) -> Iterable[Difference]:
    """Window and percentiles are not among what is compared: they are settings, and the run has its own already."""
    if not isinstance(there, Mapping) or not here:
        return
    for key, what in (("names", "bands"), ("dtype", "type of the bands"), ("nodata", "nodata")):
        if key in there and there[key] != here[key]:
            yield Difference(f"{what}: {short(there[key])} there, {short(here[key])} here", fatal=key != "nodata")


def _split(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterable[Difference]:
    if there.get("count") != here["count"]:
        yield Difference(f"split '{name}': {short(there.get('count'))} images there, {here['count']} here")
        return
    other = [words for key, words in DIGESTS.items() if key in there and key in here and there[key] != here[key]]
    if other:
        yield Difference(f"split '{name}': as many images, {here['count']}, but {' and '.join(other)}")
