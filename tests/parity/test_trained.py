"""A folder of smp's `save_pretrained` predicts what smp predicts."""

import numpy as np
import pytest

from jaxseg.cli.program import call
from jaxseg.inference import Predictor
from jaxseg.trained import load


@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_are_smps(peers, randomize, to_torch, tmp_path, classes):
    arguments = {"encoder_depth": 3, "decoder_channels": (16, 8, 8), "encoder_weights": None}
    theirs = randomize(peers.smp.Unet("resnet18", classes=classes, **arguments)).eval()
    theirs.save_pretrained(tmp_path / "smp")
    load(tmp_path / "smp").save(tmp_path / "bundle")
    trained = load(tmp_path / "bundle")
    assert trained.activation == ("sigmoid" if classes == 1 else "softmax")
    predictor = Predictor(trained)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    with peers.torch.no_grad():
        x = to_torch((image[None] - np.float32(trained.preprocessing.mean)) / np.float32(trained.preprocessing.std))
        logits = theirs(x)[0].movedim(0, -1)
        expected = logits.sigmoid() if classes == 1 else logits.softmax(-1)
    p, label = predictor.probabilities(image), predictor(image)
    np.testing.assert_allclose(p[..., 1:] if classes == 1 else p, expected, atol=1e-5)
    np.testing.assert_array_equal(label, logits[..., 0] > 0 if classes == 1 else logits.argmax(-1))
    assert 0 < (label > 0).mean() < 1


def test_a_binary_model_through_convert_labels_and_scores_as_smps(peers, randomize, to_torch, tmp_path, capsys):
    """smp's commonest model, `classes=1`: save_pretrained, `jaxseg convert`, then three images of one size."""
    peers.torch.manual_seed(0)  # whatever ran before: with some weights the last rounding is more than 1e-5
    theirs = randomize(peers.smp.Unet("resnet18", classes=1, encoder_weights=None)).eval()
    theirs.save_pretrained(tmp_path / "smp")
    assert call("convert", "smp", str(tmp_path / "smp"), "--out", str(tmp_path / "bundle")) == 0
    trained = load(tmp_path / "bundle")
    assert (trained.activation, trained.classes, trained.threshold) == ("sigmoid", ("background", "foreground"), 0.5)
    predictor = Predictor(trained)
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        image = np.where(np.indices((64, 64))[1][..., None] > 20 * seed, image, image // 4)
        with peers.torch.no_grad():
            x = (image[None] - np.float32(trained.preprocessing.mean)) / np.float32(trained.preprocessing.std)
            expected = theirs(to_torch(x))[0, 0].sigmoid().numpy()
        p = predictor.probabilities(image)
        np.testing.assert_allclose(p[..., 1], expected, atol=1e-5)
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
        np.testing.assert_array_equal(predictor(image), expected > 0.5)
        assert 0 < (expected > 0.5).mean() < 1
