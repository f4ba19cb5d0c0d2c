"""Evaluation equals the obvious loop over images, whatever their sizes and however they are grouped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.metrics import confusion_matrix, jaccard_score

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data import Dataset, create_dataset
from jaxseg.data import bands as data_bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.evaluation.data import find_dataset
from jaxseg.evaluation.evaluator import Evaluator, options_of
from jaxseg.experiment.devices import make_mesh
from jaxseg.inference import Calibration, Predictor
from jaxseg.inference.predict import with_changes
from jaxseg.metrics import Metric, Tally, create_metrics
from jaxseg.models import create_model, init
from jaxseg.trained import TrainedModel

SIZES = [(40, 33), (32, 32), (40, 40), (17, 30), (33, 64), (32, 30), (64, 33)]


@pytest.fixture(scope="module")
def dataset():
    whole = create_dataset("shapes", size=64, train=1, val=len(SIZES))
    records = []
    for i, (h, w) in enumerate(SIZES):
        record = dict(whole.splits["val"][i])
        label = record["label"][:h, :w].copy()
        label[:3] = whole.ignore
        records.append({"image": record["image"][:h, :w], "label": label, "name": record["name"]})
    return Dataset(whole.name, whole.classes, whole.palette, {"val": records}, whole.ignore)


def _trained(dataset):
    model = create_model(
        "unet",
        "plain",
        num_classes=dataset.num_classes,
        encoder_options={"widths": (4, 6), "convs": 1},
        decoder_channels=(6, 4),
    )
    fields = dict(
        classes=dataset.classes,
        palette=dataset.palette,
        ignore=255,
        preprocessing=Preprocessing((127.5,) * 3, (64.0,) * 3),
    )
    return TrainedModel(model, init(model, jax.random.key(0)), **fields)


def _naive(trained, dataset):
    matrix, mious, scored, truths, losses = 0, [], [], [], []
    apply = jax.jit(lambda v, x: trained.model.apply(v, x, train=False)["logits"])
    for record in dataset.splits["val"]:
        h, w = record["label"].shape
        image = np.full((-(-h // 32) * 32, -(-w // 32) * 32, 3), 128.0, np.float32)  # round(127.5) to even
        image[:h, :w] = record["image"]
        logits = np.asarray(apply(trained.variables, jnp.asarray((image - 127.5) / 64.0)[None]))[0, :h, :w]
        counts = record["label"] != dataset.ignore
        truth, guess = record["label"][counts], logits.argmax(-1)[counts]
        matrix = matrix + confusion_matrix(truth, guess, labels=range(dataset.num_classes))
        mious.append(jaccard_score(truth, guess, labels=np.union1d(truth, guess), average="macro"))
        scored.append(logits[counts].astype(np.float64))
        truths.append(truth.astype(int))
        losses.append(_loss(scored[-1], truths[-1]))
    return matrix, np.mean(mious), np.concatenate(scored), np.concatenate(truths), np.mean(losses)


def _loss(logits, truth):
    return -special.log_softmax(logits, -1)[np.arange(len(truth)), truth].mean()


def test_equals_the_obvious_loop(dataset, monkeypatch):
    monkeypatch.setattr("jaxseg.evaluation.evaluator._MERGED", 2)  # of three batches: merged on the way, too
    trained, config = _trained(dataset), default_config()
    config.eval.update(batch_size=3, metrics=("confusion", "spread", "calibration"))
    config.eval.metric_options = {"spread": {"samples": 10}}
    calibration = Calibration("temperature", (2.0,), (0.0,), checkpoint=1, split="val")
    evaluator = Evaluator(trained, dataset, make_mesh(1), **options_of(config), calibration=calibration)
    result = evaluator("val", images=4)
    matrix, miou, logits, truth, loss = _naive(trained, dataset)
    np.testing.assert_array_equal(result.matrix, matrix)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(result.scores["nll"], _loss(logits, truth), rtol=1e-5)
    np.testing.assert_allclose(result.scores["calibrated"]["nll"], _loss(2 * logits, truth), rtol=1e-5)
    np.testing.assert_allclose(result.scores["image_miou"], miou, rtol=1e-6)
    assert result.scores["spread"]["images"] == len(SIZES)
    assert "calibration, calibrated: ece" in result.table(dataset.classes)
    assert result.matrix.dtype == np.int64
    assert [sample["label"].shape for sample in result.samples] == SIZES[::2]
    assert all(sample["prediction"].shape == sample["label"].shape for sample in result.samples)


def test_a_batch_is_read_when_the_next_one_is_sent(dataset):
    """The device computes it while the host counts the one before."""
    evaluator, sent = Evaluator(_trained(dataset), dataset, make_mesh(1), batch_size=3), []
    step = evaluator._step
    evaluator._step = lambda *args, **options: sent.append(options["canvas"]) or step(*args, **options)
    read = 0
    for _, _, _, records in evaluator._results("val", evaluator.variables, 0, iter):
        read += 1
        assert records and len(sent) == min(read + 1, 3)
    assert read == len(sent) == 3


class Flat:
    """Stands for a model that cannot tell the classes apart."""

    num_classes = 7

    def apply(self, variables, images, *, train):
        return {"logits": jnp.zeros((*images.shape[:3], 7)) + 0 * images[..., :1]}


def test_scores_are_of_what_refinement_makes_of_each_image(dataset):
    trained = dataclasses.replace(_trained(dataset), model=Flat(), variables={})
    trained = with_changes(trained, bucket=64)  # one size to compile

    def first_row(logits, images, sizes):
        """Names class 1, and class 2 in the image's own last column."""
        column = jnp.arange(logits.shape[2])[None, None] == sizes[:, 1, None, None] - 1
        return jax.nn.one_hot(jnp.where(column, 2, 1), 7) + logits

    evaluation = Evaluator(trained, dataset, make_mesh(1), batch_size=3, refine=first_row)("val", images=7)
    assert [sample["prediction"].shape for sample in evaluation.samples] == SIZES
    for sample in evaluation.samples:
        assert (sample["prediction"][:, :-1] == 1).all() and (sample["prediction"][:, -1] == 2).all()
    assert np.isnan(evaluation.loss)  # no loss was asked for


