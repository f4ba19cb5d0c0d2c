"""Counters of a server, in the text format that Prometheus reads."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts values by the smallest of some bounds that they do not exceed.

    >>> seconds = Histogram("seconds", "Time.", (1, 2))
    >>> for value in (0.5, 1.5, 9):
    ...     seconds.add(value)
    >>> print(chr(10).join(seconds.lines()[2:]))
    seconds_bucket{le="1"} 1
    seconds_bucket{le="2"} 2
    seconds_bucket{le="+Inf"} 3
    seconds_sum 11
    seconds_count 3
    """

    def __init__(self, name: str, what: str, bounds: Sequence[float]):
        self._name, self._what, self._bounds = name, what, tuple(bounds)
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Counts a value."""
        place = sum(value > bound for bound in self._bounds)
        with self._lock:
            self._counts[place] += 1
            self._sum += value

    def lines(self) -> list[str]:
        """Returns the lines of the text format."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        lines, below = _head(self._name, self._what, "histogram"), 0
        for bound, count in zip([*map("{:g}".format, self._bounds), "+Inf"], counts, strict=True):
            below += count
            lines.append(f'{self._name}_bucket{{le="{bound}"}} {below}')
        return [*lines, f"{self._name}_sum {total:.9g}", f"{self._name}_count {below}"]


class Counters:
    """What a server has done so far.

    Args:
      gauges: numbers that are looked up when they are asked for: name -> (what it is, function).
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]):
        self._gauges = {**gauges, "process_resident_memory_bytes": ("Memory of the process.", resident_bytes)}
        self._statuses: Counter[int] = Counter()
        self._lock = threading.Lock()
        self.seconds = Histogram("jaxseg_request_seconds", "Time of a request for a prediction.", SECONDS)
        self.batches = Histogram("jaxseg_batch_images", "Images that were computed together.", IMAGES)
        self.computing = Histogram("jaxseg_batch_seconds", "Time of a batch, first compilations included.", SECONDS)

    def answered(self, status: int, seconds: float) -> None:
        """Counts a request for a prediction.

        Args:
          status: of HTTP.
          seconds: that it took.
        """
        with self._lock:
            self._statuses[status] += 1
        self.seconds.add(seconds)

    def computed(self, images: int, seconds: float) -> None:
        """Counts a batch."""
        self.batches.add(images)
        self.computing.add(seconds)

    def text(self) -> str:
        """Returns all in the text format of Prometheus, version 0.0.4."""
        with self._lock:
            statuses = sorted(self._statuses.items())
        lines = _head("jaxseg_requests_total", "Requests for a prediction, by the status of the answer.", "counter")
        lines += [f'jaxseg_requests_total{{status="{status}"}} {count}' for status, count in statuses]
        for histogram in (self.seconds, self.batches, self.computing):
            lines += histogram.lines()
        for name, (what, value) in self._gauges.items():
            lines += [*_head(name, what, "gauge"), f"{name} {value():.12g}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> float:
    """Returns the memory that the process holds now; 0 where the system does not say it as Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    import resource

    return float(pages * resource.getpagesize())


def _head(name: str, what: str, kind: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
