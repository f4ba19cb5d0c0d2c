"""Every entry of LOSSES keeps the contract of jaxseg/losses/__init__.py.

A new loss needs no line here, unless it is one of the exceptions that the names in capitals tell.
"""

import inspect
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_vjp

from jaxseg.checks import UserError
from jaxseg.losses import LOSSES, is_multilabel

SHAPE, CLASSES = (2, 4, 5), 3
# The slope of the Jaccard loss along an error depends on how many pixels are wrong by more: on its rank.
SORTS = {"lovasz_softmax", "lovasz_hinge"}
# A hinge teaches nothing beyond its margin; clDice only where a middle line is, of the map or of the label.
TEACH_SOME_PIXELS = {"lovasz_hinge", "soft_cldice", "sigmoid_cldice"}
# A single pixel varies with no other and has no middle line: covariances and skeletons are 0 there.
NEED_NEIGHBORS = {
    *("region_mutual_information", "sigmoid_region_mutual_information"),
    *("soft_cldice", "sigmoid_cldice"),
}
# A distance to the border is negative inside the region, so the least value of the boundary loss is below 0.
SIGNED = {"boundary"}
# A single pixel has no border, hence no distance to one: the losses made of distances are 0 there.
NEED_A_BORDER = {"boundary", "hausdorff"}
ARRAYS = ("logits", "labels", "where", "pixel_weights")

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(2 * rng.normal(size=(*SHAPE, CLASSES)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, SHAPE), jnp.int32)
    return logits, labels, jnp.asarray(rng.random(SHAPE) < 0.7)


@cache
def step_of(loss):
    """Value and gradient of (logits, labels, where), compiled once for all tests: compiling is what they cost."""
    step = jax.value_and_grad(lambda logits, labels, where: loss(logits, labels, where=where))
    return jax.jit(step)


