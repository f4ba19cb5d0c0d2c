"""torchvision's segmentation models: the same outputs from its weights, and the same statistics in training."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import jaxseg
from jaxseg.cli.program import call
from jaxseg.pretrained import from_torchvision

LOGITS = {"logits": "out"}
BOTH = {"logits": "out", "auxiliary": "aux"}


@pytest.mark.parametrize(
    "name, outputs",
    [
        ("fcn_resnet50", LOGITS),
        ("fcn_resnet50", BOTH),
        ("deeplabv3_resnet50", LOGITS),
        ("deeplabv3_resnet50", BOTH),
        ("deeplabv3_mobilenet_v3_large", BOTH),
        ("lraspp_mobilenet_v3_large", LOGITS),
    ],
)
def test_outputs(peers, randomize, to_torch, forward, assert_close, count, record, name, outputs):
    peers.torch.manual_seed(0)
    make = getattr(peers.torchvision.models.segmentation, name)
    options = {} if name.startswith("lraspp") else {"aux_loss": "auxiliary" in outputs}
    theirs = randomize(make(num_classes=5, weights_backbone=None, **options)).eval()
    model, variables = from_torchvision(name, theirs.state_dict())
    images = np.random.default_rng(2).normal(size=(1, 43, 66, 3)).astype(np.float32)
    ours = forward(model, variables, images)
    with peers.torch.no_grad():
        expected = theirs(to_torch(images))
    assert ours.keys() == outputs.keys()
    error = max(assert_close(ours[key], expected[there], what=key) for key, there in outputs.items())
    sizes = {"ours": count(variables["params"]), "theirs": count(theirs)}
    assert sizes["ours"] == sizes["theirs"]
    architecture, encoder = name.split("_", 1)
    row = {"architecture": architecture, "encoder": encoder, "peer": "torchvision"}
    record(**row, outputs=", ".join(outputs), error=error, **sizes)


def test_training_lraspp_updates_the_statistics_alike(peers, randomize, to_torch, forward, assert_close):
    name = "lraspp_mobilenet_v3_large"
    theirs = peers.torchvision.models.segmentation.lraspp_mobilenet_v3_large(num_classes=5, weights_backbone=None)
    randomize(theirs).train()
    model, variables = from_torchvision(name, theirs.state_dict())
    images = np.random.default_rng(2).normal(size=(3, 64, 96, 3)).astype(np.float32)
    outputs, statistics = forward(model, variables, images, train=True)
    assert_close(outputs["logits"], theirs(to_torch(images))["out"])
    expected = flatten_dict(from_torchvision(name, theirs.state_dict())[1]["batch_stats"])
    for path, value in flatten_dict(statistics).items():
        assert_close(value, expected[path], what=str(path))


def test_every_weight_of_fcn_resnet101_has_its_place(peers):
    with peers.torch.device("meta"):
        theirs = peers.torchvision.models.segmentation.fcn_resnet101(aux_loss=True, weights_backbone=None)
    zeros = {key: np.zeros(value.shape, np.float32) for key, value in theirs.state_dict().items()}
    model, _ = from_torchvision("fcn_resnet101", zeros)
    assert (model.num_classes, model.auxiliary.num_classes) == (21, 21)


def test_a_converted_model_sees_images_unpadded_as_there(peers, randomize, tmp_path):
    theirs = randomize(
        peers.torchvision.models.segmentation.lraspp_mobilenet_v3_large(num_classes=5, weights_backbone=None)
    ).eval()
    peers.torch.save(theirs.state_dict(), tmp_path / "a.pth")
    options = ("--arch", "lraspp_mobilenet_v3_large", "--out", str(tmp_path / "out"))
    assert call("convert", "torchvision", str(tmp_path / "a.pth"), *options) == 0
    trained = jaxseg.load(tmp_path / "out")
    image = np.random.default_rng(0).integers(0, 256, (43, 66, 3), np.uint8)
    assert trained.preprocessing.padded(*image.shape[:2]) == image.shape[:2]
    normalized = (image - np.float32(trained.preprocessing.mean)) / np.float32(trained.preprocessing.std)
    with peers.torch.no_grad():
        expected = theirs(peers.torch.from_numpy(normalized.astype(np.float32).transpose(2, 0, 1)[None]))["out"][0]
    assert (jaxseg.Predictor(trained)(image) == expected.argmax(0).numpy()).mean() > 0.999
