import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.cross_entropy import cross_entropy, hardest, kth_largest, of_label

SHAPE, C = (2, 3, 4), 5
CLASS_WEIGHTS = (0.5, 2.0, 0.0, 1.0, 3.0)


def reference(
    logits, labels, where, *, class_weights=None, label_smoothing=0.0, balanced=False, pixel_weights=None, kept=None
):
    """The definition, pixel by pixel, in float64."""
    if balanced:
        present = [max((labels[where] == k).sum(), 1) for k in range(C)]
        class_weights = np.divide(np.ones(C) if class_weights is None else class_weights, present)
    over = under = 0.0
    for pixel in np.ndindex(labels.shape):
        if not where[pixel] or (kept is not None and not kept[pixel]):
            continue
        scores = logits[pixel].astype(np.float64)
        log_p = scores - np.logaddexp.reduce(scores)
        w = np.ones(len(scores)) if class_weights is None else np.asarray(class_weights, np.float64)
        u = 1.0 if pixel_weights is None else float(pixel_weights[pixel])
        target = (1 - label_smoothing) * np.eye(len(scores))[labels[pixel]] + label_smoothing / len(scores)
        over += u * -(target * w * log_p).sum()
        under += u * w[labels[pixel]]
    return over / under if under else 0.0


def slope(function, x, step=1e-4):
    """Central differences of a float64 function."""
    result = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        bump = np.zeros(x.shape)
        bump[i] = step
        result[i] = (function(x + bump) - function(x - bump)) / (2 * step)
    return result


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    logits = (3 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C, SHAPE), rng.random(SHAPE) < 0.8, rng.random(SHAPE).astype(np.float32)


OPTIONS = {
    "plain": {},
    "weighted": {"class_weights": CLASS_WEIGHTS},
    "smooth": {"label_smoothing": 0.1},
    "weighted and smooth": {"class_weights": CLASS_WEIGHTS, "label_smoothing": 0.3},
    "balanced": {"balanced": True},
    "balanced, weighted and smooth": {"balanced": True, "class_weights": CLASS_WEIGHTS, "label_smoothing": 0.1},
    "pixels": {"pixel_weights": True},
    "everything": {"class_weights": CLASS_WEIGHTS, "label_smoothing": 0.1, "pixel_weights": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_value_and_gradient_are_the_definition(batch, options):
    logits, labels, where, pixel_weights = batch
    if "pixel_weights" in options:
        options = {**options, "pixel_weights": pixel_weights}
    step = jax.jit(jax.value_and_grad(lambda x: cross_entropy(x, labels, where=where, **options)))
    value, gradient = step(logits)
    np.testing.assert_allclose(value, reference(logits, labels, where, **options), rtol=1e-6)
    expected = slope(lambda x: reference(x, labels, where, **options), logits.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_extreme_logits_keep_their_digits(batch):
    logits, labels, where, _ = batch
    for scale in (1e4, -1e4, 1e-4):
        value = cross_entropy(jnp.asarray(logits * scale), labels, where=where)
        np.testing.assert_allclose(value, reference((logits * np.float32(scale)), labels, where), rtol=1e-6)
    near = jnp.array([[[[1e4, 1e4 + 0.5]]]])
    np.testing.assert_allclose(cross_entropy(near, jnp.array([[[0]]])), math.log1p(math.exp(0.5)), rtol=1e-6)


def test_weights_that_leave_nothing_give_zero(batch):
    logits, labels, where, _ = batch
    for options in ({"class_weights": np.zeros(C)}, {"pixel_weights": jnp.zeros(SHAPE)}):
        value, gradient = jax.value_and_grad(lambda x, o=options: cross_entropy(x, labels, where=where, **o))(logits)
        assert value == 0
        assert not np.asarray(gradient).any()


def test_nan_in_the_weights_of_ignored_pixels_is_not_read(batch):
    logits, labels, where, pixel_weights = batch
    spoiled = np.where(where, pixel_weights, np.nan)
    step = jax.value_and_grad(lambda x, u: cross_entropy(x, labels, where=where, pixel_weights=u))
    value, gradient = step(logits, spoiled)
    expected, expected_gradient = step(logits, pixel_weights)
    assert value == expected
    np.testing.assert_array_equal(gradient, expected_gradient)


@pytest.mark.parametrize("keep, threshold", [(0.3, None), (1.0, None), (None, 0.4), (0.3, 0.4), (0.01, 0.01)])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS], ids=["", "weighted"])
def test_mining_keeps_the_hardest(batch, keep, threshold, class_weights):
    logits, labels, where, _ = batch
    scores = logits.astype(np.float64)
    log_p = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    hardness = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    kept = np.zeros(SHAPE, bool)
    if threshold is not None:
        kept |= np.exp(-hardness) < threshold
    if keep is not None:
        order = sorted(zip(*np.nonzero(where), strict=True), key=lambda pixel: -hardness[pixel])
        for pixel in order[: max(round(keep * where.sum()), 1)]:
            kept[pixel] = True
    options = {"class_weights": class_weights}

    def mined(x):
        return cross_entropy(x, labels, where=where, ohem_keep=keep, ohem_threshold=threshold, **options)

    value, gradient = jax.jit(jax.value_and_grad(mined))(logits)
    np.testing.assert_allclose(value, reference(logits, labels, where, kept=kept, **options), rtol=1e-6)
    expected = slope(lambda x: reference(x, labels, where, kept=kept, **options), scores)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_mining_with_nothing_to_keep(batch):
    logits, labels, _, _ = batch
    sure = 100.0 * np.eye(C)[labels]
    assert cross_entropy(jnp.asarray(sure), labels, ohem_threshold=0.5) == 0
    assert cross_entropy(jnp.asarray(logits), labels, where=jnp.zeros(SHAPE, bool), ohem_keep=0.5) == 0


def test_mining_keeps_ties():
    values = jnp.array([2.0, 1.0, 2.0, 0.0])
    everywhere = jnp.ones(4, bool)
    assert hardest(values, everywhere, keep=0.25, threshold=None).tolist() == [True, False, True, False]


def test_kth_largest_is_exact():
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.random(50) * 10.0 ** rng.integers(-30, 30, 50), [0.0, 0.0, np.inf]]).astype(np.float32)
    where = rng.random(53) < 0.7
    find = jax.jit(kth_largest)
    for k, expected in enumerate(np.sort(values[where])[::-1], 1):
        assert find(values, where, k) == expected
    assert find(values, where, int(where.sum()) + 1) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"label_smoothing": 1.5}, r"`label_smoothing` must be in \[0, 1\], got 1.5"),
        ({"ohem_keep": 0.0}, r"`ohem_keep` must be in \(0, 1\], got 0.0"),
        ({"ohem_threshold": 70}, r"`ohem_threshold` must be in \(0, 1\], got 70"),
        ({"class_weights": (1.0, 2.0)}, r"`class_weights` must hold one number for each of the 5 classes"),
        ({"pixel_weights": np.ones((2, 3))}, r"`pixel_weights` has shape \(2, 3\), expected .* \(2, 3, 4\)"),
    ],
)
def test_wrong_options_are_named(batch, options, message):
    logits, labels, _, _ = batch
    with pytest.raises(UserError, match=message):
        cross_entropy(jnp.asarray(logits), jnp.asarray(labels), **options)