@every_loss
def test_signature(loss):
    parameters = inspect.signature(loss).parameters
    assert list(parameters)[:3] == ["logits", "labels", "where"]
    for parameter in list(parameters.values())[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY, f"put a * before {parameter.name}"
        assert parameter.default is not parameter.empty, f"{parameter.name} has no default"
        if parameter.name not in ARRAYS:
            assert parameter.name in loss.__doc__, f"{parameter.name} is not documented"


@every_loss
def test_value_gradient_and_what_is_ignored(loss, batch):
    logits, labels, where = batch
    step = step_of(loss)
    value, gradient = step(logits, labels, where)
    assert value.shape == ()
    assert value.dtype == jnp.float32
    assert value > 0 or (loss.__name__ in SIGNED and value != 0), "if it may be negative, list it in SIGNED"
    taught = np.asarray(gradient)[np.asarray(where)].any(-1)
    some = loss.__name__ in TEACH_SOME_PIXELS
    assert taught.any() if some else taught.all(), "a pixel that counts has no gradient; see TEACH_SOME_PIXELS"
    assert not np.asarray(gradient)[~np.asarray(where)].any(), "an ignored pixel has a gradient"

    # Nothing that stands in an ignored pixel is read: not nan, not inf, not a label outside the classes.
    for junk in (jnp.nan, jnp.inf, -jnp.inf):
        spoiled = jnp.where(where[..., None], logits, junk), jnp.where(where, labels, 255)
        again, gradient_again = step(*spoiled, where)
        assert again == value, f"a {junk} or a label of 255 in an ignored pixel changes the value: see counted_logits"
        np.testing.assert_array_equal(gradient_again, gradient)

    # None left: nothing to learn, even from nan.
    nothing, zero = step(jnp.full_like(logits, jnp.nan), labels, jnp.zeros(SHAPE, bool))
    assert nothing == 0, "without a pixel that counts the loss is 0: see ratio_where"
    assert not np.asarray(zero).any(), "without a pixel that counts the gradient is 0"

    # Scores beyond anything that exp holds.
    for scale in (1e4, -1e4):
        value, gradient = step(logits * scale, labels, where)
        assert jnp.isfinite(value), f"logits of ±{abs(scale):.0e} give {value}"
        assert jnp.isfinite(gradient).all(), f"the gradient at logits of ±{abs(scale):.0e} is not finite"


@every_loss
def test_gradient_is_that_of_the_value(loss, batch):
    logits, labels, where = batch

    def pull_back(x):
        value, gradient = step_of(loss)(x, labels, where)
        return value, lambda cotangent: (cotangent * gradient,)

    check_vjp(lambda x: step_of(loss)(x, labels, where)[0], pull_back, (logits,), rtol=0.01)


@every_loss
def test_bfloat16_is_computed_in_float32(loss, batch):
    logits, labels, where = batch
    logits = logits.astype(jnp.bfloat16)
    value = loss(logits, labels, where=where)
    assert value.dtype == jnp.float32
    assert value == loss(logits.astype(jnp.float32), labels, where=where)


@every_loss
def test_no_where_is_all_where(loss, batch):
    logits, labels, _ = batch
    everywhere = step_of(loss)(logits, labels, jnp.ones(SHAPE, bool))[0]
    np.testing.assert_allclose(loss(logits, labels), everywhere, rtol=1e-6)
    np.testing.assert_allclose(loss(logits, labels.astype(jnp.uint8)), everywhere, rtol=1e-6)


@every_loss
def test_sizes_at_the_edge(loss, batch):
    logits, labels, where = batch
    assert jnp.isfinite(loss(logits[:1], labels[:1], where=where[:1]))
    if is_multilabel(loss):  # with a softmax there is nothing to learn of one class alone, see below
        one_class = loss(logits[..., :1], (labels == 1).astype(int), where=where)
        assert jnp.isfinite(one_class)
        assert one_class != 0, "it accepts labels [b, h, w, c], as losses of sigmoids do, but says nothing of one class"
    one_pixel = jnp.zeros(SHAPE, bool).at[1, 2, 3].set(True)
    value = step_of(loss)(logits, labels, one_pixel)[0]
    nothing = loss.__name__ in NEED_A_BORDER | NEED_NEIGHBORS
    assert value == 0 if nothing else 0 < value < 20, "of one pixel; see NEED_A_BORDER and NEED_NEIGHBORS"


@every_loss
def test_vmap(loss, batch):
    logits, labels, where = (jnp.stack([x, x[::-1]]) for x in batch)
    together = jax.vmap(lambda x, y, w: loss(x, y, where=w))(logits, labels, where)
    apart = [step_of(loss)(x, y, w)[0] for x, y, w in zip(logits, labels, where, strict=True)]
    np.testing.assert_allclose(together, jnp.stack(apart), rtol=1e-6)


VARIANTS = [*((loss, {}) for loss in LOSSES.values()), (LOSSES["cross_entropy"], {"ohem_keep": 0.5})]


@pytest.mark.parametrize(
    "loss, options", VARIANTS, ids=[f"{loss.__name__}{options or ''}" for loss, options in VARIANTS]
)
def test_shard_map(loss, options, batch):
    """Each device its images: a loop that begins with what is equal on all devices would be an error. Types alone."""
    mesh, split = jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=jax.devices()[:1]), PartitionSpec("data")

    def mean(logits, labels, where):
        return jax.lax.pmean(loss(logits, labels, where=where, **options), "data")

    step = jax.shard_map(jax.value_and_grad(mean), mesh=mesh, in_specs=split, out_specs=(PartitionSpec(), split))
    value, gradient = jax.eval_shape(step, *batch)
    assert value.shape == () and gradient.shape == (*SHAPE, CLASSES)


@every_loss
def test_neither_gather_nor_scatter_nor_sort(loss, batch):
    text = str(jax.make_jaxpr(jax.grad(lambda x, y, w: loss(x, y, where=w)))(*batch))
    for primitive in ("gather[", "scatter", "sort[", "dynamic_slice["):
        allowed = primitive == "sort[" and loss.__name__ in SORTS
        assert primitive not in text or allowed, f"{primitive}: pick by one_hot(labels, c) in place of indexing"


@every_loss
def test_wrong_arrays_are_named(loss, batch):
    logits, labels, where = batch
    if not is_multilabel(loss):
        with pytest.raises(UserError, match="one class, whose softmax is 1 everywhere.*Use a loss of sigmoids"):
            jax.eval_shape(loss, logits[..., :1], labels)
    with pytest.raises(UserError, match=r"Resize the logits"):
        jax.eval_shape(loss, logits[:, :2], labels)
    with pytest.raises(UserError, match="Labels must be integers"):
        jax.eval_shape(loss, logits, labels.astype(jnp.float32))
    with pytest.raises(UserError, match="Logits must be floating point"):
        jax.eval_shape(loss, logits.astype(jnp.int32), labels)
    with pytest.raises(UserError, match="`where` has shape"):
        jax.eval_shape(partial(loss, where=where[:1]), logits, labels)
