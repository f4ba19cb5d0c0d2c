"""jaxseg: semantic segmentation for JAX.

    import jaxseg
    model = jaxseg.create_model("unet", encoder="resnet18", num_classes=21)
    variables = jaxseg.init(model, jax.random.key(0))
    logits = model.apply(variables, images, train=False)["logits"]

The names of `__all__` are the public face: the packages, and from them what most programs need. Each is imported when
it is first used, so `import jaxseg` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` does, said to editors and type checkers
    from jaxseg import (
        analysis,
        bench,
        blocks,
        config,
        data,
        encoders,
        evaluation,
        experiment,
        export,
        inference,
        losses,
        metrics,
        models,
        nnx,
        ops,
        pretrained,
        serve,
        trained,
        training,
        visualize,
    )
    from jaxseg.checks import UserError
    from jaxseg.data import DATASETS, Dataset, create_dataset
    from jaxseg.encoders import ENCODERS, create_encoder
    from jaxseg.export import load_exported
    from jaxseg.inference import Ensemble, Predictor
    from jaxseg.losses import LOSSES
    from jaxseg.metrics import METRICS
    from jaxseg.models import MODELS, create_model, init
    from jaxseg.trained import TrainedModel, load

__version__ = "0.2.0"

_HOMES = {  # name -> the package that it is imported from; the other public names are packages themselves
    "DATASETS": "data",
    "ENCODERS": "encoders",
    "LOSSES": "losses",
    "METRICS": "metrics",
    "MODELS": "models",
    "Dataset": "data",
    "Ensemble": "inference",
    "Predictor": "inference",
    "TrainedModel": "trained",
    "UserError": "checks",
    "create_dataset": "data",
    "create_encoder": "encoders",
    "create_model": "models",
    "init": "models",
    "load": "trained",
    "load_exported": "export",
}

__all__ = [
    "DATASETS",
    "ENCODERS",
    "LOSSES",
    "METRICS",
    "MODELS",
    "Dataset",
    "Ensemble",
    "Predictor",
    "TrainedModel",
    "UserError",
    "analysis",
    "bench",
    "blocks",
    "config",
    "create_dataset",
    "create_encoder",
    "create_model",
    "data",
    "encoders",
    "evaluation",
    "experiment",
    "export",
    "inference",
    "init",
    "load",
    "load_exported",
    "losses",
    "metrics",
    "models",
    "nnx",
    "ops",
    "pretrained",
    "serve",
    "trained",
    "training",
    "visualize",
]


def __getattr__(name: str) -> Any:
    """Imports a package of jaxseg, or the package that a public name lives in, when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'jaxseg' has no attribute '{name}'")
    if name not in _HOMES:
        return import_module(f"jaxseg.{name}")
    globals()[name] = value = getattr(import_module(f"jaxseg.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    """The public names, the ones that were not used yet included."""
    return sorted({*globals(), *__all__})
