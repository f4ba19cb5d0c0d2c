"""Images in tiles: what a network says of the whole image, in one program, to the bit however rows are divided."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.data.resize import Resize
from jaxseg.inference import Ensemble, Predictor
from jaxseg.inference.options import Options
from jaxseg.inference.tiling import least_tile, make_tiling
from tests.inference.strided import image, model


@pytest.mark.parametrize("fill,phase", [("gray", (1, 1)), ("reflect", (0, 1)), ("mean", (0, 0))])
def test_a_network_that_looks_no_further_says_what_it_says_of_the_whole(fill, phase):
    trained, x = model(fill=fill, phase=phase), image(75, 112)
    whole = Predictor(trained, tile="none")
    tiled = Predictor(trained, tile=32, overlap=0.4, blend="center")
    assert whole.tiling(x.shape[:2]) is None
    assert tiled.tiling(x.shape[:2]).tile == tuple(32 + p for p in phase)
    np.testing.assert_allclose(tiled.probabilities(x), whole.probabilities(x), atol=1e-4)
    np.testing.assert_array_equal(tiled(x), whole(x))
    assert np.bincount(whole(x).ravel(), minlength=3).min() > 100  # all labels are there


def test_the_edges_of_tiles_count_less():
    """Without enough overlap tiles differ from the whole, and the Gaussian's less than the mean."""
    trained, x = model(), image(100, 100)
    whole = Predictor(trained, tile="none").probabilities(x)
    errors = [
        np.abs(Predictor(trained, tile=24, overlap=0.5, blend=blend).probabilities(x) - whole).mean()
        for blend in ("constant", "gaussian", "center")
    ]
    assert errors[0] > 2 * errors[1] > 0
    assert errors[2] < errors[0]


def test_one_program_whatever_the_sizes():
    predictor = Predictor(model(), tile=32)
    for n in range(20):
        x = image(33 + 3 * n, 101 - 2 * n)
        assert predictor(x).shape == x.shape[:2]
    (tiles,) = predictor._tiled_labels._tiles.values()
    assert tiles.programs == 1
    assert len(predictor._labels) == 0


def test_rows_are_the_same_however_they_are_divided():
    predictor, x = Predictor(model(), tile=32), image(150, 70)

    def read(top, left, height, width):
        return x[top : top + height, left : left + width]

    whole, tiling = predictor(x), predictor.tiling(x.shape[:2])
    for rows in [(0, 60), (60, 61), (61, 150)]:
        strips = list(predictor.label_strips(read, x.shape[:2], tiling, rows))
        assert strips[0].top == rows[0]
        np.testing.assert_array_equal(np.concatenate([strip.result for strip in strips]), whole[slice(*rows)])

    for rows in [(-1, 10), (140, 151), (10, 5)]:
        with pytest.raises(UserError, match="Rows are .first, end. within the image's 150"):
            list(predictor.label_strips(read, x.shape[:2], tiling, rows))


def test_images_that_the_network_sees_smaller():
    trained, x = model(resize=Resize(factor=0.5)), image(150, 213)
    whole, tiled = Predictor(trained, tile="none"), Predictor(trained, tile=32, overlap=0.4, blend="center")
    np.testing.assert_allclose(tiled.probabilities(x), whole.probabilities(x), atol=1e-4)
    np.testing.assert_array_equal(tiled(x), whole(x))


@pytest.mark.parametrize("rule", [{"factor": 0.5}, {"factor": 0.37}, {"factor": 1.7}, {"size": (64, 80)}], ids=str)
def test_strips_of_images_that_the_network_sees_at_another_size(rule):
    x = image(150, 213)
    x[40:90] = x[40:90] // 8 + 100
    nothing = x[:, :, :1] > 250
    x = np.where(nothing, 0, np.maximum(x, 1))
    trained = model(resize=Resize(**rule), bands=Bands(("r", "g", "b"), "uint8", nodata=0))
    predictor = Predictor(trained, tile=32, overlap=0.4, blend="center")
    tiling, reads = predictor.tiling(x.shape[:2]), []

    def read(top, left, height, width):
        reads.append((top, height))
        return x[top : top + height, left : left + width]

    label, p = predictor.label_and_probabilities(x)
    whole = None
    for rows in [(0, 150), (0, 60), (60, 61), (61, 150)]:
        reads.clear()
        strips = list(predictor.label_strips(read, x.shape[:2], tiling, rows, probabilities=True))
        ends = np.cumsum([rows[0], *(len(strip.result["label"]) for strip in strips)])
        assert [*(strip.top for strip in strips), rows[1]] == ends.tolist()
        found = {name: np.concatenate([strip.result[name] for strip in strips]) for name in strips[0].result}
        whole = found if whole is None else whole
        for name in found:
            np.testing.assert_array_equal(found[name], whole[name][slice(*rows)])
        assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(reads)), "a row is read once"
    assert not list(predictor.label_strips(read, x.shape[:2], tiling, (7, 7)))
    if rule.get("factor") == 1.7:  # the image in memory: of sums that end in a half some are rounded otherwise
        assert np.mean(whole["label"] == label) > 0.998
    else:
        np.testing.assert_array_equal(whole["label"], label)
        np.testing.assert_array_equal(whole["probabilities"], p)


