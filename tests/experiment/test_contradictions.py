"""Settings that cannot be meant together."""

import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.experiment.contradictions import check_training


def test_more_batches_to_an_update_than_the_run_has():
    c = default_config()
    c.optim.accumulate = 4
    check_training(c, 4)
    with pytest.raises(UserError, match="the whole run has 3: nothing would be learned"):
        check_training(c, 3)


@pytest.mark.parametrize("path", ["encoder", "encoder/"])
def test_a_frozen_encoder_needs_weights(path):
    c = default_config()
    c.optim.freeze = (path,)
    with pytest.raises(UserError, match="it would stay random"):
        check_training(c, 10)
    for key in ("encoder_weights", "weights"):
        with_weights = default_config()
        with_weights.optim.freeze = (path,)
        with_weights.model[key] = "a.safetensors"
        check_training(with_weights, 10)
    c.optim.freeze = ("encoder/conv1",)  # a part may be left as it was drawn
    check_training(c, 10)
