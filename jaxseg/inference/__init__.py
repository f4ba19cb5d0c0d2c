"""Inference: a trained model applied to pictures and to files of pictures.

Contract: what predicts takes `apply(variables, images f32[b, h, w, 3]) -> {"logits": f32[b, h, w, c]}` and knows
nothing else of the model. `predict_step` is the one way from uint8 pictures to label maps; evaluation, `Predictor`
and the command line share it, so that a score is the score of what a user gets.
"""

from jaxseg.inference.calibration import Calibration
from jaxseg.inference.predict import Predictor, predict_step
from jaxseg.inference.refine import create_refiner
from jaxseg.inference.uncertainty import Ensemble

__all__ = ["Calibration", "Ensemble", "Predictor", "create_refiner", "predict_step"]
