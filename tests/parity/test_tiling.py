"""Tiling is MONAI's `sliding_window_inference` and mmsegmentation's slide rule, on random scores of random sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.tiling import Tiles, Tiling
from jaxseg.ops.tiling import map_tiles, tile_step

BANDS = Bands(("a", "b"), "float32", (0, 255))  # whose values networks are given as they are
PLAIN = Preprocessing((0.0,) * 2, (1.0,) * 2, BANDS, bucket=1)
LARGEST = 100


def factors(tile, seed=0):
    """By which each pixel of a tile is multiplied, so that tiles differ in what they say of a pixel."""
    return np.random.default_rng(seed).normal(size=(*tile, 3)).astype(np.float32)


def scores(x, by):
    """Three maps of two bands; NumPy, JAX and PyTorch alike."""
    return x[..., :1] * by + x[..., 1:]


def monai(image, tile, overlap, blend):
    by = torch.from_numpy(factors(tile))

    def network(windows):
        return scores(windows.movedim(1, -1), by).movedim(-1, 1)

    found = sliding_window_inference(torch.from_numpy(image).movedim(-1, 0)[None], tile, 3, network, overlap, blend)
    return found[0].movedim(0, -1).numpy()


def mmseg(image, tile, stride):
    """The rule of mmseg's EncoderDecoder.slide_inference, written anew; the package asks for another PyTorch."""
    (h, w, _), by = image.shape, factors(tile)
    sums, counts = np.zeros((h, w, 3)), np.zeros((h, w, 1))
    rows, columns = (max(n - t + s - 1, 0) // s + 1 for n, t, s in zip((h, w), tile, stride, strict=True))
    for i in range(rows):
        for j in range(columns):
            bottom, right = min(i * stride[0] + tile[0], h), min(j * stride[1] + tile[1], w)
            top, left = max(bottom - tile[0], 0), max(right - tile[1], 0)
            sums[top:bottom, left:right] += scores(image[top:bottom, left:right], by)
            counts[top:bottom, left:right] += 1
    return sums / counts


def tiles(tiling):
    by = factors(tiling.tile)
    return Tiles(lambda _, images, sizes: scores(images, by), lambda maps: maps, tiling, PLAIN)


def reader(image):
    return lambda top, left, height, width: image[top : top + height, left : left + width]


@pytest.mark.parametrize("blend", ["constant", "gaussian"])
@pytest.mark.parametrize("tile,overlap", [((32, 32), 0.25), ((24, 40), 0.5), ((17, 31), 0.6), ((32, 32), 0.0)])
def test_equals_monai(tile, overlap, blend):
    rng = np.random.default_rng(tile)
    step = tuple(tile_step(n, overlap) for n in tile)
    ours = tiles(Tiling(tile, step, blend))
    for _ in range(25):  # 200 in all
        size = tuple(rng.integers(tile, LARGEST).tolist())
        image = rng.normal(size=(*size, 2)).astype(np.float32)
        found = ours(None, reader(image), size)
        np.testing.assert_allclose(found, monai(image, tile, overlap, blend), atol=1e-5, rtol=1e-5)
    assert ours.programs == 1


def test_equals_the_slide_rule():
    """512 and 341 are 3 to 2, as are 48 and 32."""
    rng = np.random.default_rng(0)
    ours = tiles(Tiling((48, 48), (32, 32), "constant"))
    for _ in range(25):
        size = tuple(rng.integers(48, 2 * LARGEST, 2).tolist())
        image = rng.normal(size=(*size, 2)).astype(np.float32)
        np.testing.assert_allclose(
            ours(None, reader(image), size), mmseg(image, (48, 48), (32, 32)), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("blend", ["constant", "gaussian"])
def test_the_pure_function_equals_monai(blend):
    image = np.random.default_rng(1).normal(size=(70, 45, 2)).astype(np.float32)
    by = jnp.asarray(factors((32, 32)))
    ours = jax.jit(lambda x: map_tiles(lambda t: scores(t, by), x, tile=(32, 32), step=(24, 24), blend=blend))
    np.testing.assert_allclose(ours(image), monai(image, (32, 32), 0.25, blend), atol=1e-5, rtol=1e-5)
