"""Input pipeline: shuffled, resumable batches of one shape for training, and a split in order for evaluation."""

import contextlib
import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer

from jaxseg.checks import UserError
from jaxseg.data.bands import FILL, RGB, Bands, ignore_empty, resize_bands
from jaxseg.data.dataset import Source
from jaxseg.data.labels import Relabeled
from jaxseg.data.resize import AS_STORED, Resize, resize_label

DEATHS, DEATHS_WITHIN = 3, 100  # so many deaths of worker processes in so many batches are borne


@dataclasses.dataclass(frozen=True)
class Loader:
    """Reads a record of training as a window of one size, the canvas; (index, random generator) -> image and label.

    The image is resized by the rule of the run. Of one that is then larger than the canvas, a window is cut at a
    random place; a smaller one is centered and padded with gray and the ignore label.

    Args:
      source: the records. If it has the methods `size(index)` and `read(index, window)`, only the window is read.
      canvas: (height, width) of the window, pixels.
      ignore: the label of padding, and of pixels that hold nothing.
      num_labels: the labels' other values are below it; one that is not raises a `UserError`.
      bands: of the images.
      resize: the run's rule.
      balance: probability that a window is centered on a pixel of a class that is drawn from those of the image, each
        with the same probability; else its place is uniform.
    """

    source: Source
    canvas: tuple[int, int]
    ignore: int
    num_labels: int
    bands: Bands = RGB
    resize: Resize = AS_STORED
    balance: float = 0.0

    def __call__(self, index: int, random: np.random.Generator) -> dict[str, np.ndarray]:
        if not self.resize and not self.balance and hasattr(self.source, "read"):
            size = self.source.size(index)
            if any(n > c for n, c in zip(size, self.canvas, strict=True)):
                top, left = self._place(size, random)
                height, width = (min(n, c) for n, c in zip(size, self.canvas, strict=True))
                return self._fit(self.source.read(index, window=(top, left, height, width)))
        record = self.source[index]
        stored = record["label"].shape
        size = self.resize(*stored)
        scale = tuple(n / s for n, s in zip(size, stored, strict=True))
        center = None
        if self.balance and random.random() < self.balance:
            image = self.bands.check(record["image"], record["name"])
            center = self._draw_pixel(ignore_empty(record["label"], image, self.bands, self.ignore), random)
        top, left = self._place(size, random, center and tuple(c * s for c, s in zip(center, scale, strict=True)))
        height, width = (min(n, c) for n, c in zip(size, self.canvas, strict=True))
        if size == stored:
            within = (slice(top, top + height), slice(left, left + width))
            return self._fit({**record, "image": record["image"][within], "label": record["label"][within]})
        box = (top / scale[0], left / scale[1], (top + height) / scale[0], (left + width) / scale[1])
        image = resize_bands(record["image"], (height, width), self.bands, box)
        return self._fit({**record, "image": image, "label": resize_label(record["label"], (height, width), box)})

    def _place(
        self, size: tuple[int, int], random: np.random.Generator, center: tuple[float, float] | None = None
    ) -> tuple[int, int]:
        """The top left corner of the window in an image of `size`."""
        room = [max(n - c, 0) for n, c in zip(size, self.canvas, strict=True)]
        if not any(room):  # no draw, so that images that fit cost none
            return 0, 0
        if center is None:
            return tuple(int(random.integers(r + 1)) for r in room)
        return tuple(min(max(round(at - c / 2), 0), r) for at, c, r in zip(center, self.canvas, room, strict=True))

    def _draw_pixel(self, label: Integer[np.ndarray, "h w"], random: np.random.Generator) -> tuple[float, float] | None:
        """The center of a pixel of a class drawn from those of the label; None where nothing counts."""
        classes = np.unique(label)
        classes = classes[classes != self.ignore]
        if not classes.size:
            return None
        places = np.flatnonzero(label == random.choice(classes))
        y, x = divmod(int(random.choice(places)), label.shape[1])
        return y + 0.5, x + 0.5

    @functools.cached_property
    def _is_relabeled(self) -> bool:
        """Whether the source itself lets only these labels through, so that they need not be looked at again."""
        return (
            isinstance(self.source, Relabeled)
            and self.source.ignore == self.ignore
            and max(self.source.num_classes, 2) <= self.num_labels
        )

    def _fit(self, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Image and label of a record, which is at most as large as the canvas, at its size."""
        image, label = self.bands.check(record["image"], record["name"]), record["label"]
        if not self._is_relabeled and (
            label.dtype not in (np.uint8, np.uint16) or ((label >= self.num_labels) & (label != self.ignore)).any()
        ):
            raise UserError(
                f"The label of '{record['name']}' is {label.dtype} with values up to {label.max()}, expected uint8 or"
                f" uint16 below {self.num_labels} or {self.ignore}. Build the data set with"
                " jaxseg.data.create_dataset, which relabels."
            )
        label = ignore_empty(label, image, self.bands, self.ignore)
        if label.shape == self.canvas:
            return {"image": image, "label": label}
        top, left = ((c - n) // 2 for c, n in zip(self.canvas, label.shape, strict=True))
        within = (slice(top, top + label.shape[0]), slice(left, left + label.shape[1]))
        fitted = {
            "image": np.full((*self.canvas, self.bands.count), self.bands.stored(FILL), image.dtype),
            "label": np.full(self.canvas, self.ignore, label.dtype),
        }
        fitted["image"][within], fitted["label"][within] = image, label
        return fitted


def train_iterator(
    source: Source,
    *,
    canvas: tuple[int, int],
    batch_size: int,
    seed: int,
    ignore: int,
    num_labels: int,
    bands: Bands = RGB,
    resize: Resize = AS_STORED,
    balance: float = 0.0,
    workers: int = 0,
    threads: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> "TrainIterator":
    """Returns endless batches of `source`, in a new order every epoch, prepared ahead of their use.

    The order and the places of windows are functions of `seed` alone. All processes of a run go through one order,
    each takes its part of every step's images, and the parts one after the other are what one process alone would take:
    a run may go on with another number of processes. Together they see each image once an epoch; a batch may span the
    end of an epoch and no image is dropped.

    Args:
      source: the records; labels are class ids or `ignore`, uint8 or uint16.
      canvas: (height, width) of the window of every image, pixels.
      batch_size: images per batch, of this process.
      seed: of the order and the places, any integer >= 0.
      ignore: the label of padding.
      num_labels: see `Loader`, as for `bands`, `resize` and `balance`.
      bands: of the images.
      resize: the run's rule.
      balance: of the places.
      workers: processes that decode; 0 decodes in threads.
      threads: that decode; 0 is one per core.
      shard: (index, count) of this process among those of the run.
    """
    if len(source) == 0:
        raise UserError("There is no image to train on: the training split is empty.")
    if batch_size < 1 or min(canvas) < 1 or workers < 0 or threads < 0 or not 0 <= balance <= 1:
        raise UserError(
            f"Expected batch_size, canvas >= 1, workers, threads >= 0 and balance from 0 to 1, got {batch_size=},"
            f" {canvas=}, {workers=}, {threads=}, {balance=}."
        )
    loader = Loader(source, tuple(canvas), ignore, num_labels, bands, resize, balance)
    return TrainIterator(loader, batch_size, seed, workers, count_threads(threads), shard)


def count_threads(threads: int) -> int:
    """Returns `threads`, or the number of cores that this process may use, if it is 0."""
    if threads:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TrainIterator:
    """Endless batches {"image": [b, h, w, c], "label": [b, h, w]}, as stored; see `train_iterator`.

    The position is the number of batches delivered, `{"next_index": n}`; it does not depend on `workers`.
    """

    def __init__(self, loader: Loader, batch_size: int, seed: int, workers: int, threads: int, shard: tuple[int, int]):
        import atexit
        import weakref

        import grain

        order, places = map(int, np.random.SeedSequence(seed).generate_state(2))
        records = grain.MapDataset.range(len(loader.source)).shuffle(seed=order)
        # Grain's endless repetition has the largest length that there is, which batches of one image overflow.
        records = records.repeat(2**62 // len(loader.source))
        # The places are drawn before the processes part, so that they depend on the run alone.
        self._batches = records.random_map(loader, seed=places).batch(batch_size)[shard[0] :: shard[1]]
        self._workers, self._threads = workers, threads
        self._delivered = 0
        self._deaths: list[int] = []  # the batches before which worker processes died
        self._ahead = None
        atexit.register(_close, weakref.ref(self))  # before the modules that closing needs are taken down

    def __iter__(self) -> "TrainIterator":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = self._next()
        self._delivered += 1
        if self._workers:  # shared memory, which must be let go before the interpreter ends
            batch = {key: np.array(value) for key, value in batch.items()}
        return batch

    def _next(self) -> dict[str, np.ndarray]:
        """The next batch. Where a worker process has died, new ones go on from the position, so nothing is lost."""
        while True:
            if self._ahead is None:
                self._ahead = self._start()
            try:
                with _plain_errors():
                    return next(self._ahead)
            except RuntimeError as error:
                if not self._workers or "terminated unexpectedly" not in str(error):  # grain's words
                    raise
                self._count_death(str(error).partition(". ")[0])
                self.close()

    def _count_death(self, reason: str) -> None:
        """Says that a worker process died; raises a `UserError` if that happens again and again."""
        self._deaths = [at for at in self._deaths if self._delivered - at < DEATHS_WITHIN] + [self._delivered]
        if len(self._deaths) > DEATHS:
            raise UserError(
                f"Processes that read images died {len(self._deaths)} times within {DEATHS_WITHIN} batches: {reason}."
                " They may have run out of memory: give config.data.workers a smaller number, or 0 to read in threads."
            )
        warnings.warn(f"A process that reads images died: {reason}. New ones go on from batch {self._delivered}.")

    def get_state(self) -> dict[str, int]:
        """Returns the position: JSON-able, for a checkpoint."""
        return {"next_index": self._delivered}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues behind the last batch delivered before `get_state` returned `state`, bit for bit."""
        self.close()
        self._delivered = int(state["next_index"])

    def close(self) -> None:
        """Ends the worker processes or threads; a later `next` starts them again."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _start(self) -> Iterator:
        import grain

        rest = self._batches[self._delivered :]
        if self._workers == 0:
            ahead = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads + 2)
            return iter(rest.to_iter_dataset(ahead))
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain reads its flags, which a program without absl.app never parses
            flags.FLAGS.mark_as_parsed()
        one_by_one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
        return iter(rest.to_iter_dataset(one_by_one).mp_prefetch(options, worker_init_fn=_live_as_long_as_parent))


def eval_records(
    source: Source, *, shard: tuple[int, int] = (0, 1), start: int = 0, stop: int | None = None, threads: int = 0
) -> Iterator[dict[str, Any]]:
    """Yields the records of `source` in order and at their own size, read ahead by threads.

    Args:
      source: the records.
      shard: (index, count) of this process; it gets every count-th record, from its index on.
      start: first record, before sharding.
      stop: record to stop before; None is the end.
      threads: that read; 0 is one per core.
    """
    import grain

    records = grain.MapDataset.source(source)[slice(start, stop)]
    threads = count_threads(threads)
    ahead = iter(
        records[shard[0] :: shard[1]].to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        )
    )
    try:
        while True:
            with _plain_errors():
                try:
                    record = next(ahead)
                except StopIteration:
                    return
            yield record
    finally:
        ahead.close()


def _close(reference: Callable[[], TrainIterator | None]) -> None:
    if (iterator := reference()) is not None:
        iterator.close()


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Raises a `UserError` met while reading as itself, without the reader's frames and notes around it."""
    try:
        yield
    except StopIteration:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise UserError(*cause.args) from None


def _live_as_long_as_parent(*_: int) -> None:
    """Set-up of a worker process: signals are the parent's to handle, and no worker outlives a killed parent."""
    import multiprocessing
    import signal
    import threading

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT"):  # SIGTERM is how the parent ends a worker
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()
