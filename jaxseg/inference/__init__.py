"""Inference: a trained model applied to images and to files of images.

Contract: what predicts takes a `TrainedModel`, and of its model only `apply(variables, images f32[b, h, w, 3],
train=False) -> {"logits": f32[b, h, w, c]}`. `predict_logits` is the one way from uint8 images to logits, and
`predict_step` to label maps; evaluation, `Predictor` and the command line share it, so that a score is the score of
what a user gets. It gives a model of one class a background, so that what comes after it sees two labels.
"""

from jaxseg.inference.calibration import Calibration
from jaxseg.inference.predict import Predictor, predict_step
from jaxseg.inference.refine import create_refiner
from jaxseg.inference.uncertainty import Ensemble

__all__ = ["Calibration", "Ensemble", "Predictor", "create_refiner", "predict_step"]