@pytest.mark.parametrize(("factor", "tile"), [(3, 40), (4, 32), (5, 36)])
def test_images_that_the_network_sees_much_larger(factor, tile):
    """Between two rows of the image lie several of the network's; strips of those end where none is needed."""
    height = 300
    trained, x = model(resize=Resize(factor=factor)), image(height, 20)
    whole, tiled = Predictor(trained, tile="none"), Predictor(trained, tile=tile, overlap=0.4, blend="center")
    np.testing.assert_array_equal(tiled(x), whole(x))

    def read(top, left, height, width):
        return x[top : top + height, left : left + width]

    for rows in [(0, height), (height // 3, height)]:
        strips = list(tiled.label_strips(read, x.shape[:2], tiled.tiling(x.shape[:2]), rows))
        np.testing.assert_array_equal(np.concatenate([s.result for s in strips]), whole(x)[slice(*rows)])


def test_tiles_that_hold_nothing_are_not_computed(monkeypatch):
    bands = Bands(("r", "g", "b"), "float32", (0, 255), nodata=-1)
    trained = model(bands=bands)
    x = image(64, 160).astype(np.float32)
    x[:, 60:] = -1
    seen = []

    def score(variables, images, sizes):
        jax.debug.callback(lambda sizes: seen.append(int((sizes > 0).all(-1).sum())), sizes)
        return trained.model.apply(variables, trained.preprocessing.normalize(images), train=False)["logits"]

    predictor = Predictor(trained, tile=32)
    predictor._tiled_labels._score = score
    label = predictor(x)
    jax.effects_barrier()
    assert sum(seen) == 9  # three rows of tiles; of the columns, those that begin at 0, 24 and 48
    monkeypatch.setattr("jaxseg.inference.tiling.empty_pixels", lambda bands, image: None)
    np.testing.assert_array_equal(label[:, :60], Predictor(trained, tile=32)(x)[:, :60])


def test_an_ensemble_in_tiles():
    first = model()
    second = dataclasses.replace(first, variables=jax.tree.map(lambda x: 1.1 * x, first.variables))
    x = image(75, 90)
    whole, tiled = (
        Ensemble([first, second], **w) for w in ({"tile": "none"}, {"tile": 40, "overlap": 0.5, "blend": "center"})
    )
    expected, found = whole.uncertainty(x), tiled.uncertainty(x)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
    assert expected["mutual_information"].max() > 1e-3


def test_auto_cuts_what_does_not_fit(monkeypatch):
    from jaxseg.inference import options

    predictor, x = Predictor(model()), image(600, 700)
    assert predictor.tiling((600, 700)) is None
    monkeypatch.setattr(options, "ALWAYS_WHOLE", 0)
    assert Predictor(model()).tiling((600, 700)) is None  # it fits
    monkeypatch.setattr(options, "free_memory", lambda device: 10**6)
    cut = Predictor(model())
    assert str(cut.tiling((600, 700))) == "tiles of 512x512 every 384x384 pixels"
    assert cut(x).shape == (600, 700)
    monkeypatch.setattr(options, "NEVER_WHOLE", 0)
    monkeypatch.setattr(options, "free_memory", lambda device: 2**40)
    assert Predictor(model()).tiling((1200, 600)).tile == (1024, 1024)


def test_what_is_no_tiling_is_an_error():
    trained = model()
    with pytest.raises(UserError, match="number of pixels, 'auto' or 'none', got 'big'"):
        Options.of(trained, tile="big")
    with pytest.raises(UserError, match="overlap by 0.25 have from 3 to 32768 pixels, got 1"):
        Options.of(trained, tile=1)
    coarse = model(bucket=32)
    with pytest.raises(
        UserError, match="overlap by 0.9 have from 32[01] to 32768 pixels, got 64: they lie 32 pixels apart"
    ):
        Options.of(coarse, tile=64, overlap=0.9)
    for overlap in (0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 0.99):
        tiling = make_tiling(coarse.preprocessing, least_tile(coarse.preprocessing, overlap), overlap)
        assert tiling.step == (32, 32)
        assert 1 - tiling.step[0] / tiling.tile[0] >= overlap
    Options.of(model(bucket=1024))  # "auto" takes larger tiles then
    with pytest.raises(UserError, match="from 0 to less than 1, got 1.0"):
        Options.of(trained, overlap=1.0)
    with pytest.raises(UserError, match="Unknown way to blend tiles 'gauss'. Did you mean 'gaussian'"):
        make_tiling(trained.preprocessing, 32, 0.5, "gauss")
