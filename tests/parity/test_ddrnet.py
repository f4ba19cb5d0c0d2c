"""DDRNet against the same network in PyTorch's functions, written down from the paper's figures 3 to 5."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.models import create_model
from jaxseg.pretrained.convert import variables_template

OPTIONS = {"features": 8, "context_features": 12, "head_features": 10}
CLASSES = 5


class Rendering:
    """The network as PyTorch computes it, with the variables of ours, in NCHW; notes which of them it has used."""

    def __init__(self, torch, variables, train):
        self.torch, self.F, self.train, self.used = torch, torch.nn.functional, train, set()
        self.arrays = {}
        for path, value in flatten_dict(variables).items():
            value = value.transpose(3, 2, 0, 1) if path[-1] == "kernel" else value
            self.arrays["/".join(path[1:])] = torch.from_numpy(np.array(value))

    def get(self, name):
        self.used.add(name)
        return self.arrays[name]

    def conv(self, x, name, stride=1, bias=False):
        kernel = self.get(f"{name}/kernel")
        offset = self.get(f"{name}/bias") if bias else None
        return self.F.conv2d(x, kernel, offset, stride=stride, padding=kernel.shape[2] // 2)

    def norm(self, x, name):
        statistics = [self.get(f"{name}/{part}") for part in ("mean", "var", "scale", "bias")]
        return self.F.batch_norm(x, *statistics, training=self.train, momentum=0.1, eps=1e-5)

    def conv_norm(self, x, name, stride=1, bias=False):
        return self.norm(self.conv(x, f"{name}/conv", stride, bias), f"{name}/norm")

    def norm_conv(self, x, name):
        return self.conv(self.norm(x, f"{name}/norm").relu(), f"{name}/conv")

    def enlarge(self, x, size):
        return self.F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)

    def block(self, x, name, strides, last_relu):
        """A residual block as ResNets draw it, with or without the ReLU at its end."""
        y = x
        for i, stride in enumerate(strides, start=1):
            y = self.conv_norm(y, f"{name}/conv{i}", stride)
            y = y.relu() if i < len(strides) else y
        if f"{name}/shortcut/conv/kernel" in self.arrays:
            x = self.conv_norm(x, f"{name}/shortcut", max(strides))
        return (x + y).relu() if last_relu else x + y

    def stage(self, x, name, stride=1):
        return self.block(self.block(x, f"{name}_block0", (stride, 1), True), f"{name}_block1", (1, 1), False)

    def pyramid(self, x):
        """Figure 5: windows of 5, 9 and 17, every 2, 4 and 8 pixels, and all."""
        size = x.shape[2:]
        views = [self.norm_conv(x, "decoder/point")]
        for name, stride in (("scale2", 2), ("scale4", 4), ("scale8", 8), ("whole", None)):
            if stride is None:
                pooled = x.mean((2, 3), keepdim=True)
            else:
                pooled = self.F.avg_pool2d(x, 2 * stride + 1, stride, padding=stride)
            view = self.enlarge(self.norm_conv(pooled, f"decoder/{name}"), size)
            views.append(self.norm_conv(view + views[-1], f"decoder/{name}_process"))
        return self.norm_conv(self.torch.cat(views, 1), "decoder/project") + self.norm_conv(x, "decoder/shortcut")

    def head(self, x, name, size):
        x = self.norm_conv(x, f"{name}/conv")
        x = self.norm(x, f"{name}/scores/norm").relu()
        return self.enlarge(self.conv(x, f"{name}/scores/scores/conv", bias=True), size)

    def __call__(self, x):
        size, eighth = x.shape[2:], [n // 8 for n in x.shape[2:]]
        x = self.conv_norm(x, "encoder/stem1", 2, True).relu()
        x = self.conv_norm(x, "encoder/stem2", 2, True).relu()
        x = self.stage(self.stage(x, "encoder/stage1").relu(), "encoder/stage2", 2).relu()

        high, low = self.stage(x, "encoder/fine3"), self.stage(x, "encoder/stage3", 2)
        from_low = self.enlarge(self.conv_norm(low.relu(), "encoder/compress3"), eighth)
        low = low + self.conv_norm(high.relu(), "encoder/down3", 2)
        high = middle = high + from_low

        high, low = self.stage(high.relu(), "encoder/fine4"), self.stage(low.relu(), "encoder/stage4", 2)
        from_low = self.enlarge(self.conv_norm(low.relu(), "encoder/compress4"), eighth)
        down = self.conv_norm(high.relu(), "encoder/down4_conv1", 2).relu()
        low, high = low + self.conv_norm(down, "encoder/down4_conv2", 2), high + from_low

        high = self.block(high.relu(), "encoder/fine5_block0", (1, 1, 1), False)
        low = self.block(low.relu(), "encoder/stage5_block0", (1, 2, 1), False)
        logits = self.head(high + self.enlarge(self.pyramid(low), eighth), "head", size)
        return {"logits": logits, "auxiliary": self.head(middle, "auxiliary", size)}


@pytest.fixture(scope="module")
def variables():
    """Random ones, with statistics of which none is the initial one."""
    random, filled = np.random.default_rng(0), {}
    for path, leaf in flatten_dict(variables_template(create_model("ddrnet", num_classes=CLASSES, **OPTIONS))).items():
        if path[-1] == "kernel":
            value = random.normal(0, np.sqrt(2 / np.prod(leaf.shape[:3])), leaf.shape)
        else:
            positive = path[-1] in ("scale", "var")
            value = random.uniform(0.5, 1.5, leaf.shape) if positive else random.normal(0, 0.2, leaf.shape)
        filled[path] = value.astype(np.float32)
    return unflatten_dict(filled)


# In training the whole image is 3 numbers a channel to the pyramid, and rounding grows as they are normalized.
@pytest.mark.parametrize("train, limit", [(False, 1e-5), (True, 1e-4)])
def test_ddrnet_is_the_papers(peers, variables, to_torch, forward, assert_close, train, limit):
    model = create_model("ddrnet", num_classes=CLASSES, **OPTIONS)
    images = np.random.default_rng(1).normal(size=(3, 128, 192, 3)).astype(np.float32)
    theirs = Rendering(peers.torch, variables, train)
    with peers.torch.no_grad():
        expected = theirs(to_torch(images))
    assert theirs.used == set(theirs.arrays)
    ours, statistics = (
        forward(model, variables, images, train=True) if train else (forward(model, variables, images), {})
    )
    assert ours.keys() == expected.keys()
    for key in ours:
        assert_close(ours[key], expected[key], limit, what=key)
    for path, value in flatten_dict(statistics).items():
        name = "/".join(path)
        assert_close(value, theirs.arrays[name], limit, what=name)
        assert np.abs(theirs.arrays[name].numpy() - flatten_dict(variables["batch_stats"])[path]).max() > 0
