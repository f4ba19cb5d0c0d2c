"""Training on a Ray cluster: Ray places the processes and starts them again; `training.loop.train` does the rest.

Needs Ray: pip install 'jaxseg[ray]'.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.experiment.log import read_rows


def train_on_ray(
    config: ConfigDict,
    workdir: str | Path,
    *,
    workers: int,
    gpus: int = 1,
    cpus: int = 4,
    max_failures: int = 3,
) -> dict[str, Any]:
    """Trains what `config` describes in `workers` processes of a Ray cluster; returns the last validation scores.

    Ray Train's `JaxTrainer` connects the processes by `jax.distributed`. If one dies, Ray ends all and starts them
    again, and the run goes on from its last checkpoint, as the same call does for a run that was stopped.

    Args:
      config: as for `jaxseg.training.loop.train`. Its batch is split over all devices of all workers.
      workdir: of the run, which all machines see: a shared file system.
      workers: number of processes.
      gpus: of each process; 0 trains on CPUs.
      cpus: of each process.
      max_failures: how often a run whose process died is started again; -1 is always.

    Raises:
      UserError: Ray is not installed, or cannot train with JAX.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.v2.jax import JaxConfig, JaxTrainer
    except ImportError as error:
        raise UserError(f"Training on Ray needs Ray 2.50 or later ({error}): pip install 'jaxseg[ray]'") from error
    workdir = Path(workdir).absolute()
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    trainer = JaxTrainer(
        _train_here,
        train_loop_config={"config": config, "workdir": str(workdir)},
        # "use_gpu" lets Ray call jax.distributed.initialize, for the platform that JAX_PLATFORMS names.
        jax_config=JaxConfig(use_gpu=True),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name=workdir.name,
            storage_path=str(workdir / "ray"),
            failure_config=FailureConfig(max_failures=max_failures),
            worker_runtime_env={"env_vars": {"JAX_PLATFORMS": "cuda" if gpus else "cpu"}},
        ),
    )
    trainer.fit()
    return [row for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "eval"][-1]


def _train_here(given: dict[str, Any]) -> None:
    """What every process does; imports are the process's own."""
    from absl import logging

    from jaxseg.training.loop import train

    logging.set_verbosity(logging.ERROR)  # orbax tells everything
    train(given["config"], given["workdir"])
