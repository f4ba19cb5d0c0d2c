"""Looking at a split: what its files hold, pixel by pixel, and which of them do not read. Nothing is printed here.

`look` reads records and returns a `Look`; `jaxseg.data.verdict` says what follows from it.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer, Num

from jaxseg.checks import UserError
from jaxseg.data import readers
from jaxseg.data.bands import Bands, empty_pixels
from jaxseg.data.dataset import Dataset, Source
from jaxseg.data.labels import count_values
from jaxseg.data.pairs import Pair
from jaxseg.data.pipeline import count_threads
from jaxseg.data.readers import geo
from jaxseg.data.statistics import IMAGES, PIXELS

Size = tuple[int, int]  # height, width
Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # (results, how many there will be) -> results


@dataclasses.dataclass(frozen=True)
class Problem:
    """A file, or several, that are not as they must be: where, and a sentence that says what and how to mend it."""

    where: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one record holds.

    Args:
      index: in its split.
      name: of the record.
      size: of the image.
      lows: the least value of each band, less those that hold nothing.
      highs: the greatest.
      counts: pixels of each label, the ignored ones last.
      inner: those of them whose four neighbors have the same label; None if they were not counted.
      digest: of the image's pixels; equal ones are the same image.
      turned: whether EXIF turns the image, and whether it turns the label; None where files do not say.
      dropped: whether the image has transparency that is dropped.
      masked: whether its file has a mask that is not used.
      scaling: (scale, offset) of each band that is used, which the image's file says and which are not applied.
      proposed: the range of values that the file proposes to show.
      nodata: the value that, as the file says, holds nothing.
      affine: of the volume that the image is a slice of, where it says how it lies.
      names: of the image's bands that are used, as the file has them; empty where that is not known.
      places: where image and label lie, by their files; None where one does not say, or rasterio is missing.
      unheeded: label -> pixels that hold nothing, as the label's file says, and that count as this label all the same.
      sample: pixels [n, c] of the image, of some records.
    """

    index: int
    name: str
    size: Size
    lows: Num[np.ndarray, " c"]
    highs: Num[np.ndarray, " c"]
    counts: Integer[np.ndarray, " l"]
    inner: Integer[np.ndarray, " l"] | None = None
    digest: bytes = b""
    turned: tuple[bool, bool] | None = None
    dropped: bool = False
    masked: bool = False
    scaling: tuple[tuple[float, float], ...] = ()
    proposed: tuple[float, float] | None = None
    nodata: float | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    names: tuple[str, ...] = ()
    places: tuple[geo.Georeference | None, geo.Georeference | None] = (None, None)
    unheeded: Mapping[int, int] = dataclasses.field(default_factory=dict)
    sample: Num[np.ndarray, "n c"] | None = None

    @property
    def labels(self) -> list[int]:
        """The labels that occur; the number of labels stands for the ignore label."""
        return np.flatnonzero(self.counts).tolist()


@dataclasses.dataclass
class Look:
    """What was seen of a split.

    Args:
      split: its name.
      records: how many it has.
      bands: of its images.
      facts: of the records that were read, in order.
      problems: of the files that do not read or do not pair.
      stacks: files of several pages, and how many.
      whole: whether all records were looked at.
      unread: (size, type, bands) -> images, by their headers, of records that do not read.
      source: the records.
    """

    split: str
    records: int
    bands: Bands
    facts: list[Facts]
    problems: list[Problem] = dataclasses.field(default_factory=list)
    stacks: dict[str, int] = dataclasses.field(default_factory=dict)
    whole: bool = True
    unread: collections.Counter[tuple[Size, str, int]] = dataclasses.field(default_factory=collections.Counter)
    source: Source | None = None

    @property
    def affines(self) -> list[tuple[tuple[float, ...], ...]]:
        """Of the images that are slices of volumes."""
        return [fact.affine for fact in self.facts if fact.affine is not None]

    @property
    def sizes(self) -> collections.Counter[Size]:
        """(height, width) -> images."""
        return collections.Counter(fact.size for fact in self.facts)

    @property
    def counts(self) -> Integer[np.ndarray, " l"]:
        """Pixels of each label, the ignored ones last."""
        return np.sum([fact.counts for fact in self.facts], axis=0, dtype=np.int64)

    @property
    def images_with(self) -> Integer[np.ndarray, " l"]:
        """Images that have each label, the ignored one last."""
        return np.sum([fact.counts > 0 for fact in self.facts], axis=0, dtype=np.int64)

    @property
    def pixels_with(self) -> Integer[np.ndarray, " l"]:
        """Pixels that count of the images that have each label."""
        return np.sum([(fact.counts > 0) * fact.counts[:-1].sum() for fact in self.facts], axis=0, dtype=np.int64)

    @property
    def found(self) -> set[int]:
        """The labels that occur; the number of labels stands for the ignore label."""
        return set(np.flatnonzero(self.counts).tolist()) if self.facts else set()

    @property
    def used(self) -> tuple[Num[np.ndarray, " c"], Num[np.ndarray, " c"]]:
        """The least and the greatest stored value of each band."""
        return np.min([f.lows for f in self.facts], 0), np.max([f.highs for f in self.facts], 0)

    @property
    def samples(self) -> list[Num[np.ndarray, "n 1 c"]]:
        """Pixels of images that are spread over the split, for `jaxseg.data.statistics`."""
        return [fact.sample[:, None] for fact in self.facts if fact.sample is not None]


