import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.ops.components import connected_components


def spiral(side):
    """A band one pixel wide that winds to the middle, with one pixel between its turns."""
    mask = np.zeros((side, side), bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = True
    while True:
        for _ in range(2):  # go on, or turn right once
            a, b, c, d = y + dy, x + dx, y + 2 * dy, x + 2 * dx
            if (
                0 <= a < side
                and 0 <= b < side
                and not mask[a, b]
                and not (0 <= c < side and 0 <= d < side and mask[c, d])
            ):
                break
            dy, dx = dx, -dy
        else:
            return mask
        y, x = y + dy, x + dx
        mask[y, x] = True


def test_regions_are_scipys():
    rng = np.random.default_rng(0)
    masks = np.stack([*(rng.random((5, 17, 17)) < np.array([0.3, 0.5, 0.6, 0.7, 1.0])[:, None, None]), spiral(17)])
    masks[0, :2] = False
    found = np.asarray(jax.jit(connected_components)(masks))
    assert (found[5] > 0).sum() > 100 and np.unique(found[5]).tolist() == [0, 1]  # the spiral is one region
    for mask, ids in zip(masks, found, strict=True):
        regions, count = ndimage.label(mask)
        first = [0, *(1 + np.flatnonzero(regions == k)[0] for k in range(1, count + 1))]
        np.testing.assert_array_equal(ids, np.array(first)[regions])


def test_a_mask_is_boolean():
    with pytest.raises(UserError, match="`mask` must be booleans"):
        connected_components(np.zeros((3, 3), int))
