"""The rule of the size, and what it does to images and labels."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import AS_STORED, Resize, resize_image, resize_label


def test_rules():
    assert not AS_STORED and AS_STORED(7, 9) == (7, 9)
    assert Resize(factor=0.5)(1024, 2048) == (512, 1024) and Resize(factor=0.01)(7, 9) == (1, 1)
    assert Resize(short_side=512)(683, 512) == (683, 512) and Resize(short_side=256)(512, 683) == (256, 342)
    assert Resize(size=(5, 9))(512, 683) == (5, 9)


@pytest.mark.parametrize(
    "fields", [{"factor": 0}, {"factor": "2"}, {"short_side": -1}, {"size": (3,)}, {"factor": 2.0, "short_side": 5}]
)
def test_mistakes_are_refused(fields):
    with pytest.raises(UserError, match=r"data\.resize"):
        Resize(**fields)


def test_images_are_resized_as_pillow_does_whatever_their_type():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (20, 30, 3), np.uint8)
    expected = np.asarray(Image.fromarray(rgb).resize((11, 7), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_image(rgb, (7, 11)), expected)
    for image in (rgb[..., :2], rgb.astype(np.uint16), rgb.astype(np.int16), rgb.astype(np.float32)):
        resized = resize_image(image, (7, 11))
        assert resized.dtype == image.dtype and resized.shape == (7, 11, image.shape[-1])
        assert np.abs(resized.astype(float) - expected[..., : image.shape[-1]]).max() <= 1


def test_labels_keep_their_ids():
    label = np.random.default_rng(0).choice(np.array([3, 700, 65535], np.uint16), (40, 60))
    small = resize_label(label, (10, 20))
    np.testing.assert_array_equal(small, label[2::4, 1::3])
    as_pillow = Image.fromarray(label.astype(np.int32)).resize((20, 10), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(small, np.asarray(as_pillow))
    np.testing.assert_array_equal(resize_label(label, (5, 5), (8, 4, 28, 19)), label[10:28:4, 5:19:3])


@pytest.mark.parametrize("fill", ["gray", "mean", "reflect"])
def test_padding(fill):
    seen = Preprocessing((9.6, 8.0, 7.0), (1,) * 3, fill=fill, phase=(1, 0), bucket=4)
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    assert seen.padded(3, 4) == (5, 4) and seen.padded(5, 5) == (5, 8)
    (padded,) = seen.pad([image], (9, 8))
    np.testing.assert_array_equal(padded[:3, :4], image)
    if fill == "reflect":
        mirrored = np.concatenate([image, image[::-1], image])
        np.testing.assert_array_equal(padded, np.concatenate([mirrored, mirrored[:, ::-1]], 1))
    else:
        assert (padded[3:] == (127 if fill == "gray" else (10, 8, 7))).all()


def test_padded_sizes_are_coarser_for_larger_images_and_keep_the_phase():
    seen = Preprocessing((0,) * 3, (1,) * 3, phase=(65, 64), bucket=8, steps=8)
    for length in range(1, 3000):
        for axis, phase in enumerate((1, 0)):
            padded = seen.padded(length, length)[axis]
            assert padded >= length and padded % 8 == phase
            assert padded - length < max(8, length / 8)
            assert seen.padded(padded, padded)[axis] == padded
    assert seen.padded(100, 200) == (105, 208)


def test_few_sizes_for_a_folder_of_many():
    seen = Preprocessing((0,) * 3, (1,) * 3, bucket=32, steps=8)
    lengths = np.linspace(33, 420, 40).round().astype(int).tolist()
    assert len({seen.padded(n, n) for n in lengths}) <= 13
    fine = Preprocessing((0,) * 3, (1,) * 3, bucket=8, steps=8)
    assert len({fine.padded(n, n) for n in lengths}) <= 24
    assert len({seen.padded(n, n) for n in range(1000, 4000)}) <= 17
