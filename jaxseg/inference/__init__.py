"""Inference: a trained model applied to images and to files of images.

Contract: everything here takes a `TrainedModel` and calls its model only as `apply(variables, images f32[b, h, w, 3],
train=False) -> {"logits": f32[b, h, w, c]}`. `predict_logits` turns uint8 images into logits; `Predictor`, the command
line and evaluation all use it, so that scores are those of the predictions a user gets. `predict_step` adds the argmax.
A model of one class gets a second one, the background.
"""

from jaxseg.inference.calibration import Calibration
from jaxseg.inference.logits import predict_step
from jaxseg.inference.predict import Predictor
from jaxseg.inference.refine import create_refiner
from jaxseg.inference.uncertainty import Ensemble

__all__ = ["Calibration", "Ensemble", "Predictor", "create_refiner", "predict_step"]