def test_metrics_of_borders_know_the_size_of_every_image(dataset):
    """Its first three rows are ignored, and the arrays padded: neither is where the image ends."""
    trained = dataclasses.replace(_trained(dataset), model=Flat(), variables={})
    trained, seen = with_changes(trained, bucket=64), []

    def update(predictions, labels, *, where, num_classes, sizes):
        return Tally({}, {"size": sizes})

    metrics = create_metrics(("confusion",)) | {
        "size": Metric("predictions", update, lambda tally: seen.append(tally.images["size"]) or {}, sized=True)
    }
    Evaluator(trained, dataset, make_mesh(1), batch_size=3, metrics=metrics)("val")
    assert sorted(map(tuple, seen[0].tolist())) == sorted(SIZES)


class Gain:
    """Stands for a model of one class, whose logit is the red channel times a gain."""

    num_classes = 1

    def apply(self, variables, images, *, train):
        return {"logits": images[..., :1] * variables["gain"]}


def test_one_class_and_variables_of_a_model_in_training():
    """The score is that of logit > 0, the loss that of the one logit; variables that are handed in go before."""
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (8, 8, 3), np.uint8), random.integers(0, 2, (8, 8)).astype(np.uint8)
    two = Dataset("two", ("no", "yes"), ((0, 0, 0), (9, 9, 9)), {"val": [dict(image=image, label=label, name="a")]})
    fields = dict(
        classes=two.classes,
        palette=two.palette,
        ignore=255,
        preprocessing=Preprocessing((128.0,) * 3, (64.0,) * 3, bucket=8),
    )
    trained, config = TrainedModel(Gain(), {"gain": 1.0}, **fields, activation="sigmoid"), default_config()
    config.loss.terms = {"binary_cross_entropy": 1.0}
    evaluator = Evaluator(trained, two, make_mesh(1), **options_of(config))
    for gain, variables in ((1.0, None), (-2.0, {"gain": -2.0})):
        evaluation = evaluator("val", variables=variables)
        logit = gain * (image[..., 0] - 128.0) / 64.0
        np.testing.assert_array_equal(evaluation.matrix, confusion_matrix(label.ravel(), logit.ravel() > 0))
        np.testing.assert_allclose(evaluation.loss, -special.log_expit(logit * (2.0 * label - 1)).mean(), rtol=1e-5)


