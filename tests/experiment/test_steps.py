"""How long a run is, in steps: as the config says, or as many as its epochs take."""

from types import SimpleNamespace

import pytest

from jaxseg.config import default_config
from jaxseg.experiment.build import count_steps


@pytest.mark.parametrize(
    "steps,epochs,every,expected",
    [(50, 0, 0, (50, 6)), (0, 3, 0, (18, 6)), (0, 3, 5, (18, 5))],
)
def test_epochs_are_of_whole_batches(steps, epochs, every, expected):
    """Of 26 images, four at a time, an epoch is 6 steps; evaluations are an epoch apart unless told otherwise."""
    config = default_config()
    config.data.batch_size = 4
    config.train.update(steps=steps, epochs=epochs)
    config.eval.every = every
    dataset = SimpleNamespace(splits={"train": range(26)})
    assert count_steps(SimpleNamespace(config=config, dataset=dataset)) == expected
