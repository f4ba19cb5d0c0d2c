"""The record of what was imported from another library."""

import warnings
from typing import Any, NamedTuple

from flax import linen as nn


class Imported(NamedTuple):
    """A model or an encoder with another library's weights."""

    module: nn.Module
    variables: dict[str, Any]  # {"params", "batch_stats"}, NumPy arrays
    in_channels: int = 3  # of its images
    activation: str = "softmax"  # or "sigmoid": what makes probabilities of a model's logits
    bucket: int = 32  # pixels; to multiples of it, images are padded for a model, as the library's users have to
    notes: tuple[str, ...] = ()  # what was done to get at the weights, a sentence each

    def warn(self) -> "Imported":
        """Gives the notes as Python warnings that point to the code which called the importing function."""
        for note in self.notes:
            warnings.warn(note, stacklevel=3)
        return self
