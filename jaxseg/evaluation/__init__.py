"""Evaluation: how good a trained model is on labeled images, and where it fails.

`evaluate` is what `jaxseg eval` does; `Evaluator` gives the scores alone, of a model that is still training too. Both
take a `TrainedModel` and a data set, which `find_dataset` makes from the model's run or from a name. The modules
`survey` and `error_page` show errors, `calibrate` fits probabilities, `tune_crf` the settings of a CRF.
"""

from jaxseg.evaluation.data import find_dataset
from jaxseg.evaluation.evaluator import Evaluation, Evaluator
from jaxseg.evaluation.score import evaluate

__all__ = ["Evaluation", "Evaluator", "evaluate", "find_dataset"]
