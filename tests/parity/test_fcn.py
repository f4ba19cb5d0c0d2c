"""torchvision's FCN: the same logits from its weights."""

import numpy as np
import pytest

from jaxseg.pretrained import from_torchvision


@pytest.mark.parametrize("auxiliary", [False, True])
def test_fcn_resnet50(peers, randomise, to_torch, forward, assert_close, count, record, auxiliary):
    peers.torch.manual_seed(0)
    make = peers.torchvision.models.segmentation.fcn_resnet50
    theirs = randomise(make(num_classes=5, aux_loss=auxiliary, weights_backbone=None)).eval()
    model, variables = from_torchvision("fcn_resnet50", theirs.state_dict())
    pictures = np.random.default_rng(2).normal(size=(1, 43, 66, 3)).astype(np.float32)
    ours = forward(model, variables, pictures)
    with peers.torch.no_grad():
        expected = theirs(to_torch(pictures))
    errors = [assert_close(ours["logits"], expected["out"], what="logits")]
    if auxiliary:
        errors.append(assert_close(ours["auxiliary"], expected["aux"], what="auxiliary"))
    sizes = count(variables["params"]), count(theirs)
    assert sizes[0] == sizes[1]
    row = {"architecture": "fcn", "encoder": "resnet50", "peer": "torchvision"}
    outputs = "logits, auxiliary" if auxiliary else "logits"
    record(**row, outputs=outputs, error=max(errors), ours=sizes[0], theirs=sizes[1])


def test_every_weight_of_fcn_resnet101_has_its_place(peers):
    with peers.torch.device("meta"):
        theirs = peers.torchvision.models.segmentation.fcn_resnet101(aux_loss=True, weights_backbone=None)
    zeros = {key: np.zeros(value.shape, np.float32) for key, value in theirs.state_dict().items()}
    model, _ = from_torchvision("fcn_resnet101", zeros)
    assert (model.num_classes, model.auxiliary) == (21, True)