@pytest.mark.parametrize("way", ["whole", "tiles", "variants", "refined"])
def test_the_loss_of_one_class_is_of_its_probability_however_it_is_predicted(way):
    """Means of probabilities, and refiners, have scores of two labels: that of the class alone is no logit."""
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (24, 24, 3), np.uint8), random.integers(0, 2, (24, 24)).astype(np.uint8)
    two = Dataset("two", ("no", "yes"), ((0, 0, 0), (9, 9, 9)), {"val": [dict(image=image, label=label, name="a")]})
    seen = Preprocessing((128.0,) * 3, (64.0,) * 3, bucket=8)
    fields = dict(classes=two.classes, palette=two.palette, ignore=255, preprocessing=seen, activation="sigmoid")
    config = default_config()
    config.loss.terms = {"binary_cross_entropy": 1.0}
    options = (
        options_of(config)
        | {
            "whole": {},
            "tiles": {"tile": 16, "tta": "flip"},
            "variants": {"tta": "flip"},
            "refined": {"refine": lambda logits, images, sizes: jax.nn.log_softmax(logits)},
        }[way]
    )
    evaluation = Evaluator(TrainedModel(Gain(), {"gain": 1.0}, **fields), two, make_mesh(1), **options)("val")
    logit = (image[..., 0] - 128.0) / 64.0
    np.testing.assert_allclose(evaluation.loss, -special.log_expit(logit * (2.0 * label - 1)).mean(), rtol=1e-5)


def test_an_image_that_holds_nothing_is_not_in_the_mean_of_the_losses():
    """Its labels are ignored, as in training: it has no loss, and 0 would be one."""
    random = np.random.default_rng(0)
    image, label = random.uniform(0, 255, (8, 8, 1)).astype(np.float32), random.integers(0, 2, (8, 8)).astype(np.uint8)
    records = [dict(image=x, label=label, name="a") for x in (image, np.full_like(image, np.nan))]
    bands = data_bands.Bands(("height",), "float32", ((0, 255),))
    two = Dataset("two", ("no", "yes"), ((0, 0, 0), (9, 9, 9)), {"val": records}, bands=bands)
    seen = Preprocessing((128.0,), (64.0,), bands, bucket=8)
    fields = dict(classes=two.classes, palette=two.palette, ignore=255, preprocessing=seen, activation="sigmoid")
    config = default_config()
    config.loss.terms = {"binary_cross_entropy": 1.0}
    evaluator = Evaluator(TrainedModel(Gain(), {"gain": 1.0}, **fields), two, make_mesh(1), **options_of(config))
    logit = (image[..., 0] - 128.0) / 64.0
    wanted = -special.log_expit(logit * (2.0 * label - 1)).mean()
    np.testing.assert_allclose(evaluator("val").loss, wanted, rtol=1e-5)


class Bands:
    """Stands for a model whose logits are the bands of the image."""

    num_classes = 3

    def apply(self, variables, images, *, train):
        return {"logits": images}


