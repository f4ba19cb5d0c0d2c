import numpy as np

from jaxseg.losses.jaccard import jaccard, sigmoid_jaccard
from tests.losses.test_regions import C, check, make_batch, overlaps, sigmoid


def test_values_and_gradients_are_the_definition():
    logits, labels, where, many = make_batch()
    targets = np.eye(C)[labels]

    def ratio(p, t, s):
        return (np.minimum(p, t).sum() + s) / (np.maximum(p, t).sum() + s)  # t is 0 or 1

    def one_minus(s):
        return lambda p, t: 1 - ratio(p, t, s)

    check(
        {
            "images": (
                lambda x: jaccard(x, labels, where=where),
                lambda x: overlaps(one_minus(1.0), x, targets, where),
            ),
            "batch": (
                lambda x: jaccard(x, labels, where=where, smooth=0.1, per_image=False),
                lambda x: overlaps(one_minus(0.1), x, targets, where, per_image=False),
            ),
            "log": (
                lambda x: jaccard(x, labels, where=where, log=True),
                lambda x: overlaps(lambda p, t: -np.log(ratio(p, t, 1.0)), x, targets, where),
            ),
            "sigmoid": (
                lambda x: sigmoid_jaccard(x, many, where=where, smooth=0.1, per_image=False),
                lambda x: overlaps(one_minus(0.1), x, many, where, activation=sigmoid, per_image=False),
            ),
            "sigmoid, log": (
                lambda x: sigmoid_jaccard(x, labels, where=where, log=True),
                lambda x: overlaps(lambda p, t: -np.log(ratio(p, t, 1.0)), x, targets, where, activation=sigmoid),
            ),
        },
        logits,
    )
