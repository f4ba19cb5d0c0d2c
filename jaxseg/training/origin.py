"""What a run starts from where it goes on from another model's weights: of other classes and bands, too."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError, listing
from jaxseg.experiment.build import Experiment
from jaxseg.experiment.log import say
from jaxseg.models.describe import describe
from jaxseg.pretrained.convert import adapt_input
from jaxseg.pretrained.matching import replace_variables
from jaxseg.trained import TrainedModel, load

Shapes = dict[str, tuple[int, ...]]


def start_from(variables: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Returns the weights of the model that config.model.weights names, fitted to the run's classes and bands.

    Of a workdir they are those of the best checkpoint. With config.model.replace_head, arrays outside encoder and
    decoder that have another shape, as those of another number of classes, keep the values of `variables`. The first
    convolution is adapted where the number of bands is another. Both are said.

    Args:
      variables: of the run's model, with the values that it would start from by itself.
      experiment: the run.

    Raises:
      UserError: the weights are of another model.
    """
    config = experiment.config
    source, trained = config.model.weights, load(config.model.weights)
    theirs, ours = (flatten_dict(dict(tree), sep="/") for tree in (trained.variables, variables))
    _check_model(trained, experiment, _shapes(theirs), _shapes(ours))
    adapted = _adapt(theirs, ours, trained, experiment)
    try:
        started = replace_variables(
            variables, unflatten_dict(theirs, sep="/"), source, replace_head=config.model.replace_head
        )
    except UserError as error:
        raise UserError(f"{error}{_other_options(trained, experiment)}") from None
    fresh = [path for path, shape in _shapes(ours).items() if shape != theirs[path].shape]
    _say_what_came_over(trained, experiment, adapted, fresh)
    return started


def _shapes(arrays: Mapping[str, Any]) -> Shapes:
    return {path: tuple(array.shape) for path, array in arrays.items()}


def _check_model(trained: TrainedModel, experiment: Experiment, theirs: Shapes, ours: Shapes) -> None:
    """Raises for another architecture or encoder, which is said before arrays are compared one by one."""
    there, here = describe(trained.model), describe(experiment.model)
    other = [
        f"its {what} is {there.get(what)}, the config's is {here.get(what)}"
        for what in ("name", "encoder")
        if there.get(what) != here.get(what)
    ]
    if other and theirs.keys() != ours.keys():
        raise UserError(
            f"{experiment.config.model.weights} is another model than the config's: {' and '.join(other)}. Set"
            " config.model.name and config.model.encoder to its own. Of the encoder alone,"
            " config.model.encoder_weights takes the weights."
        )


def _other_options(trained: TrainedModel, experiment: Experiment) -> str:
    """Says which options of the model or its encoder are others than the config's; "" where none is."""
    there, here = describe(trained.model), describe(experiment.model)
    return "".join(
        f" Its options are {there.get(what, {})}, those of config.{key} {here.get(what, {})}: set them to its own."
        for what, key in (("options", "model.options"), ("encoder_options", "model.encoder_options"))
        if there.get(what) != here.get(what)
    )


def _adapt(theirs: dict[str, Any], ours: Mapping[str, Any], trained: TrainedModel, experiment: Experiment) -> list[str]:
    """Adapts in place the convolutions that see the image, where it has other bands; returns their paths."""
    counts = there, here = trained.bands.count, experiment.preprocessing.bands.count
    if there == here:
        return []
    adapted = []
    for path, array in theirs.items():
        shape = tuple(array.shape)
        if len(shape) == 4 and path in ours and (shape[2], ours[path].shape[2]) == counts:
            kernel = np.asarray(array).transpose(3, 2, 0, 1)
            theirs[path] = adapt_input(kernel, here).transpose(2, 3, 1, 0).astype(array.dtype)
            adapted.append(path)
    return adapted


def _say_what_came_over(trained: TrainedModel, experiment: Experiment, adapted: list[str], fresh: list[str]) -> None:
    dataset, seen = experiment.dataset, experiment.preprocessing
    say(f"Starting from {trained.source or experiment.config.model.weights}.")
    if fresh:
        say(
            f"note: it has {trained.num_logits} classes, this data {dataset.num_classes}: {listing(fresh, 4)} start"
            " from random values."
        )
    names = trained.classes[-dataset.num_classes :]
    if not fresh and names != tuple(dataset.classes) and any(name != f"class {i}" for i, name in enumerate(names)):
        say(
            f"note: its classes are {listing(names, 6)}, those of this data {listing(dataset.classes, 6)}: the head"
            " keeps its weights, and learns the new ones."
        )
    if adapted:
        say(
            f"note: its images have {trained.bands.count} bands, these {seen.bands.count}: {listing(adapted, 4)} are"
            " adapted, as those of pretrained encoders are."
        )
    elif not np.allclose((trained.preprocessing.mean, trained.preprocessing.std), (seen.mean, seen.std), rtol=0.1):
        say(
            f"note: its images were normalized with mean {_round(trained.preprocessing.mean)} and deviation"
            f" {_round(trained.preprocessing.std)}, these are with {_round(seen.mean)} and {_round(seen.std)}."
        )


def _round(values: tuple[float, ...]) -> str:
    return listing([f"{value:.4g}" for value in values], 4)
