"""Settings that are right each by itself and cannot be meant together: errors before a run starts."""

from ml_collections import ConfigDict

from jaxseg.checks import UserError


def check_training(config: ConfigDict, steps: int) -> None:
    """Raises a `UserError` where a run would never change a parameter, or would leave its encoder random.

    Args:
      config: of the run.
      steps: batches of the whole run.
    """
    if config.optim.accumulate > steps:
        raise UserError(
            f"config.optim.accumulate={config.optim.accumulate} batches make an update, but the whole run has {steps}:"
            " nothing would be learned. Train longer, or accumulate fewer."
        )
    c = config.model
    if "encoder" in [path.rstrip("/") for path in config.optim.freeze] and not (c.encoder_weights or c.weights):
        raise UserError(
            "config.optim.freeze has the encoder, which starts from random weights: it would stay random. Set"
            " config.model.encoder_weights, such as 'imagenet', or config.model.weights; or do not freeze it."
        )
