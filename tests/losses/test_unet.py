import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.losses import unet_cross_entropy, unet_weight_map
from tests.losses.test_boundary import to_nearest


def test_unet_weights_are_the_definition():
    rng = np.random.default_rng(2)
    cells = np.where(rng.random((3, 9, 11)) < 0.06, rng.integers(1, 5, (3, 9, 11)), 0)
    cells[1] = np.where(cells[1] == cells[1].max(), cells[1], 0)  # one cell
    cells[2] = 0
    where = rng.random(cells.shape) < 0.8
    where[0, cells[0] == cells[0].max()] = False  # a cell that nobody may see
    options = {"w0": 7.0, "sigma": 3.0, "class_weights": (0.5, 2.0)}
    spoiled = np.where(where, cells, 3)
    weights = jax.jit(lambda c, w: unet_weight_map(c, where=w, **options))(spoiled, where)
    expected = np.zeros(cells.shape)
    for i, image in enumerate(np.where(where, cells, 0)):
        found = sorted((to_nearest(image == k) for k in np.unique(image[image > 0])), key=lambda x: x[0, 0])
        far = np.full(image.shape, np.inf)
        nearest, second = np.sort([*found, far, far], axis=0)[:2]
        border = 7.0 * np.exp(-((nearest + second) ** 2) / 18)
        expected[i] = np.where(where[i], np.where(image > 0, 2.0, 0.5 + border), 0)
    assert (expected[0] > 0.6).sum() > 5 and expected[1].max() <= 2
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_cells_are_the_regions_of_the_label():
    """Against SciPy's regions and distances, in float64."""
    rng = np.random.default_rng(4)
    labels = np.where(rng.random((2, 12, 13)) < 0.15, 2, rng.integers(0, 2, (2, 12, 13)))
    where = rng.random(labels.shape) < 0.9
    logits = rng.normal(size=(*labels.shape, 3)).astype(np.float32)
    options = {"cell_class": 2, "w0": 8.0, "sigma": 2.0, "class_weights": (1.0, 0.5, 2.0)}
    loss = jax.jit(jax.value_and_grad(lambda x, y: unet_cross_entropy(x, y, where=where, **options)))
    value, gradient = loss(logits, np.where(where, labels, 2))  # a cell that nobody may see

    weights = np.array([1.0, 0.5, 2.0])[labels]
    for i in range(2):
        regions, count = ndimage.label((labels[i] == 2) & where[i])
        nearest, second = np.sort([to_nearest(regions == k) for k in range(1, count + 1)], axis=0)[:2]
        weights[i] += np.where(regions == 0, 8.0 * np.exp(-((nearest + second) ** 2) / 8), 0)
    weights *= where
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    right = np.eye(3)[labels]
    expected = (weights * -np.log((p * right).sum(-1))).sum() / weights.sum()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    slope = weights[..., None] * (p - right) / weights.sum()
    np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "function, options, message",
    [
        (unet_weight_map, {"sigma": 0.0}, "sigma > 0.*got.*sigma 0.0"),
        (unet_weight_map, {"class_weights": (1.0,)}, "two class_weights"),
        (unet_cross_entropy, {"cell_class": 3}, r"`cell_class` must be a class id in \[0, 3\).*got 3"),
        (unet_cross_entropy, {"w0": -1.0}, "w0 >= 0"),
        (unet_cross_entropy, {"class_weights": (1.0,)}, "each of the 3 classes"),
    ],
)
def test_wrong_options_are_named(function, options, message):
    labels = jnp.zeros((1, 4, 5), int)
    arrays = (labels,) if function is unet_weight_map else (jnp.zeros((1, 4, 5, 3)), labels)
    with pytest.raises(UserError, match=message):
        function(*arrays, **options)
