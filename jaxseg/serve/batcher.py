"""Images that wait for the model: those of one size are computed together, in batches of compiled sizes."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer, Num

from jaxseg.inference.batches import Grid, find_grid
from jaxseg.trained import TrainedModel

LABEL, PROBABILITIES, BOTH = "label", "probabilities", "both"
Image = Num[np.ndarray, "_h _w _c"]
Result = Integer[np.ndarray, "_h _w"] | Float[np.ndarray, "_h _w _c"] | tuple[np.ndarray, np.ndarray]


@runtime_checkable
class Model(Protocol):
    """What is asked of a model, as of a `Predictor`."""

    trained: TrainedModel

    def predict_batch(self, images: Sequence[Image], *, batch_size: int) -> list[Any]: ...

    def probabilities(self, image: Image) -> Any: ...

    def label_and_probabilities(self, image: Image) -> Any: ...


class _Group(NamedTuple):
    """What images have in common that are computed together."""

    kind: str
    way: Any
    grid: Grid


class _Waiting(NamedTuple):
    """An image that has not been computed."""

    image: Image
    future: "Future[Result]"
    since: float  # on the clock


class Batcher:
    """Hands images to a predictor from a thread of its own, in batches that no image waits long for.

    A batch is of one padded size. It is sent off when it is full, or when its first image has waited `wait` seconds;
    what arrives while the device computes is the next batch. The predictor fills short batches up to a power of two, so
    that a size has few programs. Probabilities are computed one image at a time.

    Args:
      predictor: the model.
      batch: largest number of images that are computed together.
      wait: seconds that an image waits for others of its size.
      computed: called after every batch with the number of its images and the seconds that it took.
      model_of: returns the model of a `way` of `submit` that is not None; the thread calls it.
      clock: the time in seconds, from any beginning.
    """

    def __init__(
        self,
        predictor: Model,
        *,
        batch: int = 8,
        wait: float = 0.005,
        computed: Callable[[int, float], None] = lambda images, seconds: None,
        model_of: Callable[[Any], Model] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._predictor, self._batch, self._wait = predictor, batch, wait
        self._model_of = model_of
        self._computed, self._clock = computed, clock
        self._waiting: dict[_Group, deque[_Waiting]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)
        self._thread.start()

    def submit(self, image: Image, kind: str = LABEL, way: Any = None) -> "Future[Result]":
        """Takes an image, and returns the future of what the model says of it; a cancelled one is not computed.

        Args:
          image: as `jaxseg.inference.batches.as_stored` returns it.
          kind: `LABEL` for the label map, `PROBABILITIES` for those of every label, `BOTH` for the label map and, in
            units of 1/255, the probabilities.
          way: what `model_of` finds the model by, hashable; None is the predictor.
        """
        future: Future[Result] = Future()
        key = _Group(kind, way, find_grid(image.shape[:2], self._predictor.trained.preprocessing))
        with self._changed:
            if self._closing:
                raise RuntimeError("The batcher is closed.")
            self._waiting.setdefault(key, deque()).append(_Waiting(image, future, self._clock()))
            self._changed.notify()
        future.add_done_callback(partial(self._forget, key))
        return future

    def _forget(self, key: _Group, future: "Future[Result]") -> None:
        """Lets go of an image whose future was cancelled while it waited: its batch may come much later."""
        if not future.cancelled():
            return
        with self._changed:
            group = [one for one in self._waiting.get(key, ()) if one.future is not future]
            if group:
                self._waiting[key] = deque(group)
            else:
                self._waiting.pop(key, None)
            self._changed.notify()

    def waiting(self) -> int:
        """Returns the number of images that are not being computed yet."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """Computes what was taken, at once, and ends the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            key, group = found
            group = [one for one in group if one.future.set_running_or_notify_cancel()]
            if not group:
                continue
            began = self._clock()
            try:
                results = self._compute(key, [one.image for one in group])
            except BaseException as error:  # of whatever kind: those who wait must be told
                for one in group:
                    one.future.set_exception(error)
            else:
                for one, result in zip(group, results, strict=True):
                    one.future.set_result(result)
            with contextlib.suppress(Exception):  # a counter must not end the thread
                self._computed(len(group), self._clock() - began)

    def _compute(self, key: _Group, images: list[Image]) -> list[Any]:
        model = self._predictor if key.way is None or self._model_of is None else self._model_of(key.way)
        if key.kind == LABEL:
            return model.predict_batch(images, batch_size=self._batch)
        return [{PROBABILITIES: model.probabilities, BOTH: model.label_and_probabilities}[key.kind](i) for i in images]

    def _next(self) -> tuple[_Group, list[_Waiting]] | None:
        """Waits for the next batch, and returns its group and images; None at the end."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._closing:
                        return None
                    self._changed.wait()
                    continue
                ready = {key: self._ready_at(key) for key in self._waiting}
                key = min(ready, key=ready.__getitem__)
                if (left := ready[key] - self._clock()) <= 0:
                    group = self._waiting[key]
                    taken = [group.popleft() for _ in range(min(self._limit(key.kind), len(group)))]
                    if not group:
                        del self._waiting[key]
                    return key, taken
                self._changed.wait(left)

    def _ready_at(self, key: _Group) -> float:
        """When a group is sent off; of those that are ready, the one whose image waits longest comes first."""
        group = self._waiting[key]
        full = self._closing or len(group) >= self._limit(key.kind)
        return group[0].since if full else group[0].since + self._wait

    def _limit(self, kind: str) -> int:
        return self._batch if kind == LABEL else 1
