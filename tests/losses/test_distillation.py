import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses import channel_wise_distillation, distillation
from tests.losses.test_cross_entropy import slope

SHAPE, C, T = (2, 2, 3), 3, 3.0


def divergence(student, teacher):
    """T²·KL(teacher ‖ student) of two lists of scores."""
    q = np.exp(teacher / T) / np.exp(teacher / T).sum()
    p = np.exp(student / T) / np.exp(student / T).sum()
    return T**2 * (q * np.log(q / p)).sum()


def per_pixel(student, teacher, where):
    return np.mean([divergence(student[i], teacher[i]) for i in np.ndindex(where.shape) if where[i]])


def per_channel(student, teacher, where):
    values = []
    for s, t, w in zip(student, teacher, where, strict=True):
        values += [divergence(s[w][:, k], t[w][:, k]) if w.any() else 0.0 for k in range(C)]
    return np.mean(values)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    student, teacher = (3 * rng.normal(size=(2, *SHAPE, C))).astype(np.float32)
    where = rng.random(SHAPE) < 0.7
    where[0, 0] = True
    return student, teacher, where


@pytest.mark.parametrize("loss, reference", [(distillation, per_pixel), (channel_wise_distillation, per_channel)])
def test_everything(batch, loss, reference):
    student, teacher, where = batch
    step = jax.jit(jax.value_and_grad(lambda s, t, w: loss(s, t, where=w, temperature=T), argnums=(0, 1)))
    value, (gradient, to_teacher) = step(student, teacher, where)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference(student.astype(np.float64), teacher, where), rtol=1e-6)
    expected = slope(lambda x: reference(x, teacher.astype(np.float64), where), student.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert not np.asarray(to_teacher).any()

    # What is ignored reaches nothing, on either side; an image with nothing left contributes 0.
    spoiled = (np.where(where[..., None], x, np.float32(np.nan)) for x in (student, teacher))
    again, (gradient_again, _) = step(*spoiled, where)
    assert again == value
    np.testing.assert_array_equal(gradient_again, gradient)
    first = where & (np.arange(2) == 0)[:, None, None]
    np.testing.assert_allclose(step(student, teacher, first)[0], reference(student, teacher, first), rtol=1e-5)
    nothing, (zero, _) = step(np.full_like(student, np.nan), teacher, np.zeros(SHAPE, bool))
    assert nothing == 0
    assert not np.asarray(zero).any()

    # A student that is its teacher costs nothing; no scores are too large.
    assert abs(step(teacher, teacher, where)[0]) < 1e-6
    for scale in (1e4, -1e4):
        value, (gradient, _) = step(student * np.float32(scale), teacher, where)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [distillation, channel_wise_distillation])
def test_wrong_arguments_are_named(batch, loss):
    student, teacher, where = (jnp.asarray(x) for x in batch)
    with pytest.raises(UserError, match="must have one shape. Resize the teacher's"):
        loss(student, teacher[:, :1])
    with pytest.raises(UserError, match="Teacher's logits must be floating point, got int32"):
        loss(student, teacher.astype(jnp.int32))
    with pytest.raises(UserError, match="`where` has shape"):
        loss(student, teacher, where=where[:1])
    with pytest.raises(UserError, match="`temperature` must be positive, got 0"):
        loss(student, teacher, temperature=0)


def test_one_class_has_nothing_to_learn_from():
    one = jnp.ones((1, 2, 2, 1))
    with pytest.raises(UserError, match=r"\(1, 2, 2, 1\) are of one class.*channel_wise_distillation"):
        distillation(one, 2 * one)
    assert channel_wise_distillation(one, one.at[0, 0, 0].set(5.0)) > 0