def look(dataset: Dataset, split: str, *, threads: int = 0, progress: Progress = lambda facts, _: facts) -> Look:
    """Reads every record of a split and returns what was seen; what does not read is one of its problems.

    Args:
      dataset: as `create_dataset` returns it.
      split: the name of one of its splits.
      threads: that read; 0 is one per core.
      progress: shows how far it is: (results, how many there will be) -> the results.
    """
    source, problems = dataset.splits[split], []
    try:
        records = len(source)
    except UserError as error:
        from jaxseg.data.matching import matching

        source, lost = matching(source)
        problems = lost or [Problem(split, str(error))]
        records = 0 if source is None else len(source)
    seen = Look(split, records, dataset.bands, [], problems, source=source)
    sampled = set(np.linspace(0, records - 1, min(IMAGES, records)).round().astype(int).tolist())

    def read(index: int) -> Facts | tuple[Problem, tuple[Size, str, int] | None]:
        try:
            return facts_of(dataset, source, index, sample=index in sampled, thorough=True)
        except UserError as error:
            return _failed(source, index, error, split)

    pool = concurrent.futures.ThreadPoolExecutor(count_threads(threads))
    try:
        for fact in progress(_ahead(pool, read, range(records), 4 * count_threads(threads)), records):
            if isinstance(fact, Facts):
                seen.facts.append(fact)
            else:
                problem, known = fact
                seen.problems.append(problem)
                seen.unread.update([known] if known else [])
    finally:
        pool.shutdown(cancel_futures=True)
    for pair in pairs_of(source):
        if pair.page is not None:
            seen.stacks[pair.image] = seen.stacks.get(pair.image, 0) + 1
    return seen


def _failed(source: Source, index: int, error: UserError, split: str) -> tuple[Problem, tuple[Size, str, int] | None]:
    """The problem of a record, and what the header of its image says, if that reads."""
    if (pair := pair_of(source, index)) is None:
        return Problem(split, str(error)), None
    problem = Problem(pair.label if pair.label in str(error) else pair.image, str(error))
    try:
        known = readers.header(pair.image)
    except UserError:
        return problem, None
    return problem, ((known.height, known.width), known.dtype, known.bands)


