"""What the processes of a run agree on, so that all of them do the same after the same step."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxseg.experiment import devices as shard
from jaxseg.training.rows import IN_FLIGHT


class Agreement:
    """Tells every process whether one of them has raised a flag, at the steps that end a row.

    The flags travel over the devices, behind the steps that these still have before them. So those of a row are asked
    `IN_FLIGHT` steps before its last, and are there when the host reads them. A single process asks nobody.

    Args:
      every: steps of a row.
      processes: of the run; None is as many as JAX knows.
      ask: takes the flags of this process and returns those of any, on the device.

    >>> agreement = Agreement(every=10, processes=1)
    >>> agreement(3, True, False)  # alone, a process agrees with itself at any step
    (True, False)
    """

    def __init__(
        self,
        every: int,
        *,
        processes: int | None = None,
        ask: Callable[[Sequence[bool]], ArrayLike] = shard.any_of_processes,
    ):
        self._every, self._ask = every, ask
        self._processes = jax.process_count() if processes is None else processes
        self._asked: dict[int, ArrayLike] = {}  # by the step at which the answer is read

    def __call__(self, step: int, *flags: bool) -> tuple[bool, ...]:
        """Returns, for every flag, whether a process had raised it; False at steps that end no row.

        All processes call it after every step. Where a run resumes, the first row may have come too soon to be asked.

        Args:
          step: that was just sent off.
          *flags: of this process, as they are now.
        """
        if self._processes == 1:
            return flags
        if (step + IN_FLIGHT) % self._every == 0:
            self._asked[step + IN_FLIGHT] = self._ask(flags)
        found = self._asked.pop(step, None)
        return (False,) * len(flags) if found is None else tuple(map(bool, np.asarray(found)))
