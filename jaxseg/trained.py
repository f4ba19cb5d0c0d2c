"""A trained model: a network, its variables, and what its images and labels mean, wherever it came from.

    trained = jaxseg.load("runs/camvid")              # a workdir; or a bundle, hf:OWNER/REPO, a folder of smp's
    label = jaxseg.Predictor(trained)(image)
    trained.save("bundles/camvid")

Whatever evaluates, predicts, exports or explains a model takes a `TrainedModel`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from jaxseg.checks import UserError, lookup
from jaxseg.data.bands import Bands
from jaxseg.data.dataset import palette_colors
from jaxseg.data.preprocessing import Preprocessing, read_preprocessing
from jaxseg.experiment.build import Experiment, build_model
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.limits import check_ranges
from jaxseg.experiment.scores import run_scores
from jaxseg.experiment.workdir import read_config
from jaxseg.files import Fields, is_color, is_list, is_text, is_whole, plain, read_json
from jaxseg.losses import LOSSES, is_multilabel
from jaxseg.models import create_model, pixel_statistics
from jaxseg.models.describe import describe
from jaxseg.pretrained.bundle import LABELS, is_bundle, is_ignored, load_bundle, save_bundle
from jaxseg.pretrained.calibration import Calibration, load_calibration
from jaxseg.pretrained.described import check_values, making
from jaxseg.pretrained.hub import locate
from jaxseg.pretrained.matching import check_fits, replace_variables
from jaxseg.pretrained.smp import read_smp_folder

__all__ = ["TrainedModel", "find_calibration", "load", "load_weights"]

Color = tuple[int, int, int]
Activation = Literal["softmax", "sigmoid"]


@runtime_checkable
class Model(Protocol):
    """What a trained model needs of its network; every Flax module with the model contract has it."""

    def apply(self, variables: dict[str, Any], images: Any, *, train: bool) -> Mapping[str, Any]:
        """Returns the outputs for normalized images f32[b, h, w, c], "logits" f32[b, h, w, classes] among them."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model that can predict; `load` makes one, `save` writes it as a bundle.

    Args:
      model: of `jaxseg.create_model`, or any other `Model`; `save` needs one of jaxseg's.
      variables: {"params", "batch_stats"}; of a run with averaged variables, the averaged ones.
      classes: the name of each label. A model of one class has two labels: 0, the background, and 1.
      palette: (red, green, blue) of each label, 0..255.
      ignore: the label value of pixels that did not count in training; no prediction has it.
      preprocessing: what is done to images before the model sees them.
      activation: what makes probabilities of the logits: "softmax", over the classes, or "sigmoid", of each by itself.
      source: where the weights come from, as a sentence.
      threshold: of a model of one class, the probability above which a pixel is labeled 1.
      values: of each label, the value that stands for it in the label files of the data set; None where ids do.
      calibration: of the probabilities; of a run it is in the workdir, see `find_calibration`.
      scores: what was measured with these weights: {"data", "split", "date", "checkpoint", "metrics": {name: number}};
        of a run they are in the workdir.
      license: of the weights, as the Hugging Face hub names it: "apache-2.0", "cc-by-4.0", ...
      step: of the training run, in batches; None if it is not known.
      config: of the training run; None if the model was not loaded from a workdir.
      workdir: of the training run; None likewise. It also holds calibration.json and crf.json, if they were made.
    """

    model: Model
    variables: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore: int
    preprocessing: Preprocessing
    activation: Activation = "softmax"
    source: str = ""
    threshold: float = 0.5
    values: tuple[int, ...] | None = None
    calibration: Calibration | None = None
    scores: Mapping[str, Any] | None = None
    license: str = ""
    step: int | None = None
    config: ConfigDict | None = None
    workdir: Path | None = None

    @property
    def num_logits(self) -> int:
        """Of the model: that of the labels or, of a model of one class, 1."""
        return getattr(self.model, "num_classes", len(self.classes))

    @property
    def bands(self) -> Bands:
        """Of the images that the model predicts."""
        return self.preprocessing.bands

    def save(self, directory: str | Path, *, with_golden: bool = True) -> None:
        """Writes a bundle, a folder that `load` reads: the weights and all fields down to `license`.

        A run's calibration, if it is of this checkpoint, and its scores of this checkpoint are written too; a tuned CRF
        stays with the run. See `jaxseg.pretrained.save_bundle`.

        Args:
          directory: of the bundle: a new or empty folder, or a bundle, which is overwritten.
          with_golden: whether the model is shown an image, whose result is kept for `jaxseg verify`.
        """
        save_bundle(
            directory,
            self.model,
            self.variables,
            classes=self.classes,
            palette=self.palette,
            ignore=self.ignore,
            preprocessing=self.preprocessing,
            activation=self.activation,
            threshold=self.threshold,
            values=self.values,
            calibration=find_calibration(self),
            scores=self.scores or run_scores(self.workdir, self.step, self.config),
            source=self.source,
            license=self.license,
            with_golden=with_golden,
        )


def find_calibration(trained: TrainedModel) -> Calibration | None:
    """Returns the calibration of a trained model: its own, or the one in its workdir if that is of its checkpoint.

    Args:
      trained: of a bundle or a run.
    """
    if trained.calibration or trained.workdir is None or trained.step is None:
        return trained.calibration
    sigmoids = trained.activation == "sigmoid" and trained.num_logits > 1
    return load_calibration(trained.workdir, trained.step, activation="sigmoid" if sigmoids else "softmax")


def load(source: str | Path, checkpoint: str | int = "best", *, dtype: Any = None) -> TrainedModel:
    """Loads a trained model; a data set is not needed.

    Args:
      source: a workdir that `jaxseg train` wrote; a bundle, which `TrainedModel.save` and `jaxseg convert` write; a
        folder that `save_pretrained` of segmentation_models_pytorch (smp) wrote; or one of the last two on the
        Hugging Face hub, as `hf:OWNER/REPO` or `hf:OWNER/REPO@REVISION`.
      checkpoint: of a workdir: "best" (by validation mIoU), "latest" or a step.
      dtype: of the computation, e.g. "bfloat16"; None is the workdir's own, and float32 for what is not a workdir.

    Raises:
      UserError: if there is no such model, and what to do.
    """
    path = locate(source)
    if path.suffix in (".onnx", ".stablehlo", ".tflite") and path.is_file():
        raise UserError(f"{source} is exported: docs/export.md says how it runs. Name what it was exported of.")
    if path.is_file():
        raise UserError(
            f"{source} is a file, and a model is a folder. Make one of a state dict with `jaxseg convert`, or name the"
            " folder of a run."
        )
    config = _read_config(path)
    if "data" in config and "optim" in config:
        trained = _from_workdir(path, checkpoint)
    else:
        if str(checkpoint) not in ("best", "latest"):
            raise UserError(f"{source} is not a run's workdir: it has no checkpoint '{checkpoint}'. Leave that out.")
        if is_bundle(path):
            trained = _from_bundle(path, source)
        elif "_model_class" in config:
            trained = _from_smp(path, source)
        else:
            raise UserError(
                f"{source} holds no trained model: expected a run's workdir, a bundle (`jaxseg convert` writes one) or"
                " a folder of smp's save_pretrained, each of which has a config.json."
            )
    if dtype is not None:
        head = getattr(trained.model, "head_dtype", None)
        trained = dataclasses.replace(
            trained, model=create_model(**_arguments(trained.model), dtype=dtype, head_dtype=head)
        )
    return trained


def load_weights(variables: dict[str, Any], source: str | Path, *, replace_head: bool = False) -> dict[str, Any]:
    """Returns the weights of a trained model in place of `variables`, to go on training from.

    Args:
      variables: of the model to train; they say which arrays it needs.
      source: as for `load`; of a workdir the best checkpoint.
      replace_head: whether arrays outside "encoder" and "decoder" that have another shape, as the logits of another
        number of classes have, keep the values of `variables`.
    """
    return replace_variables(variables, load(source).variables, source, replace_head=replace_head)


def of_experiment(experiment: Experiment, variables: dict[str, Any]) -> TrainedModel:
    """Returns the model of a run that is still training; `variables` may be left empty until they are needed."""
    dataset, config = experiment.dataset, experiment.config
    classes, palette = _labels(dataset.num_classes, dataset.classes, dataset.palette)
    return TrainedModel(
        model=experiment.model,
        variables=variables,
        classes=classes,
        palette=palette,
        ignore=dataset.ignore,
        preprocessing=experiment.preprocessing,
        activation=_activation(config),
        source=f"{dataset.name}, in training",
        threshold=config.eval.threshold,
        values=_stored_values(dataset.values),
        config=config,
    )


def _activation(config: ConfigDict) -> Activation:
    """What the losses of a run take for granted; a sum of both kinds has trained the softmax too."""
    asks = [is_multilabel(lookup(LOSSES, term, "loss")) for term in config.loss.terms]
    return "sigmoid" if asks and all(asks) else "softmax"


def _read_config(path: Path) -> Mapping[str, Any]:
    """What config.json of a folder holds, {} if there is none; its keys tell what the folder is."""
    file = path / "config.json"
    return read_json(file, "Copy it again, or train again.") if file.is_file() else {}


def _from_workdir(workdir: Path, checkpoint: str | int) -> TrainedModel:
    config = read_config(workdir)
    check_ranges(config, "eval.")
    path = workdir / "dataset.json"
    if not path.exists():
        raise UserError(f"{path} is missing: the run was not started by `jaxseg train`, or the file was removed.")
    info = Fields(read_json(path), path, "Copy it again, or train again.")
    names = info.take("classes", is_list(is_text, range(1, LABELS + 1)), "the names of the classes")
    palette = info.take("palette", is_list(is_color, range(LABELS + 1)), "colors, (red, green, blue) from 0 to 255")
    ignore = info.take("ignore", is_ignored(len(names)), "a whole number, a label that no class has")
    name = plain(info.take("name", is_text, "text"))
    checkpoints = Checkpoints(workdir)
    try:
        step, variables = checkpoints.load(str(checkpoint))
    finally:
        checkpoints.close()
    for key in ("options", "encoder_options"):
        check_values(config.model[key].to_dict(), workdir / "config.json", f"model.{key}")
    with making(workdir / "config.json", len(jax.tree.leaves(variables))):
        model = build_model(config, len(names))
        check_fits(variables, model, checkpoints.directory / str(step))
    if "preprocessing" in info.values:
        preprocessing = read_preprocessing(info.group("preprocessing"))
    else:  # a run of before 2026-11-27 was evaluated without knowing how it had been trained, and goes on so
        preprocessing = Preprocessing(*pixel_statistics(model), bucket=config.eval.bucket)
    values = info.take("values", is_stored(len(names)), "the stored values of each class, or null", None)
    classes, palette = _labels(model.num_classes, map(plain, names), palette)
    return TrainedModel(
        model=model,
        variables=variables,
        classes=classes,
        palette=palette,
        ignore=ignore,
        preprocessing=preprocessing,
        activation=_activation(config),
        source=f"{name}, trained by jaxseg: run {workdir.resolve().name}, step {step}",
        threshold=config.eval.threshold,
        values=_stored_values(values),
        step=step,
        config=config,
        workdir=workdir,
    )


def _from_bundle(path: Path, source: str | Path) -> TrainedModel:
    model, variables, config = load_bundle(path)
    if not hasattr(model, "num_classes"):
        raise UserError(
            f"The bundle {source} holds an encoder alone, which has no classes to predict. Train a model on it:"
            f" config.model.encoder_weights={source}."
        )
    classes, palette = _labels(model.num_classes, config["classes"], config["palette"])
    return TrainedModel(
        model=model,
        variables=variables,
        classes=classes,
        palette=palette,
        ignore=config["ignore"],
        preprocessing=config["preprocessing"],
        activation="sigmoid" if model.num_classes == 1 else config["activation"],
        source=config["source"],
        threshold=config["threshold"],
        values=config["values"],
        calibration=config["calibration"],
        scores=config["scores"],
        license=config["license"],
    )


def _from_smp(path: Path, source: str | Path) -> TrainedModel:
    smp = read_smp_folder(path)
    mean, std = pixel_statistics(smp.module, smp.in_channels)
    classes, palette = _labels(smp.module.num_classes)
    return TrainedModel(
        model=smp.module,
        variables=smp.variables,
        classes=classes,
        palette=palette,
        ignore=255,
        preprocessing=Preprocessing.from_json({"mean": mean, "std": std}),
        activation=smp.activation,
        source=f"converted from smp: {source}",
    )


def is_stored(count: int) -> Callable[[Any], bool]:
    """Returns what says whether a value lists the stored values of each of `count` classes, or is None."""
    fits = is_list(is_list(is_whole(-LABELS, LABELS), range(1, LABELS)), (count,))
    return lambda value: value is None or fits(value)


def _stored_values(values: Any) -> tuple[int, ...] | None:
    """Of the values that stand for each class, the ones that predictions are written with."""
    if values is None:
        return None
    first = tuple(int(of_class[0]) for of_class in values)
    return (0, *first) if len(first) == 1 else first


def _labels(num_classes: int, classes: Any = (), palette: Any = ()) -> tuple[tuple[str, ...], tuple[Color, ...]]:
    """The names and the colors of all labels; what a source leaves open is filled in."""
    count = max(num_classes, 2)
    names, colors = tuple(classes), tuple(tuple(map(int, color)) for color in palette)
    if num_classes == 1:
        names, colors = names or ("foreground",), colors or palette_colors(2)[1:]
        if len(names) == 1:
            names = ("background", *names)
        if len(colors) == 1:
            colors = (palette_colors(1)[0], *colors)
    return names or tuple(f"class {i}" for i in range(count)), colors or palette_colors(count)


def _arguments(model: nn.Module) -> dict[str, Any]:
    described = dict(describe(model))
    return described.pop("options") | described