def facts_of(dataset: Dataset, source: Source, index: int, *, sample: bool = False, thorough: bool = False) -> Facts:
    """Reads a record and returns what it holds; one that does not read raises a `UserError`.

    Args:
      dataset: that the source belongs to.
      source: the records.
      index: of the record.
      sample: whether to keep pixels of it.
      thorough: whether to count inner pixels and to compute the digest.
    """
    record = source[index]
    image, label, bands = record["image"], record["label"], dataset.bands
    bands.check(image, record["name"])
    counts = _count(label, dataset)
    if (empty := empty_pixels(bands, image)) is not None:  # these are ignored in training
        lost = _count(label[empty], dataset)
        counts = counts - lost
        counts[-1] += lost.sum()
    seen = np.where(False if empty is None else empty, dataset.ignore, label)
    pair = pair_of(source, index)
    known = None if pair is None else (readers.header(pair.image), readers.header(pair.label, label=True))
    flat = image.reshape(-1, bands.count)
    return Facts(
        index,
        str(record["name"]),
        label.shape,
        *_range(flat, bands),
        counts,
        inner=_inner(label, dataset) if thorough else None,
        digest=hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() if thorough else b"",
        turned=None if known is None else (known[0].turned, known[1].turned),
        dropped=known is not None and "alpha" in known[0].stored and "alpha" not in bands.names,
        masked=known is not None and known[0].masked,
        scaling=() if known is None else known[0].scaling_of(chosen_of(source)),
        proposed=None if known is None else known[0].window,
        nodata=None if known is None else known[0].nodata,
        affine=None if known is None else known[0].affine,
        names=() if known is None else known[0].names_of(chosen_of(source)),
        places=_places(pair) if pair is not None and thorough else (None, None),
        unheeded=_unheeded(pair, known[1].nodata, seen, dataset) if known is not None and thorough else {},
        sample=flat[:: max(1, len(flat) // PIXELS)].copy() if sample else None,
    )


def _places(pair: Pair) -> tuple[geo.Georeference | None, geo.Georeference | None]:
    """Where image and label lie; pages of a stack may be of one place at several times, and are not asked."""
    return (None, None) if pair.page is not None else (geo.place_of(pair.image), geo.place_of(pair.label))


def _unheeded(pair: Pair, nodata: float | None, label: Integer[np.ndarray, "h w"], dataset: Dataset) -> dict[int, int]:
    """Pixels of each label where the label's file has the value that holds nothing, as it says itself."""
    if nodata is None:
        return {}
    values = readers.read_label(pair.label, page=pair.page or 0)
    if values.shape != label.shape:  # colors
        return {}
    found, numbers = np.unique(label[values == nodata], return_counts=True)
    return {int(n): int(count) for n, count in zip(found, numbers, strict=True) if n != dataset.ignore}


def _count(label: Integer[np.ndarray, "..."], dataset: Dataset) -> Integer[np.ndarray, " l"]:
    """Pixels of each label, the ignored ones last."""
    found, numbers = count_values(label)
    counts = np.zeros(dataset.num_labels + 1, np.int64)
    counts[np.where(found == dataset.ignore, dataset.num_labels, found)] = numbers
    return counts


def _inner(label: Integer[np.ndarray, "h w"], dataset: Dataset) -> Integer[np.ndarray, " l"]:
    """Pixels of each label whose four neighbors have it too."""
    middle = label[1:-1, 1:-1]
    neighbors = (label[:-2, 1:-1], label[2:, 1:-1], label[1:-1, :-2], label[1:-1, 2:])
    edge = neighbors[0] != middle
    for other in neighbors[1:]:
        edge |= other != middle
    return _count(np.ascontiguousarray(middle), dataset) - _count(middle[edge], dataset)  # edges are few: faster


def _range(flat: Num[np.ndarray, "n c"], bands: Bands) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each band; nan where it holds nothing."""
    if bands.nodata is None and bands.dtype != "float32":
        columns = [flat[:, i] for i in range(bands.count)]  # each by itself: faster
        return tuple(np.array([end(column) for column in columns], np.float64) for end in (np.min, np.max))
    empty = np.asarray(bands.empty(flat))
    low, high = (np.where(empty, bound, flat).astype(np.float64) for bound in (np.inf, -np.inf))
    return low.min(0), high.max(0)


def pairs_of(source: Source | None) -> Sequence[Pair]:
    """Returns the files of each record, where the source, or what it wraps, is of files; else nothing."""
    files = _files_of(source)
    return () if files is None else files.pairs


def chosen_of(source: Source | None) -> tuple[int, ...] | None:
    """Returns the numbers of the stored bands that a source of files reads, None for all."""
    return getattr(_files_of(source), "chosen", None)


def _files_of(source: Source | None) -> Any:
    """The source, or what it wraps, that is of files; None where none is."""
    while source is not None and not hasattr(source, "pairs"):
        source = getattr(source, "source", None)
    return source


def pair_of(source: Source | None, index: int) -> Pair | None:
    """Returns the files of a record, None where they are not known."""
    pairs = pairs_of(source)
    return pairs[index] if index < len(pairs) else None


def _ahead(
    pool: concurrent.futures.ThreadPoolExecutor, function: Callable[[int], Any], items: Sequence[int], ahead: int
) -> Iterator[Any]:
    """Yields the results in order, with at most `ahead` of them on the way: memory stays flat."""
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
