"""Losses and metrics along borders against MONAI's, where the definitions agree."""

import jax
import numpy as np
import pytest

from jaxseg.losses import hausdorff
from jaxseg.metrics.surface import surface_distances
from tests.metrics.test_surface import C, images


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spacing", [None, (0.8, 1.4)])
def test_surface_distances(peers, require, spacing):
    """Random and degenerate images; MONAI, too, says inf where one surface is missing and nan without either.

    But not in its percentile: between two infinite distances it is nan, as if the class were absent; and its rank is
    computed in float32, which costs it digits (tests/metrics/ has NumPy's, in float64).
    """
    metrics, torch = require("monai.metrics"), peers.torch
    predictions, labels = images()
    tolerances, given = (1.0, 2.5, 0.0), {"spacing": spacing, "include_background": True}
    options = {"num_classes": C, "tolerance": tolerances, "spacing": spacing}
    ours = jax.jit(lambda p, y: surface_distances(p, y, **options))(predictions, labels)
    hot = [torch.from_numpy(np.moveaxis(np.eye(C, dtype=np.float32)[x], -1, 1).copy()) for x in (predictions, labels)]
    theirs = {
        "hausdorff": metrics.compute_hausdorff_distance(*hot, **given),
        "hausdorff95": metrics.compute_hausdorff_distance(*hot, percentile=95, **given),
        "average_surface_distance": metrics.compute_average_surface_distance(*hot, symmetric=True, **given),
        "average_distance_to_label": metrics.compute_average_surface_distance(*hot, **given),
        "surface_dice": metrics.compute_surface_dice(*hot, list(tolerances), **given),
    }
    theirs = {key: value.numpy() for key, value in theirs.items()}
    missed = np.isinf(theirs["hausdorff"])
    assert missed.sum() == 3 and np.isnan(theirs["hausdorff95"][missed]).any()
    theirs["hausdorff95"][missed] = np.inf
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        rtol = 3e-5 if key == "hausdorff95" else 1e-6
        np.testing.assert_allclose(ours[key], value, rtol=rtol, atol=1e-7, err_msg=key)
    if spacing is None:
        assert abs(ours["hausdorff95"][4, 0] - 0.15) < 1e-7 < 2e-7 < abs(theirs["hausdorff95"][4, 0] - 0.15)


def test_hausdorff_loss(peers, require, compare_losses):
    theirs, torch = require("monai.losses"), peers.torch
    rng = np.random.default_rng(5)
    _, labels = images()
    labels = labels[[0, 1, 3, 5]]
    logits = (2 * rng.normal(size=(*labels.shape, C))).astype(np.float32)
    y = torch.from_numpy(labels[:, None].astype(np.int64))

    def peer(**options):
        return lambda x: theirs.HausdorffDTLoss(softmax=True, to_onehot_y=True, **options)(x, y)

    pairs = {
        "all classes": (lambda x: hausdorff(x, labels), peer(include_background=True)),
        "without the first": (lambda x: hausdorff(x, labels, classes=(1, 2), alpha=1.0), peer(alpha=1.0)),
    }
    compare_losses(pairs, logits)
