"""Input pipeline: shuffled, resumable batches of one shape for training, and a split in order for evaluation."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.dataset import FILL, Source


def letterbox(record: Mapping[str, Any], canvas: tuple[int, int], ignore: int) -> dict[str, np.ndarray]:
    """Returns image and label at the size of the canvas.

    An image larger than the canvas is downscaled to fit, keeping its aspect ratio: the image by area averages, the
    label by nearest neighbors. A smaller image is centered and padded with gray 127 and `ignore`. Images are never
    enlarged.

    Args:
      record: "image", uint8[h, w, 3], and "label", uint8[h, w].
      canvas: (height, width), pixels.
      ignore: the label of padding.
    """
    image, label = record["image"], record["label"]
    factor = min(canvas[0] / label.shape[0], canvas[1] / label.shape[1])
    if factor < 1:
        from PIL import Image

        height, width = (max(1, min(round(n * factor), c)) for n, c in zip(label.shape, canvas, strict=True))
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        label = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    if label.shape == tuple(canvas):
        return {"image": image, "label": label}
    top, left = ((c - n) // 2 for c, n in zip(canvas, label.shape, strict=True))
    within = (slice(top, top + label.shape[0]), slice(left, left + label.shape[1]))
    fitted = {"image": np.full((*canvas, 3), FILL, np.uint8), "label": np.full(canvas, ignore, np.uint8)}
    fitted["image"][within], fitted["label"][within] = image, label
    return fitted


def train_iterator(
    source: Source,
    *,
    canvas: tuple[int, int],
    batch_size: int,
    seed: int,
    ignore: int,
    num_classes: int,
    workers: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> "TrainIterator":
    """Returns endless batches of `source`, in a new order every epoch, prepared ahead of their use.

    The order is a function of `seed` alone. All processes of a run go through one order and take every n-th image of
    it, so together they see each image once an epoch; a batch may span the end of an epoch and no image is dropped.

    Args:
      source: the records; labels are uint8 class ids or `ignore`.
      canvas: (height, width) that every image is letterboxed to, pixels.
      batch_size: images per batch, of this process.
      seed: of the order, any integer >= 0.
      ignore: the label of padding.
      num_classes: the labels' other values are below it; one that is not raises a `UserError`.
      workers: processes that decode; 0 decodes in threads.
      shard: (index, count) of this process among those of the run.
    """
    if len(source) == 0:
        raise UserError("There is no image to train on: the training split is empty.")
    if batch_size < 1 or min(canvas) < 1 or workers < 0:
        raise UserError(f"Expected batch_size, canvas >= 1 and workers >= 0, got {batch_size=}, {canvas=}, {workers=}.")
    prepare = functools.partial(_prepare, canvas=tuple(canvas), ignore=ignore, num_classes=num_classes)
    return TrainIterator(source, prepare, batch_size, seed, workers, shard)


def _prepare(
    record: Mapping[str, Any], *, canvas: tuple[int, int], ignore: int, num_classes: int
) -> dict[str, np.ndarray]:
    label = record["label"]
    if label.dtype != np.uint8 or ((label >= num_classes) & (label != ignore)).any():
        raise UserError(
            f"The label of '{record['name']}' is {label.dtype} with values up to {label.max()}, expected uint8 below"
            f" {num_classes} or {ignore}. Build the data set with jaxseg.data.create_dataset, which relabels."
        )
    return letterbox(record, canvas, ignore)


class TrainIterator:
    """Endless batches {"image": uint8[b, h, w, 3], "label": uint8[b, h, w]}; see `train_iterator`.

    The position is the number of batches delivered, `{"next_index": n}`; it does not depend on `workers`.
    """

    def __init__(
        self,
        source: Source,
        prepare: Callable[[Mapping[str, Any]], dict[str, np.ndarray]],
        batch_size: int,
        seed: int,
        workers: int,
        shard: tuple[int, int],
    ):
        import atexit
        import weakref

        import grain

        order = np.random.SeedSequence(seed).generate_state(1)[0]
        records = grain.MapDataset.source(source).shuffle(seed=int(order)).repeat()
        self._batches = records[shard[0] :: shard[1]].map(prepare).batch(batch_size)
        self._workers = workers
        self._delivered = 0
        self._ahead = None
        atexit.register(_close, weakref.ref(self))  # before the modules that closing needs are taken down

    def __iter__(self) -> "TrainIterator":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        if self._ahead is None:
            self._ahead = self._start()
        with _plain_errors():
            batch = next(self._ahead)
        self._delivered += 1
        if self._workers:  # shared memory, which must be let go before the interpreter ends
            batch = {key: np.array(value) for key, value in batch.items()}
        return batch

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
            threads = min(4, os.cpu_count() or 1)
            return iter(rest.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)))
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain reads its flags, which a program without absl.app never parses
            flags.FLAGS.mark_as_parsed()
        one_by_one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
        return iter(rest.to_iter_dataset(one_by_one).mp_prefetch(options, worker_init_fn=_live_as_long_as_parent))


def eval_records(
    source: Source, *, shard: tuple[int, int] = (0, 1), start: int = 0, stop: int | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the records of `source` in order and at their own size, read ahead by threads.

    Args:
      source: the records.
      shard: (index, count) of this process; it gets every count-th record, from its index on.
      start: first record, before sharding.
      stop: record to stop before; None is the end.
    """
    import grain

    records = grain.MapDataset.source(source)[slice(start, stop)]
    threads = min(4, os.cpu_count() or 1)
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
    """Set-up of a worker process: Ctrl-C is the parent's to handle, and no worker outlives a killed parent."""
    import multiprocessing
    import signal
    import threading

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()
