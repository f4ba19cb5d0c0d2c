"""Every entry of METRICS keeps the contract of jaxseg/metrics/__init__.py; a new metric needs no line here."""

import inspect
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.metrics import METRICS, merge

SHAPE, CLASSES = (4, 5, 7), 3

every_metric = pytest.mark.parametrize("name", METRICS)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    scores = np.exp(2 * rng.normal(size=(*SHAPE, CLASSES)))
    labels = rng.integers(0, CLASSES, SHAPE).astype(np.int32)
    return (scores / scores.sum(-1, keepdims=True)).astype(np.float32), labels, rng.random(SHAPE) < 0.7


@pytest.fixture(scope="module")
def update():
    """update(name, probabilities, labels, where) -> Tally, on the host; compiled once a metric and shape."""
    compiled = {}

    def update(name, probabilities, labels, where):
        metric = METRICS[name]()
        if name not in compiled:
            compiled[name] = jax.jit(lambda p, y, w: metric.update(p, y, where=w, num_classes=CLASSES))
        guess = probabilities if metric.needs == "probabilities" else probabilities.argmax(-1).astype(np.int32)
        return jax.device_get(compiled[name](guess, labels, where))

    return update


def _assert_same(ours, theirs, **tolerance):
    for key, value in theirs.items():
        if isinstance(value, dict):
            _assert_same(ours[key], value, **tolerance)
        else:
            np.testing.assert_allclose(ours[key], value, err_msg=key, **tolerance)


@every_metric
def test_what_it_says_of_itself(name):
    metric = METRICS[name]()
    assert metric.needs in ("predictions", "probabilities")
    assert metric.sized == ("sizes" in inspect.signature(metric.update).parameters)
    for parameter in inspect.signature(METRICS[name]).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY, f"put a * before {parameter.name}"
        assert parameter.default is not parameter.empty, f"{parameter.name} has no default"
        assert parameter.name in METRICS[name].__doc__, f"{parameter.name} is not documented"


@every_metric
def test_batches_add_up_and_nothing_ignored_is_read(name, batch, update):
    probabilities, labels, where = batch
    metric = METRICS[name]()
    whole = update(name, probabilities, labels, where)
    for array in (*whole.sums.values(), *whole.images.values()):
        assert array.dtype in (np.int32, np.float32), f"counts are int32, other sums float32, got {array.dtype}"
    for key, rows in whole.images.items():
        assert len(rows) == SHAPE[0], f"Tally.images['{key}'] has a row for every image"
    result = metric.result(merge([whole]))

    # Nothing that stands in an ignored pixel is read.
    spoiled = np.where(where[..., None], probabilities, np.nan).astype(np.float32), np.where(where, labels, 255)
    _assert_same(update(name, *spoiled, where)._asdict(), whole._asdict(), rtol=0)

    # Two batches, each with images that are ignored whole in the place of the other's.
    first = np.arange(SHAPE[0])[:, None, None] < 1
    halves = [update(name, probabilities, labels, where & part) for part in (first, ~first)]
    halves = [
        half._replace(images={key: rows[part[:, 0, 0]] for key, rows in half.images.items()})
        for half, part in zip(halves, (first, ~first), strict=True)
    ]
    _assert_same(metric.result(merge(halves)), result, rtol=1e-6)


@every_metric
def test_result_is_plain(name, batch, update):
    def check(value, depth=0):
        if isinstance(value, dict):
            assert all(isinstance(key, str) and key == key.lower() for key in value), f"keys are lower case: {[*value]}"
            return [check(v, depth + 1) for v in value.values()]
        if isinstance(value, list):
            assert depth > 1 or len(value) == CLASSES, "a list has a number for each class; other details are a dict"
            return [check(v, depth + 1) for v in value]
        return isinstance(value, float | int) or pytest.fail(f"{type(value)} is no plain number: .tolist(), float()")

    result = METRICS[name]().result(merge([update(name, *batch)]))
    check(result)
    json.dumps(result)


@every_metric
def test_no_pixel_at_all(name, batch, update, recwarn):
    probabilities, labels, where = batch
    nothing = update(name, np.full_like(probabilities, np.nan), labels, np.zeros_like(where))
    assert not any(np.any(array) for array in nothing.sums.values()), "images without a valid pixel add to the sums"
    for rows in nothing.images.values():
        assert (np.isnan(rows) | (rows == 0)).all(), "the row of an image without a valid pixel is nan or 0"
    METRICS[name]().result(merge([nothing]))
    assert not recwarn, "0 / 0 warns: see ratio of jaxseg.metrics.arrays"


@every_metric
def test_all_right_and_one_class(name, batch, update):
    _, labels, where = batch
    right = np.eye(CLASSES, dtype=np.float32)[labels]
    for truth, guess in ((labels, right), (np.zeros_like(labels), np.roll(right, 1, -1))):
        METRICS[name]().result(merge([update(name, guess, truth, where)]))


@every_metric
def test_neither_gather_nor_scatter(name):
    metric = METRICS[name]()
    y = jax.ShapeDtypeStruct(SHAPE, jnp.int32)
    p = jax.ShapeDtypeStruct((*SHAPE, CLASSES), jnp.float32) if metric.needs == "probabilities" else y
    where = jax.ShapeDtypeStruct(SHAPE, jnp.bool_)
    text = str(jax.make_jaxpr(lambda p, y, w: metric.update(p, y, where=w, num_classes=CLASSES))(p, y, where))
    text = re.sub(r":i32\[[\d,]*\] = scatter-add\[", "", text)  # integers add up to the same bits in any order
    found = re.findall(r"\b(?:scatter|gather)[\w-]*(?=\[)", text)
    assert not found, "compare with an iota, jnp.arange(c), or scatter integers"


@every_metric
def test_wrong_arrays_are_named(name, batch):
    probabilities, labels, where = batch
    metric = METRICS[name]()
    right, wrong = probabilities, labels
    if metric.needs == "predictions":
        right, wrong = wrong, right
    with pytest.raises(UserError, match="needs probabilities" if metric.needs == "probabilities" else "argmax"):
        metric.update(wrong, labels, where=None, num_classes=CLASSES)
    with pytest.raises(UserError, match="Labels must be integers"):
        metric.update(right, labels.astype(np.float32), where=None, num_classes=CLASSES)
    with pytest.raises(UserError, match="`where` has shape"):
        metric.update(right, labels, where=where[:1], num_classes=CLASSES)


def test_keys_are_nobody_elses(batch, update):
    keys = [key for name in METRICS for key in METRICS[name]().result(merge([update(name, *batch)]))]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"two metrics have results of one name: {twice}"
