"""What a row of metrics.jsonl says of the steps since the row before."""

from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.training.loop import _drain


def test_a_row_is_the_mean_of_its_steps(tmp_path):
    steps = [{"loss": loss, "grad_norm": 2.0} for loss in (1.0, 2.0, 6.0)]
    assert _drain(steps, 3, Checkpoints(tmp_path, writable=True)) == {"loss": 3.0, "grad_norm": 2.0}
