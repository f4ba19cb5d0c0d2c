"""jaxseg: semantic segmentation for JAX.

    import jaxseg
    model = jaxseg.create_model("unet", encoder="resnet18", num_classes=21)
    variables = jaxseg.init(model, jax.random.key(0))
    logits = model.apply(variables, images, train=False)["logits"]

The names below are the public face; the subpackages (`ops`, `blocks`, `losses`, `metrics`, …) are importable piece
by piece. What is heavy (data readers, checkpoints, plots) is imported when it is used.
"""

from jaxseg import losses, metrics
from jaxseg.data import DATASETS, Dataset, create_dataset
from jaxseg.encoders import ENCODERS, create_encoder
from jaxseg.inference.predict import Predictor
from jaxseg.losses import LOSSES
from jaxseg.models import MODELS, create_model, init

__version__ = "0.1.0"

__all__ = [
    "DATASETS",
    "ENCODERS",
    "LOSSES",
    "MODELS",
    "Dataset",
    "Predictor",
    "create_dataset",
    "create_encoder",
    "create_model",
    "init",
    "losses",
    "metrics",
]
