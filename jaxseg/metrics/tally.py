"""The `Metric` record: sums and rows counted on the device and merged exactly on the host."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped

from jaxseg.checks import UserError, check_labels


class Tally(NamedTuple):
    """The counts of a metric so far.

    `sums` holds arrays of any shape that are added up; `images` arrays [b, …] with one row for every image, kept
    apart. On the device they are int32 and float32, on the host int64 and float64.
    """

    sums: dict[str, Any]
    images: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric as pure functions; see the contract in `jaxseg.metrics`.

    Args:
      needs: the input of `update` besides the labels: "predictions", class ids int[b, h, w], or "probabilities",
        float[b, h, w, c].
      update: `(predictions | probabilities, labels, *, where, num_classes) -> Tally` of one batch, to be jitted.
      result: `(Tally on the host) -> {key: number, list of one number per class, or dict of details}`.
      sized: whether `update` also takes `sizes`, int[b, 2].
    """

    needs: str
    update: Callable[..., Tally]
    result: Callable[[Tally], dict[str, Any]]
    sized: bool = False


def to_host(tally: Tally) -> Tally:
    """Returns `tally` as NumPy arrays, int64 and float64, in which sums over a data set neither overflow nor round.

    >>> to_host(Tally({"pixels": jnp.int32(3)}, {"error": jnp.array([0.5, 0.25])})).images["error"].dtype
    dtype('float64')
    """
    return jax.tree.map(
        lambda x: np.asarray(x, np.float64 if jnp.issubdtype(x.dtype, jnp.floating) else np.int64), tally
    )


def merge(tallies: Sequence[Tally]) -> Tally:
    """Adds the sums and joins the rows of tallies, in their order; int64 and float64, on the host.

    >>> half = Tally({"pixels": jnp.int32(2**31 - 1)}, {"error": jnp.array([0.5])})
    >>> total = merge([half] * 4)
    >>> total.sums["pixels"].item(), total.images["error"].tolist()
    (8589934588, [0.5, 0.5, 0.5, 0.5])
    """
    tallies = [to_host(tally) for tally in tallies]
    if not tallies:
        raise UserError("Nothing to merge: expected at least one tally. Call `update` on a batch first.")
    sums = {key: sum(tally.sums[key] for tally in tallies) for key in tallies[0].sums}
    images = {key: np.concatenate([tally.images[key] for tally in tallies]) for key in tallies[0].images}
    return Tally(sums, images)


def merge_processes(tally: Tally) -> Tally:
    """Merges the host tallies of all processes, which all must call this; bit for bit, as every process sees it."""
    if jax.process_count() == 1:
        return tally
    from jax.experimental import multihost_utils

    def gather(array: np.ndarray) -> np.ndarray:
        # 64 bits do not survive a trip through the device without x64; as two halves they do.
        halves = np.ascontiguousarray(array).reshape(-1).view(np.uint32)
        gathered = np.ascontiguousarray(multihost_utils.process_allgather(halves))
        return gathered.view(array.dtype).reshape(-1, *array.shape)

    def gather_rows(rows: np.ndarray) -> np.ndarray:
        counts = gather(np.array([len(rows)]))[:, 0]
        padded = np.zeros((counts.max(), *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        return np.concatenate([part[:n] for part, n in zip(gather(padded), counts, strict=True)])

    tally = to_host(tally)
    return Tally(
        {key: gather(tally.sums[key]).sum(0) for key in sorted(tally.sums)},
        {key: gather_rows(tally.images[key]) for key in sorted(tally.images)},
    )


def check_probabilities(probabilities: Shaped[ArrayLike, "..."], labels: Any, where: Any, metric: str) -> None:
    """Raises, at trace time, unless a metric that needs probabilities was given some for every label.

    >>> check_probabilities(jnp.zeros((1, 2, 2), int), jnp.zeros((1, 2, 2), int), None, "calibration")
    Traceback (most recent call last):
    jaxseg.checks.UserError: The metric 'calibration' needs probabilities, float[b, h, w, c], got int32 of shape ...
    """
    if not jnp.issubdtype(probabilities.dtype, jnp.floating) or probabilities.ndim != labels.ndim + 1:
        raise UserError(
            f"The metric '{metric}' needs probabilities, float[b, h, w, c], got {probabilities.dtype} of shape"
            f" {probabilities.shape} for labels {labels.shape}. Pass the softmax of the logits, not their argmax."
        )
    check_labels(labels, where, "Probabilities", probabilities.shape)