def test_the_maximum_is_a_loop_of_its_own_on_a_gpu(batch):
    """Without the barrier XLA makes a Triton kernel of the softmax, with rows of few classes; see docs/gpu."""
    logits, labels, where, _ = batch
    step = jax.jit(jax.value_and_grad(lambda x: cross_entropy(x, labels, where=where)))
    text = step.trace(logits).lower(lowering_platforms=("cuda",)).as_text()
    maximum = text.index("stablehlo.maximum")
    assert maximum < text.index("stablehlo.optimization_barrier") < text.index("stablehlo.exponential")


def test_the_barrier_stops_no_transformation(batch):
    logits, labels, where, _ = batch
    tangent = logits[..., ::-1]

    def loss(x):
        return cross_entropy(x, labels, where=where)

    def directional(x):
        return jax.jvp(loss, (x,), (tangent,))[1]

    forward = jax.jit(directional)(logits)
    np.testing.assert_allclose(forward, (jax.grad(loss)(logits) * tangent).sum(), atol=1e-6)
    # The Hessian is symmetric: d(H t)·t by forward over reverse and by reverse over forward.
    product = jax.jvp(jax.grad(loss), (logits,), (tangent,))[1]
    np.testing.assert_allclose(product, jax.grad(directional)(logits), atol=1e-6)
    assert np.abs(product).max() > 1e-3
    many = jax.vmap(jax.grad(loss))(jnp.stack([logits, 2 * logits]))
    np.testing.assert_allclose(many[1], jax.grad(loss)(2 * logits), atol=1e-7)


def test_the_gradient_needs_no_memory_as_large_as_the_logits():
    shape = (2, 64, 64, 21)
    logits, labels = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:-1], jnp.int32)
    where = jax.ShapeDtypeStruct(shape[:-1], jnp.bool_)
    step = jax.jit(jax.value_and_grad(lambda x, y, w: cross_entropy(x, y, where=w)))
    memory = step.lower(logits, labels, where).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * np.prod(shape) / 2  # besides the gradient itself


@pytest.mark.parametrize("classes", [32, 33])
def test_the_value_of_the_label_and_its_derivatives(classes):
    values = jnp.linspace(-3.0, 4.0, 2 * classes).reshape(2, classes)
    target = jnp.zeros((2, classes), bool).at[0, 5].set(True)  # the second pixel has no class

    def slope(values):
        return jax.grad(lambda v: (of_label(v, target) ** 3).sum())(values)

    expected = jnp.where(target, values, 0)
    np.testing.assert_array_equal(of_label(values, target), expected.sum(-1))
    np.testing.assert_allclose(slope(values), 3 * expected**2, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(slope, (values,), (values,))[1], 6 * expected**2, rtol=1e-6)


def test_not_even_nan_in_ignored_pixels_is_read(batch):
    logits, labels, where, pixel_weights = batch
    options = {"class_weights": jnp.array(CLASS_WEIGHTS), "label_smoothing": 0.1, "pixel_weights": pixel_weights}
    spoiled = np.where(where[..., None], logits, np.nan)

    def slopes(logits):
        def loss(logits, class_weights):
            return cross_entropy(logits, labels, where=where, **{**options, "class_weights": class_weights})

        return jax.value_and_grad(loss, argnums=(0, 1))(logits, options["class_weights"])

    jax.tree.map(np.testing.assert_array_equal, slopes(spoiled), slopes(np.where(where[..., None], logits, 0)))
