import numpy as np
import pytest
from PIL import Image

from jaxseg.analysis.loss_maps import example, push, surface
from jaxseg.cli.program import main
from jaxseg.losses import LOSSES

LABEL = np.array([[1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy"])
def test_surface_of_a_loss_with_a_formula(name):
    """Of softmaxes and of sigmoids the probability is the same."""
    inside, outside = np.meshgrid(np.linspace(0.01, 0.99, 5), np.linspace(0.01, 0.99, 5), indexing="ij")
    expected = -(2 * np.log(inside) + 4 * np.log(1 - outside)) / 6
    np.testing.assert_allclose(surface(LOSSES[name], LABEL, steps=5), expected, rtol=1e-5)


def test_push_is_towards_the_label():
    label, probability = example()
    wrong = np.abs(label - probability) > 0.5
    assert wrong[label == 1].any()
    assert wrong[label == 0].any()
    pushed = push(LOSSES["cross_entropy"], label, probability)
    np.testing.assert_allclose(pushed, (label - probability) / label.size, rtol=1e-4, atol=1e-9)


def test_command_draws_what_is_asked_for(tmp_path, capsys):
    out = tmp_path / "new"
    assert main(["losses", "dice", "lovasz_hinge", "--out", str(out)]) == 0
    pixels = np.asarray(Image.open(out / "losses.png").convert("RGB"))
    assert pixels.std() > 20  # not blank
    assert main(["losses", "dise", "--out", str(out)]) != 0
    assert "Did you mean 'dice'" in capsys.readouterr().err
