import numpy as np
import pytest
from PIL import Image

from jaxseg import visualize
from jaxseg.checks import UserError


def test_heat():
    image = visualize.heat(np.array([[0.0, 0.5, 1.0, np.nan]]), top=1.0)
    assert image.shape == (1, 4, 3) and image.dtype == np.uint8
    brightness = image[0].sum(-1).tolist()
    assert brightness[0] < brightness[1] < brightness[2]
    assert image[0, 3].tolist() == [128, 128, 128]
    twice = visualize.heat(np.array([[0.0, 0.5, 1.0]]), top=2.0)  # the scale is the one that is asked for
    np.testing.assert_array_equal(twice[0, 2], image[0, 1])
    assert not visualize.heat(np.zeros((2, 2)))[..., 0].any()  # nothing to scale by
    with pytest.raises(UserError, match=r"Expected a map \[h, w\]"):
        visualize.heat(np.zeros((2, 2, 2)))


def test_figures_are_written(tmp_path):
    nan = float("nan")
    diagram = {"edges": [0, 0.5, 1], "pixels": [0, 8], "probability": [nan, 0.9], "accuracy": [nan, 0.7], "ece": 0.2}
    visualize.reliability_figure({"as trained": diagram, "calibrated": diagram}, tmp_path / "reliability.png")
    image = np.zeros((4, 5, 3), np.uint8)
    maps, labels = {"entropy": np.zeros((4, 5))}, {"prediction": np.zeros((4, 5), int)}
    path = tmp_path / "maps.png"
    visualize.uncertainty_figure(image, maps, path, label_maps=labels, palette=[(9, 8, 7)])
    for name in ("reliability.png", "maps.png"):
        assert min(Image.open(tmp_path / name).size) > 200
