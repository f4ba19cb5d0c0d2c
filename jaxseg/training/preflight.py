"""What is checked of the first step before anything of a run is written."""

import contextlib

import jax
import jax.numpy as jnp

from jaxseg.experiment.build import Experiment
from jaxseg.training.step import linen_forward


def check_norms(experiment: Experiment) -> None:
    """Raises the error of a batch normalization that would see one value per channel, which is all alike.

    It is where a batch has one image and a branch of the model pools all of it, as DeepLabV3's does. The step would
    raise it too, but later, when the workdir is taken and the weights are read.

    Args:
      experiment: of the run; the model's forward pass is traced, not run, and only if a batch has one image.
    """
    config, model = experiment.config, experiment.model
    if config.data.batch_size > 1:
        return
    forward = linen_forward(model, tuple(config.optim.freeze))
    shape = (1, *config.data.crop, experiment.preprocessing.bands.count)

    def step(key: jax.Array, images: jax.Array) -> object:
        return forward({"batch_stats": {}, **model.init(key, images, train=False)}, images, key)

    # Options that a model can't have are explained where it is made; a UserError is none of these.
    with contextlib.suppress(TypeError, ArithmeticError, LookupError, AttributeError):
        jax.eval_shape(step, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
