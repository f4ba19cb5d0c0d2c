"""Receptive fields against arithmetic by hand, published figures, and gradients."""

import json

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxseg import create_model
from jaxseg.analysis import receptive_field
from jaxseg.analysis.receptive_field import Field, effective, theoretical
from jaxseg.blocks.conv import Conv
from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.encoders import create_encoder
from jaxseg.models import init


def by_hand(*layers):
    """Field after layers of (kernel, stride), or (kernel, stride, rate)."""
    field, jump = 1, 1
    for kernel, stride, *rate in layers:
        field += (kernel - 1) * (rate or [1])[0] * jump
        jump *= stride
    return field


def sizes(model, image_size=(64, 64), **options):
    fields = {field.name: field for field in theoretical(model, image_size, **options)}
    return {name: field.size and field.size[0] for name, field in fields.items()}, fields


class Stack(nn.Module):
    """Convolutions one after another: (kernel, stride, rate), kernels of two axes may differ."""

    layers: tuple

    @nn.compact
    def __call__(self, x, *, train):
        for i, (kernel, stride, rate) in enumerate(self.layers):
            x = Conv(2, kernel, stride=stride, dilation=rate, name=f"conv{i}")(x)
        return {"logits": x}


@pytest.mark.parametrize(
    "layers, expected",
    [
        ([(3, 1, 1)], 3),
        ([(3, 1, 1)] * 3, 7),
        ([(3, 2, 1)] * 3, 15),
        ([(3, 1, 1), (3, 1, 2), (3, 1, 4)], 15),
        ([(7, 2, 1), (1, 2, 1), (3, 1, 12)], 7 + 2 * 12 * 4),
    ],
)
def test_stacks_by_hand(layers, expected):
    found, _ = sizes(Stack(tuple(layers)))
    assert found["logits"] == by_hand(*layers) == expected


def test_vgg16_and_fcn_as_published():
    """pool5 212; fc6 and fc7 404 (Long et al., 2015, table 1)."""
    found, fields = sizes(create_model("fcn32s", num_classes=2, features=8))
    blocks = [layer for convs in (2, 2, 3, 3, 3) for layer in [(3, 1)] * convs + [(2, 2)]]
    assert found["c5"] == by_hand(*blocks) == 212
    assert found["c4"] == by_hand(*blocks[:-1]) == 196
    assert found["decoder/c5"] == by_hand(*blocks, (7, 1)) == 404
    assert found["logits"] == 404 + 32  # between two scores
    assert fields["c1"].box == (26, 26, 40, 40) and fields["c5"].box == (0, 0, 64, 64)


def test_resnet50():
    """As torchvision's, whose strides are in the 3x3 convolutions; in the 1x1 before them, they make 483."""
    found, _ = sizes(create_encoder("resnet50"), depth=0)
    stem = [(7, 2), (3, 2)]
    stages = [(3, 2 if i == 0 and n else 1) for n, blocks in enumerate((3, 4, 6, 3)) for i in range(blocks)]
    ends = {"c2": 3, "c3": 7, "c4": 13, "c5": 16}
    assert found == {"c1": 7, **{name: by_hand(*stem, *stages[:end]) for name, end in ends.items()}}
    assert found["c5"] == 427
    early = [layer for kernel, stride in stages for layer in ((1, stride), (kernel, 1))]
    assert by_hand(*stem, *early) == 483


PLAIN = {"widths": (4, 4, 4, 6, 6), "convs": 1}


def test_atrous_and_image_pooling():
    """DeepLabV3 on c5, which is dilated; image pooling sees all."""
    model = create_model("deeplabv3", "plain", num_classes=2, encoder_options=PLAIN, output_stride=16)
    found, fields = sizes(model)
    levels = [(2, 2), (3, 1)] * 4
    assert found["c4"] == by_hand(*levels)
    assert found["c5"] == by_hand(*levels, (3, 1, 2))  # at the stride of c4, not pooled
    assert found["logits"] is None and fields["logits"].box == (0, 0, 64, 64)
    (height, width), c5 = fields["decoder"].local, found["c5"]
    assert height == width == c5 + 2 * 36 * 16 + 2 * 16  # rates 12, 24, 36 at stride 16, then 3x3


SMALL = {
    "unet": {"encoder": "plain", "encoder_options": {"widths": (4, 4, 6)}, "decoder_channels": (4, 4, 4)},
    "fcn8s": {"encoder": "plain", "encoder_options": PLAIN, "features": 4, "kernel_size": 3},
    "segnet": {"widths": (4, 6, 6), "convs": (1, 1, 1)},
}


@pytest.mark.parametrize("name", SMALL)
def test_gradients_are_within_the_field(name):
    model = create_model(name, num_classes=2, **SMALL[name])
    size = (96, 64)
    fields = theoretical(model, size)
    names = [f.name for f in fields if f.name in ("c1", "c3", "logits")]
    images = jax.random.normal(jax.random.key(1), (2, *size, 3))
    heat = effective(model, init(model, jax.random.key(0)), images, names, key=jax.random.key(2))
    for field in fields:
        if field.name in names:
            rows, columns = np.nonzero(heat[field.name])
            box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert np.minimum(box, field.box)[:2].tolist() == list(field.box[:2])
            assert np.maximum(box, field.box)[2:].tolist() == list(field.box[2:])
            if field.name in ("c1", "c3"):  # and they fill it
                assert box == field.box


class Depthwise(nn.Module):
    """Three kernels, one for each color."""

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": Conv(3, 3, groups=3, name="conv")(x)}


def test_effective_field_of_one_convolution():
    model = Depthwise()
    kernel = np.zeros((3, 3, 1, 3), np.float32)
    kernel[1, 1, 0, 0], kernel[0, 1, 0, 1] = 4, 3
    variables = {"params": {"conv": {"kernel": kernel}}}
    heat = effective(model, variables, np.zeros((3, 8, 8, 3)), ["logits"], key=jax.random.key(0))["logits"]
    expected = np.zeros((8, 8))
    expected[4, 4], expected[3, 4] = 4, 3
    np.testing.assert_allclose(heat, expected)
    field = Field("logits", 1.0, (3, 3, 6, 6), (3, 3), (3, 3), heat)
    assert field.side == pytest.approx(2**0.5) and receptive_field.share(field) == pytest.approx(2 / 9)


def test_command(tmp_path, capsys):
    words = ["--encoder", "plain", "--size", 40, 48, "--draws", 0, "--out", tmp_path]
    assert call("receptive-field", *map(str, words)) == 0
    assert "280 x 280" in capsys.readouterr().out
    saved = {row["name"]: row for row in json.loads((tmp_path / "receptive_field.json").read_text())}
    assert saved["c2"]["size"] == [28, 28]
    assert (tmp_path / "receptive_field.png").stat().st_size > 1000
    for words, message in [
        ([], "Name one"),
        (["a run", "--model", "unet"], "Name one"),
        (["--model", "unett"], "Did you mean 'unet'"),
        (["--model", "unet", "--size", 0], "must be positive"),
    ]:
        with pytest.raises(UserError, match=message):
            call("receptive-field", *map(str, words))
