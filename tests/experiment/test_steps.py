"""How long a run is, in steps: as the config says, or as many as its epochs take."""

import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data import create_dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment.build import Experiment, build_model, count_steps


def of_26_images(config):
    dataset = create_dataset("shapes", train=26)
    return Experiment(config, dataset, build_model(config, 7), Preprocessing((0.0,) * 3, (1.0,) * 3))


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
    assert count_steps(of_26_images(config)) == expected


def test_batches_that_make_no_update_are_left_out_and_said():
    """20 batches are six updates of three; two are left."""
    config = default_config()
    config.data.batch_size, config.optim.accumulate = 4, 3
    config.train.steps = 20
    experiment = of_26_images(config)
    with pytest.warns(UserWarning, match="The last 2 of 20 batches make no update .* the run has 18 steps"):
        assert count_steps(experiment)[0] == 18
    config.train.update(steps=0, epochs=1)
    config.optim.accumulate = 8
    with pytest.raises(UserError, match="6 batches, fewer than the config.optim.accumulate=8 of one update"):
        count_steps(experiment)