def test_metrics_of_sigmoids_judge_the_sigmoids(dataset):
    """NLL and average precision are of what the network says; refined and calibrated, of what that makes of it."""
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (8, 8, 3), np.uint8), random.integers(0, 3, (8, 8)).astype(np.uint8)
    names, palette = tuple("abc"), ((0, 0, 0), (9, 9, 9), (5, 5, 5))
    data = Dataset("three", names, palette, {"val": [dict(image=image, label=label, name="a")]})
    seen = Preprocessing((128.0,) * 3, (64.0,) * 3, bucket=8)
    fields = dict(classes=names, palette=palette, ignore=255, preprocessing=seen, activation="sigmoid")
    trained, config = TrainedModel(Bands(), {}, **fields), default_config()
    config.loss.terms = {"binary_cross_entropy": 1.0}
    config.eval.metrics = ("confusion", "calibration")
    options = options_of(config)
    logits, own = (image - 128.0) / 64, label[..., None] == np.arange(3)
    halved = Calibration("temperature", (0.5,), (0.0,), checkpoint=1, split="val", activation="sigmoid")
    scores = Evaluator(trained, data, make_mesh(1), **options, calibration=halved)("val").scores
    np.testing.assert_allclose(scores["nll"], -special.log_expit(logits)[own].mean(), rtol=1e-5)
    np.testing.assert_allclose(scores["calibrated"]["nll"], -special.log_expit(logits / 2)[own].mean(), rtol=1e-5)
    kept = Evaluator(trained, data, make_mesh(1), **options, refine=lambda logits, images, sizes: logits)
    shares = special.expit(logits) / special.expit(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(kept("val").scores["nll"], -np.log(shares[own]).mean(), rtol=1e-5)


def test_other_classes_are_refused(dataset):
    other = Dataset("other", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {"val": []})
    with pytest.raises(UserError, match="'other' has 2 classes, the model 7: background, disk"):
        Evaluator(_trained(dataset), other)


def test_classes_in_another_order_are_refused_and_other_names_are_said(dataset):
    """As many classes are no proof: with two of them swapped every score would be of the wrong class."""
    trained, names = _trained(dataset), list(dataset.classes)
    names[1], names[2] = names[2], names[1]
    swapped = dataclasses.replace(dataset, classes=tuple(names))
    with pytest.raises(UserError, match="1 is 'square' but 'disk' in the model, 2 is .*Their order differs"):
        Evaluator(trained, swapped)
    renamed = dataclasses.replace(dataset, classes=("void", *dataset.classes[1:]))
    with pytest.warns(UserWarning, match="0 is 'void' but 'background' in the model. They are scored"):
        Evaluator(trained, renamed)
    unnamed = dataclasses.replace(trained, classes=tuple(f"class {i}" for i in range(7)))
    Evaluator(unnamed, swapped)  # whose classes have no names


def test_data_is_the_runs_own_or_named(dataset):
    """A root and options that are given go before the run's; a model without a run needs a name."""
    config = default_config()
    config.data.update(name="shapes", eval_split="val", label_ignore=(3,))
    config.data.options = {"size": 32, "train": 1, "val": 2}
    bundle = _trained(dataset)
    run = dataclasses.replace(bundle, config=config)
    found, split = find_dataset(run)
    assert split == "val" and len(found.splits["val"]) == 2
    labels = np.concatenate(
        [record["label"].ravel() for record in create_dataset("shapes", size=32, val=2).splits["val"]]
    )
    ours = np.concatenate([record["label"].ravel() for record in found.splits["val"]])
    assert (labels == 3).any()
    np.testing.assert_array_equal(ours, np.where(labels == 3, 255, labels))
    assert len(find_dataset(run, options={"val": 5})[0].splits["val"]) == 5
    assert find_dataset(run, "train")[1] == "train"
    assert len(find_dataset(bundle, name="shapes", options={"val": 3})[0].splits["val"]) == 3
    with pytest.raises(UserError, match="Name the data set, and where it is: --data NAME --root DIR"):
        find_dataset(bundle)
    with pytest.raises(UserError, match="Unknown split 'tset'"):
        find_dataset(run, "tset")


@pytest.mark.parametrize("resize", [Resize(), Resize(factor=0.5)])
def test_images_in_tiles_score_what_is_predicted(dataset, resize):
    """Whatever cuts, averages and enlarges: the scores are those of the labels that a user gets."""
    trained = _trained(dataset)
    seen = dataclasses.replace(trained.preprocessing, resize=resize, bucket=8)
    trained = dataclasses.replace(trained, preprocessing=seen)
    ways = {"tile": 32, "overlap": 0.5, "blend": "gaussian", "tta": "flip,1.5"}
    metrics = create_metrics(("confusion", "calibration"), {})
    options = {"metrics": metrics, "batch_size": 3, "loss": lambda logits, labels, where, step: logits.mean()}
    predictor, matrix, mean = Predictor(trained, **ways), 0, []
    found = Evaluator(trained, dataset, make_mesh(1), **options, **ways)("val", images=len(SIZES))
    assert found.images == len(SIZES)
    cut = 0
    for record, sample in zip(dataset.splits["val"], found.samples, strict=True):
        label = predictor(record["image"])
        counts = record["label"] != dataset.ignore
        matrix = matrix + confusion_matrix(record["label"][counts], label[counts], labels=range(dataset.num_classes))
        np.testing.assert_array_equal(sample["prediction"], label)
        cut += predictor.tiling(label.shape) is not None
        p = predictor.probabilities(record["image"])[counts]
        mean.append(-np.log(p[np.arange(len(p)), record["label"][counts]]).sum())
    assert 0 < cut < len(SIZES) or resize
    np.testing.assert_array_equal(found.matrix, matrix)
    np.testing.assert_allclose(found.scores["nll"], sum(mean) / matrix.sum(), rtol=1e-4)
    assert np.isfinite(found.loss)
