"""The survey of errors against counts by hand, and the page that shows it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.config import default_config
from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.evaluation.error_page import page
from jaxseg.evaluation.objects import border_pixels
from jaxseg.evaluation.survey import DISTANCES, border_distance, survey
from jaxseg.trained import TrainedModel

CLASSES = ("sky", "road & <kerb>", "car")


@pytest.fixture(scope="module")
def dataset():
    random, records = np.random.default_rng(0), []
    for n in range(10):
        label = np.zeros((40, 50), np.uint8)
        label[20:] = 1
        label[22 : 26 + n, 10:16] = 2
        label[:2] = 255
        records.append({"image": random.integers(0, 255, (40, 50, 3), np.uint8), "label": label, "name": f"street{n}"})
    return Dataset("streets", CLASSES, ((70, 130, 180), (128, 64, 128), (0, 0, 142)), {"val": records})


def predict(image):
    """The label but for the cars, which are road, and the lowest row, which is sky."""
    label = np.zeros((40, 50), np.int32)
    label[20:39] = 1
    return label


def predict_batch(images):
    return [predict(image) for image in images]


@pytest.fixture(scope="module")
def found(dataset):
    return survey(predict_batch, dataset.splits["val"], 3)


def test_counts_by_hand(dataset, found):
    cars = sum(6 * (4 + n) for n in range(10))
    sky, road = 10 * 18 * 50, 10 * 20 * 50 - cars
    np.testing.assert_array_equal(found.matrix, [[sky, 0, 0], [500, road - 500, 0], [0, cars, 0]])
    assert found.names == [f"street{n}" for n in range(10)]
    np.testing.assert_allclose(found.errors, [(50 + 6 * (4 + n)) / (38 * 50) for n in range(10)])
    assert found.example[2, 1] == 9 and found.example[1, 0] == 0
    cars = found.objects[1:3].sum(0)  # 24 to 78 pixels each
    assert cars.tolist() == [10, sum(6 * (4 + n) for n in range(10)), sum(6 * (4 + n) for n in range(10)), 0]
    assert found.missed.tolist() == [0, *found.objects[1:3, 0].astype(int), 0, 0, 0, 0, 0]
    count, pixels, wrong, iou = found.objects[3:].sum(0)  # skies and roads
    assert (count, pixels, wrong) == (20, sky + road, 500) and 18.0 < iou < 20.0


def test_distances_are_scipys(dataset, found):
    expected = np.zeros((len(DISTANCES) + 1, 2), np.int64)
    for record in dataset.splits["val"]:
        distance = ndimage.distance_transform_edt(~border_pixels(record["label"]))
        np.testing.assert_allclose(border_distance(border_pixels(record["label"])), distance, rtol=1e-6)
        wrong = predict(record["image"]) != record["label"]
        for b, (low, high) in enumerate(zip((0, *DISTANCES), (*DISTANCES, 1e9), strict=True)):
            inside = (distance >= low) & (distance < high) & (record["label"] != 255)
            expected[b] += inside.sum(), (inside & wrong).sum()
    np.testing.assert_array_equal(found.distances, expected)


def test_page_holds_all_it_needs(dataset, found):
    text = page(found, dataset, dataset.splits["val"], predict, title="a <run>", worst=3, pairs_shown=2)
    assert text.count("data:image/") == text.count("<img") == 3 * 4 + 2 * 2
    assert not re.search(r"<script|<link|https?:", text)
    assert "a &lt;run&gt;" in text and "road &amp; &lt;kerb&gt;" in text and "<kerb>" not in text
    worst = re.findall(r"<b>\d\. (\w+)</b>", text)
    assert worst == ["street9", "street8", "street7"]
    assert "100.0&nbsp;%" in text and "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_page_of_a_perfect_model(dataset):
    source = dataset.splits["val"]
    labels = {r["image"].tobytes(): r["label"] for r in source}

    def perfect(image):
        return labels[image.tobytes()]

    found = survey(lambda images: [perfect(image) for image in images], source, 3)
    assert sum(found.errors) == 0 and found.missed.sum() == 0 and found.distances[:, 1].sum() == 0
    assert "The 0 worst images" in page(found, dataset, source, perfect, title="x")


def test_command(dataset, tmp_path, monkeypatch, capsys):
    class Net:
        """Stands for a model: the label but for the cars, as `predict` has it."""

        num_classes = 3

        def apply(self, variables, images, *, train):
            label = jnp.zeros(images.shape[:3], int).at[:, 20:39, :50].set(1)
            return {"logits": jax.nn.one_hot(label, 3)}

    fields = dict(
        classes=CLASSES, palette=dataset.palette, ignore=255, preprocessing=Preprocessing((0.0,) * 3, (1.0,) * 3)
    )
    trained = TrainedModel(Net(), {}, **fields, config=default_config(), workdir=tmp_path)
    trained.config.train.compilation_cache = ""
    monkeypatch.setattr("jaxseg.trained.load", lambda source, checkpoint: trained)
    monkeypatch.setattr("jaxseg.evaluation.data.create_dataset", lambda name, root, **options: dataset)
    assert call("errors", str(tmp_path), "--worst", "2") == 0
    wrong = sum(50 + 6 * (4 + n) for n in range(10)) / (10 * 38 * 50)
    assert f"10 images, {100 * wrong:.2f} % of the pixels wrong" in capsys.readouterr().out
    assert (tmp_path / "errors" / "val" / "errors.html").read_text().startswith("<!doctype html>")
    with pytest.raises(UserError, match="at least 1"):
        call("errors", str(tmp_path), "--worst", "0")
