"""Metrics against torchmetrics and smp.metrics: equal to 1e-6 where the definitions agree, both numbers where not."""

import jax
import numpy as np
import pytest

from jaxseg.metrics import binary_scores, create_metrics, merge, scores
from jaxseg.metrics.thresholds import average_precision

SHAPE, CLASSES, CUTS = (2, 8, 9), 4, (0.2, 0.4, 0.6, 0.8)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(CLASSES, 0.5), SHAPE).astype(np.float32)
    labels = np.where(rng.random(SHAPE) < 0.5, p.argmax(-1), rng.integers(0, CLASSES, SHAPE))
    return p, labels


@pytest.fixture(scope="module")
def tallies(batch):
    options = {"calibration": {"bins": 10}, "thresholds": {"thresholds": CUTS}}
    metrics = create_metrics(["confusion", "calibration", "thresholds"], options)

    def count(p, y):
        given = {"probabilities": p, "predictions": p.argmax(-1)}
        return {k: m.update(given[m.needs], y, where=None, num_classes=CLASSES) for k, m in metrics.items()}

    found = {name: merge([tally]) for name, tally in jax.jit(count)(*batch).items()}
    return found, {name: metrics[name].result(tally) for name, tally in found.items()}


@pytest.fixture(scope="module")
def torchmetrics(peers, require):
    require("lightning_utilities")
    return require("torchmetrics.functional.classification")


def test_confusion_matrix_scores(peers, torchmetrics, batch, tallies):
    p, labels = map(peers.torch.from_numpy, (np.moveaxis(batch[0], -1, 1).copy(), batch[1]))
    result = tallies[1]["confusion"]
    each = dict(num_classes=CLASSES, average="none")
    expected = {
        "iou": torchmetrics.multiclass_jaccard_index(p, labels, **each),
        "accuracy": torchmetrics.multiclass_recall(p, labels, **each),
        "precision": torchmetrics.multiclass_precision(p, labels, **each),
        "specificity": torchmetrics.multiclass_specificity(p, labels, **each),
        "f_beta": torchmetrics.multiclass_fbeta_score(p, labels, beta=2.0, **each),
        "dice": torchmetrics.multiclass_f1_score(p, labels, **each),
        "kappa": torchmetrics.multiclass_cohen_kappa(p, labels, num_classes=CLASSES),
        "mcc": torchmetrics.multiclass_matthews_corrcoef(p, labels, num_classes=CLASSES),
        "pixel_accuracy": torchmetrics.multiclass_accuracy(p, labels, num_classes=CLASSES, average="micro"),
        "mean_accuracy": torchmetrics.multiclass_accuracy(p, labels, num_classes=CLASSES, average="macro"),
    }
    for key, value in expected.items():
        np.testing.assert_allclose(result[key], value.numpy(), rtol=1e-6, err_msg=key)

    smp = peers.smp.metrics
    counts = smp.get_stats(p.argmax(1), labels, mode="multiclass", num_classes=CLASSES)
    counts = [c.sum(0, keepdim=True) for c in counts]
    expected = {
        "iou": smp.iou_score(*counts),
        "dice": smp.f1_score(*counts),
        "specificity": smp.specificity(*counts),
        "accuracy": smp.recall(*counts),
        "precision": smp.precision(*counts),
        "f_beta": smp.fbeta_score(*counts, beta=2.0),
    }
    for key, value in expected.items():
        np.testing.assert_allclose(result[key], value[0].numpy(), rtol=1e-6, err_msg=f"smp {key}")


def test_thresholds(peers, torchmetrics, batch, tallies):
    p = peers.torch.from_numpy(batch[0].reshape(-1, CLASSES).copy())
    masks = peers.torch.from_numpy(np.eye(CLASSES, dtype=int)[batch[1].ravel()])
    counts = tallies[0]["thresholds"].sums["counts"]
    ours = binary_scores(counts)
    for i, cut in enumerate(CUTS):
        options = dict(num_labels=CLASSES, threshold=cut, average="none")
        theirs = torchmetrics.multilabel_stat_scores(p, masks, **options).numpy()[:, :4]  # TP, FP, TN, FN
        np.testing.assert_array_equal(counts[:, i].T, theirs[:, [0, 1, 3, 2]])
        theirs = torchmetrics.multilabel_jaccard_index(p, masks, **options)
        np.testing.assert_allclose(ours["iou"][i], theirs.numpy(), rtol=1e-6)
        binary = [(p[:, k], masks[:, k], cut) for k in range(CLASSES)]
        theirs = [torchmetrics.binary_matthews_corrcoef(*arrays) for arrays in binary]
        np.testing.assert_allclose(ours["mcc"][i], theirs, rtol=1e-6)
        theirs = [torchmetrics.binary_cohen_kappa(*arrays) for arrays in binary]
        np.testing.assert_allclose(ours["kappa"][i], theirs, rtol=1e-5, atol=1e-7)  # float32 there
        theirs = peers.smp.metrics.get_stats(p, masks, mode="multilabel", threshold=cut)
        np.testing.assert_array_equal(counts[:, i], np.stack([c.sum(0).numpy() for c in theirs]))
    theirs = torchmetrics.multilabel_average_precision(
        p, masks, num_labels=CLASSES, average="none", thresholds=peers.torch.tensor(CUTS)
    )
    np.testing.assert_allclose(average_precision(counts), theirs.numpy(), rtol=1e-6)


def test_calibration(peers, torchmetrics, batch, tallies):
    p, labels = map(peers.torch.from_numpy, (np.moveaxis(batch[0], -1, 1).copy(), batch[1]))
    result = tallies[1]["calibration"]
    for key, norm in (("ece", "l1"), ("mce", "max")):
        theirs = torchmetrics.multiclass_calibration_error(p, labels, num_classes=CLASSES, n_bins=10, norm=norm)
        np.testing.assert_allclose(result[key], theirs.item(), rtol=2e-6, err_msg=key)  # float32 sums there
    nll = peers.torch.nn.functional.nll_loss(p.clamp_min(2.0**-126).log(), labels)
    np.testing.assert_allclose(result["nll"], nll.item(), rtol=1e-6)


def test_degenerate(peers, torchmetrics):
    """What is 0 / 0: nan here and out of the mean; the peers make it 0, or 1."""
    torch, smp = peers.torch, peers.smp.metrics
    labels, guess = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    ours = scores(np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(ours["iou"], [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(ours["miou"], 7 / 12)
    pair = torch.from_numpy(guess), torch.from_numpy(labels)
    assert torchmetrics.multiclass_jaccard_index(*pair, num_classes=3, average="none")[2] == 0
    macro = torchmetrics.multiclass_jaccard_index(*pair, num_classes=3, average="macro")
    np.testing.assert_allclose(macro, 7 / 12, rtol=1e-6)
    counts = smp.get_stats(*(x[None] for x in pair), mode="multiclass", num_classes=3)
    assert smp.iou_score(*counts)[0, 2] == 1
    np.testing.assert_allclose(smp.iou_score(*counts, reduction="macro"), (2 / 3 + 1 / 2 + 1) / 3, rtol=1e-6)
    # One label, one prediction: no correlation exists.
    assert np.isnan(scores(np.array([[4, 0], [0, 0]]))["mcc"])
    nothing = torch.zeros(4, dtype=torch.int64)
    assert torchmetrics.multiclass_matthews_corrcoef(nothing, nothing, num_classes=2) in (0, 1)
