"""What is checked of the first step before anything of a run is written."""

import contextlib

import jax
import jax.numpy as jnp

from jaxseg.checks import UserError, listing
from jaxseg.experiment.build import Experiment
from jaxseg.training.step import linen_forward


def check_forward(experiment: Experiment) -> None:
    """Raises the errors that the first step would, but later, when the workdir is taken and the weights are read.

    These are of an output that has a loss and that the model does not have, and of a batch normalization that would see
    one value per channel, which is all alike: a batch of one image, where a branch of the model pools all of it, as
    DeepLabV3's does.

    Args:
      experiment: of the run; the model's forward pass is traced, not run, and only if a batch has one image or there
        are losses of further outputs.
    """
    config, model = experiment.config, experiment.model
    heads = {*config.loss.heads}
    if config.data.batch_size > 1 and heads == {"logits"}:
        return
    forward = linen_forward(model, tuple(config.optim.freeze))
    shape = (min(config.data.batch_size, 2), *config.data.crop, experiment.preprocessing.bands.count)

    def step(key: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
        return forward({"batch_stats": {}, **model.init(key, images, train=False)}, images, key)[0]

    # Options that a model can't have are explained where it is made; a UserError is none of these.
    with contextlib.suppress(TypeError, ArithmeticError, LookupError, AttributeError):
        outputs = jax.eval_shape(step, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        if absent := sorted(heads - {*outputs}):
            rest = {name: weight for name, weight in config.loss.heads.to_dict().items() if name in outputs}
            raise UserError(
                f"config.loss.heads names {listing(absent)}, but in training this model has the outputs"
                f" {listing(sorted(outputs))} alone, with these options. Leave it out: --config.loss.heads='{rest}'"
            )
