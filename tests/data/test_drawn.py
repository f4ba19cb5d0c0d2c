"""Splits that are drawn on demand: each image once while there is room for it, and the same as ever."""

import pickle

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data import DATASETS, create_dataset, drawn


def noise(rng, size, largest):
    calls.append(1)
    return rng.integers(0, largest, (size, size, 3), np.uint8), np.zeros((size, size), np.uint8)


calls: list[int] = []


def test_what_is_kept_is_drawn_once_and_nobody_can_spoil_it(monkeypatch):
    calls.clear()
    monkeypatch.setattr(drawn, "KEPT", 2 * 4 * 32 * 32)  # bytes of two images
    source = drawn.Drawn("train", 9, 32, 0, noise, (200,))
    first = source[0]
    kept = first["image"].copy()
    first["image"][:], first["label"][:] = 0, 9
    np.testing.assert_array_equal(source[0]["image"], kept)
    assert not source[0]["label"].any()
    assert len(calls) == 1
    for i in (1, 2, 2, 1):
        source[i]
    assert len(calls) == 4  # the third image has no room, and is drawn each time
    with pytest.raises(IndexError):
        source[9]


def test_equal_settings_are_equal_splits_that_go_to_other_processes():
    sets = [create_dataset("shapes", size=32, color=color).splits["val"] for color in (0.5, 0.5, 0.6)]
    assert sets[0] == sets[1] != sets[2]
    sent = pickle.loads(pickle.dumps(sets[0]))
    assert sent == sets[0]
    np.testing.assert_array_equal(sent[3]["image"], sets[0][3]["image"])


@pytest.mark.parametrize(
    "name, options, counts, mean",
    [
        ("shapes", {}, [92335, 6812, 6127, 6498, 8256, 4666, 6378], 115.79),
        (
            "shapes",
            {"size": 64, "border": 3, "noise": 1.0, "color": 1.0, "seed": 3},
            [21707, 1673, 933, 554, 310, 474, 1446],
            111.76,
        ),
        ("pages", {"size": 96}, [48969, 593, 2511, 16545, 3852, 48, 1210], 161.97),
        ("membranes", {"size": 96}, [57987, 15741], 154.14),
    ],
)
def test_the_images_are_those_of_earlier_versions(name, options, counts, mean):
    """But for the last bits, which are the machine's: pixels of each class, and the mean value, over eight images."""
    splits = create_dataset(name, **options).splits
    records = [splits[split][i] for split in ("train", "val") for i in range(4)]
    found = np.bincount(np.concatenate([record["label"].ravel() for record in records]), minlength=256)
    np.testing.assert_allclose(found[: len(counts)], counts, rtol=0.02, atol=8)
    assert np.mean([record["image"].mean() for record in records]) == pytest.approx(mean, abs=0.5)


@pytest.mark.parametrize("name", ["shapes", "pages", "membranes"])
@pytest.mark.parametrize("given", [{"size": "64"}, {"size": 64.5}, {"train": "9"}, {"seed": None}, {"val": -1}])
def test_arguments_of_another_kind_are_named(name, given):
    """By the function itself, too, which a program may call without a config."""
    (key, value), *_ = given.items()
    with pytest.raises(UserError, match=f"{key}.*{value}"):
        DATASETS[name](**given)


def test_shares_are_named_where_they_are_no_numbers():
    for name, key in (("shapes", "color"), ("pages", "wear"), ("membranes", "wear")):
        with pytest.raises(UserError, match=f"The option '{key}' of data set '{name}' must be a number such as"):
            DATASETS[name](**{key: "1"})
