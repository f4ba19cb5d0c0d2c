"""Trains a model: python train.py --config configs/shapes_unet.py --workdir runs/shapes [--config.optim.lr=0.01]."""

from absl import flags
from ml_collections import config_flags

from jaxseg.cli import launch

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment, a file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run; the same folder again resumes it.")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the run's other processes: jax.distributed.initialize().")


def main(_):
    from jaxseg.training.loop import train

    if DISTRIBUTED.value:
        import jax

        jax.distributed.initialize()
    train(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    launch.run(main, required=["config", "workdir"])
