"""Images of one size wait for each other, no longer than they are told, and none is lost."""

import threading
import types
import weakref

import numpy as np
import pytest

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.serve.batcher import PROBABILITIES, Batcher


class Recorder:
    """Stands for a predictor: notes its batches, and goes on when it is told to."""

    trained = types.SimpleNamespace(preprocessing=Preprocessing((0,) * 3, (1,) * 3, bucket=32))

    def __init__(self):
        self.batches, self.go = [], threading.Event()

    def predict_batch(self, images, *, batch_size):
        self.go.wait(5)
        self.batches.append([image.shape[0] for image in images])
        if any(image.max() == 13 for image in images):
            raise ValueError("13")
        return [image[..., 0] for image in images]

    def probabilities(self, image):
        self.batches.append("probabilities")
        return image / 255

    def label_and_probabilities(self, image):
        return image[..., 0], image


def images(*heights, value=1):
    return [np.full((height, 8, 3), value, np.uint8) for height in heights]


@pytest.fixture
def predictor():
    return Recorder()


def test_what_arrives_while_the_device_computes_is_the_next_batch(predictor):
    batcher = Batcher(predictor, batch=4, wait=0.01)
    first = batcher.submit(images(8)[0])
    while batcher.waiting():  # until it is being computed
        pass
    others = [batcher.submit(image) for image in images(9, 40, 10, 11, 12, 13)]  # 40 is of another padded size
    predictor.go.set()
    for future in (first, *others):
        assert future.result(5).max() == 1
    batcher.close()
    assert predictor.batches[0] == [8]
    assert sorted(predictor.batches[1:], key=len) == [[13], [40], [9, 10, 11, 12]] or predictor.batches[1:] == [
        [9, 10, 11, 12],
        [40],
        [13],
    ]


def test_an_image_alone_waits_no_longer_than_it_is_told(predictor):
    predictor.go.set()
    batcher = Batcher(predictor, batch=4, wait=60)
    full = [batcher.submit(image) for image in images(1, 2, 3, 4)]
    assert [future.result(5).shape[0] for future in full] == [1, 2, 3, 4]  # a full batch does not wait
    alone = batcher.submit(images(5)[0])
    batcher.close()  # nor does the rest, at the end
    assert alone.result(0).shape == (5, 8)
    assert predictor.batches == [[1, 2, 3, 4], [5]]


def test_an_error_is_that_of_its_batch_and_the_next_is_computed(predictor):
    predictor.go.set()
    batcher = Batcher(predictor, batch=1)
    bad, good = batcher.submit(images(4, value=13)[0]), batcher.submit(images(4)[0])
    with pytest.raises(ValueError, match="13"):
        bad.result(5)
    assert good.result(5).max() == 1
    batcher.close()


def test_what_nobody_waits_for_is_not_computed(predictor):
    batcher = Batcher(predictor, batch=2, wait=60)
    dropped, kept = batcher.submit(images(4)[0]), batcher.submit(images(40)[0], PROBABILITIES)
    assert kept.result(5).shape == (40, 8, 3)
    assert dropped.cancel()
    predictor.go.set()
    batcher.close()
    assert predictor.batches == ["probabilities"]


def test_an_image_that_nobody_waits_for_is_let_go_at_once(predictor):
    """A device that is busy for long must not gather the images of requests that were given up."""
    batcher = Batcher(predictor, batch=1, wait=0)
    first = batcher.submit(images(8)[0])
    while batcher.waiting():
        pass
    waiting = [batcher.submit(image) for image in images(9, 10, 40)]
    assert waiting[0].cancel()
    assert waiting[2].cancel()
    assert batcher.waiting() == 1
    held = weakref.ref(given := images(11)[0])
    batcher.submit(given).cancel()
    del given
    assert held() is None
    predictor.go.set()
    batcher.close()
    assert predictor.batches == [[8], [10]]
    assert first.result(0).shape == (8, 8)
