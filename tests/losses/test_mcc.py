import jax
import numpy as np

from jaxseg.losses.mcc import mcc
from tests.losses.test_regions import C, check, make_batch, softmax


def confusion(p, labels, where, smooth):
    """The soft confusion matrix [label, prediction] of some images, entry by entry."""
    classes = range(p.shape[-1])
    entries = [[p[..., k][(labels == label) & where].sum() for k in classes] for label in classes]
    return np.array(entries) + smooth * np.eye(p.shape[-1])


def gorodkin(matrix):
    """The correlation of c classes by its definition: a triple sum over the confusion matrix."""
    classes = range(len(matrix))
    triples = [(k, m, n) for k in classes for m in classes for n in classes]
    above = sum(matrix[k, k] * matrix[m, n] - matrix[k, m] * matrix[n, k] for k, m, n in triples)
    rows, columns, total = matrix.sum(1), matrix.sum(0), matrix.sum()
    below = np.prod([np.sqrt(sum(x[k] * (total - x[k]) for k in classes)) for x in (rows, columns)])
    return above / below


def reference(logits, labels, where, smooth=1.0, per_image=True):
    p = softmax(logits)
    groups = [(p, labels, where)] if not per_image else zip(p, labels, where, strict=True)
    return np.mean([1 - gorodkin(confusion(*group, smooth)) for group in groups])


def test_values_and_gradients_are_the_definition():
    logits, labels, where, _ = make_batch()
    check(
        {
            "images": (
                lambda x: mcc(x, labels, where=where),
                lambda x: reference(x, labels, where),
            ),
            "batch": (
                lambda x: mcc(x, labels, where=where, smooth=1e-3, per_image=False),
                lambda x: reference(x, labels, where, 1e-3, per_image=False),
            ),
            "two classes": (
                lambda x: mcc(x[..., :2], labels, where=where, smooth=0.1),
                lambda x: reference(x[..., :2], labels, where, 0.1),
            ),
        },
        logits,
    )


def test_two_classes_are_matthews():
    matrix = np.array([[5.0, 2.0], [1.0, 9.0]])  # tn fp / fn tp
    expected = (9 * 5 - 2 * 1) / np.sqrt((9 + 2) * (9 + 1) * (5 + 2) * (5 + 1))
    np.testing.assert_allclose(gorodkin(matrix), expected)


def test_from_all_right_to_all_wrong():
    logits, labels, where, _ = make_batch()
    step = jax.jit(jax.value_and_grad(lambda x, y, w: mcc(x, y, where=w)))
    right = 1e4 * np.eye(C, dtype=np.float32)[labels]
    assert step(right, labels, where)[0] == 0
    wrong, slope = step(-right, labels, where)
    np.testing.assert_allclose(wrong, reference(-right.astype(np.float64), labels, where), rtol=1e-6)
    assert wrong > 1
    assert np.isfinite(slope).all()

    near = (9 * np.eye(C)[labels] + 0.1 * logits).astype(np.float32)  # every digit is there
    expected = reference(near.astype(np.float64), labels, where)
    assert expected < 1e-3
    np.testing.assert_allclose(step(near, labels, where)[0], expected, rtol=1e-6)

    # Of an image of one class the coefficient is undefined; it is taught all the same.
    value, slope = step(logits, 0 * labels, where)
    np.testing.assert_allclose(value, reference(logits.astype(np.float64), 0 * labels, where), rtol=1e-6)
    assert (slope[where][:, 0] < 0).all()
