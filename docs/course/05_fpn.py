# %% [markdown] lang="en"
# # Lesson 5: FPN
#
# The first levels of an encoder know where edges and corners are, the last ones know what is there. A feature pyramid
# network (FPN) brings the second kind of knowledge to the first. It was made for object detection; segmentation is
# dense prediction too, and can use the same pyramid. What if you use it twice? This lesson answers with numbers.

# %% [markdown] lang="vi"
# # Bài 5: FPN
#
# Feature map ở các layer đầu của encoder mang thông tin cục bộ về góc, cạnh (local feature); ở các layer cuối mang
# thông tin về ngữ nghĩa (global feature). Feature Pyramid Network (FPN) đưa thông tin ngữ nghĩa về các mức mịn hơn. FPN
# được thiết kế ban đầu cho bài toán Object Detection; Semantic Segmentation cũng là dense prediction nên dùng lại được
# FPN. Nếu sử dụng 2 lần FPN thì sao? Bài này trả lời bằng con số.

# %%
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

import jaxseg
from jaxseg import ops
from jaxseg.analysis.flops import count_macs
from jaxseg.blocks import bottom_up, top_down
from jaxseg.training import create_state, make_mesh, make_train_step, place

STEPS = int(os.environ.get("COURSE_STEPS", 0))  # 300 trains three networks; that takes some minutes on two cores
shapes = jaxseg.create_dataset("shapes", size=64, train=1024, val=64, color=0.9)

# %% [markdown] lang="en"
# ## Three kinds of connections
#
# *Bottom-up* is the encoder itself: the direction of the data, from fine to coarse. *Top-down* goes back: each level is
# enlarged and handed to the next finer one. *Lateral* connections, 1 x 1 convolutions, bring the encoder's level to the
# same number of channels, and the two are added.
#
# `top_down` is that wiring. The "features" below are tokens, so that you can read from a sum who has contributed: c5
# brings 1000, c4 100, c3 10, c2 1.

# %% [markdown] lang="vi"
# ## Ba loại kết nối
#
# *Bottom-Up Path* chính là encoder: đi cùng chiều với dữ liệu, từ mịn đến thô. *Top-Down Path* đi ngược lại: mỗi mức
# được phóng to rồi đưa cho mức mịn hơn kế tiếp. *Lateral Connection*, tích chập 1 x 1, đưa feature map của encoder về
# cùng số kênh, rồi cộng nó với feature map vừa được phóng to.
#
# `top_down` là cách nối đó. Các "đặc trưng" dưới đây chỉ là ký hiệu, nhìn tổng là biết mức nào đã đóng góp: c5 góp
# 1000, c4 góp 100, c3 góp 10, c2 góp 1.

# %%
NAMES = ("c5", "c4", "c3", "c2")
levels = [jnp.full((1, 2**i, 2**i, 1), 1000.0 / 10**i) for i in range(4)]  # coarse to fine
identity = [lambda x: x] * 4
pyramid = top_down(levels, laterals=identity)
for name, level in zip(NAMES, pyramid, strict=True):
    print(name, level.shape[1:3], "holds", int(level[0, 0, 0, 0]))

# %% [markdown] lang="en"
# After one pass the finest level has something of every level. The coarsest still has only itself. A second pass,
# bottom-up again, changes that; PANet is FPN with it. `reduce` halves a map, `fuse` is a convolution. Read 4321 as:
# c5's own features four times, c4's three times, c3's twice, c2's once.

# %% [markdown] lang="vi"
# Sau một lần, mức mịn nhất có đặc trưng của mọi mức, còn mức thô nhất vẫn chỉ có đặc trưng của chính nó. Lần thứ hai,
# lại theo hướng bottom-up, khắc phục điều này; PANet chính là FPN có thêm lần thứ hai. `reduce` giảm feature map còn
# một nửa, `fuse` là một tích chập. Số 4321 có nghĩa là: đặc trưng của chính c5 bốn lần, của c4 ba lần, của c3 hai lần,
# của c2 một lần.


# %%
def halve(x):
    return ops.max_pool(x, 2)


twice = bottom_up(pyramid, reduce=[halve] * 3, fuse=identity[:3])
for name, level in zip(NAMES, twice, strict=True):
    print(name, level.shape[1:3], "holds", int(level[0, 0, 0, 0]))

# %% [markdown] lang="en"
# **Exercise.** Write the top-down pass in plain NumPy: `levels` go from coarse to fine, each has twice the size of the
# one before. Return all results, coarse to fine. `np.repeat` enlarges.

# %% [markdown] lang="vi"
# **Bài tập.** Viết đường top-down bằng NumPy: `levels` đi từ thô đến mịn, mỗi mức có kích thước gấp đôi mức trước. Trả
# về mọi kết quả, từ thô đến mịn. Dùng `np.repeat` để phóng to.


# %% tags=["exercise"]
def my_top_down(levels):
    """levels: a list of [n, n], [2n, 2n], [4n, 4n], ... -> as many maps of the same sizes."""
    return levels  # your turn


# %% tags=["solution"]
def my_top_down(levels):
    """levels: a list of [n, n], [2n, 2n], [4n, 4n], ... -> as many maps of the same sizes."""
    results = [levels[0]]
    for level in levels[1:]:
        results.append(level + results[-1].repeat(2, axis=0).repeat(2, axis=1))
    return results


# %% tags=["check"]
random = np.random.default_rng(0)
maps = [random.normal(size=(2**i, 2**i)).astype(np.float32) for i in range(4)]
expected = top_down([m[None, :, :, None] for m in maps], identity)
for mine, theirs in zip(my_top_down(maps), expected, strict=True):
    assert np.allclose(mine, theirs[0, :, :, 0], atol=1e-6), f"level of {mine.shape}"
print("Right: as jaxseg.blocks.top_down.")

# %% [markdown] lang="en"
# ## The price
#
# The lecture asks what is bad about a second FPN. It is larger: here are the parameters and multiply-accumulates (MACs)
# of the decoders alone, on a ResNet-18, for an image of 256 x 256 pixels. BiFPN goes both ways several times with
# cheaper, separable convolutions. Only shapes are computed.

# %% [markdown] lang="vi"
# ## Nhược điểm: cái giá phải trả
#
# Bài giảng hỏi: sử dụng 2 lần FPN có nhược điểm gì? Mô hình lớn hơn. Dưới đây là số tham số và số phép nhân-cộng (MAC)
# của riêng decoder, với ResNet-18, cho ảnh 256 x 256 điểm ảnh. BiFPN đi cả hai chiều nhiều lần nhưng dùng separable
# convolution, rẻ hơn. Ở đây chỉ tính kích thước, không chạy mạng.

# %% figure="price" en="Parameters and MACs of three decoders on a ResNet-18." vi="Số tham số và MAC của ba decoder với ResNet-18."
prices = {}
for name in ("fpn", "panet", "bifpn"):
    model = jaxseg.create_model(name, "resnet18", num_classes=19)
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    variables = jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x, train=False), image)
    size = sum(leaf.size for part in ("decoder", "head") for leaf in jax.tree.leaves(variables["params"][part]))
    macs = count_macs(lambda v, x, model=model: model.apply(v, x, train=False), variables, image)
    prices[name] = size / 1e6, sum(count for scope, count in macs.items() if "encoder" not in scope) / 1e9
    print(f"{name:6} {prices[name][0]:.2f} million parameters, {prices[name][1]:.2f} GMAC beyond the encoder")
fig, axes = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
for panel, title, values in zip(axes, ("million parameters", "GMAC"), zip(*prices.values(), strict=True), strict=True):
    panel.barh(["FPN", "FPN twice (PANet)", "BiFPN, three layers"], values, color=["#3b6fb6", "#c8553d", "#5a9367"])
    panel.invert_yaxis()
    panel.set_title(title, fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)

# %% [markdown] lang="en"
# ## Training: once, twice, and both ways
#
# Small versions on the same encoder. One run each on an easy task: a difference of a point or two says nothing. What
# the second pass brings must be measured on your own data; what it costs, you have just seen.

# %% [markdown] lang="vi"
# ## Huấn luyện: một lần, hai lần, và hai chiều
#
# Các phiên bản nhỏ trên cùng một encoder. Mỗi mạng chỉ chạy một lần trên một bài toán dễ: chênh nhau một hai điểm không
# nói lên điều gì. Muốn biết lần FPN thứ hai có ích hay không thì phải đo trên dữ liệu của bạn; còn cái giá của nó thì
# bạn vừa thấy.

# %%
NETWORKS = {
    "fpn": {"pyramid_features": 64, "features": 32},
    "panet": {"pyramid_features": 64, "features": 32},
    "bifpn": {"pyramid_features": 48, "features": 32, "repeats": 2, "convs": 2},
}
ENCODER = {"widths": (16, 32, 64, 96, 128), "convs": 1}


def read(split, indices):
    samples = [shapes.splits[split][int(i)] for i in indices]
    image = ops.normalize(np.stack([s["image"] for s in samples]), (127.5,) * 3, (64.0,) * 3)
    return {"image": image, "label": np.stack([s["label"] for s in samples]).astype(np.int32)}


def loss_fn(outputs, labels, where, step):
    logits = outputs["logits"]
    return jaxseg.losses.cross_entropy(logits, labels) + jaxseg.losses.dice(logits, labels, per_image=False)


def train(network, steps):
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    state = place(create_state(jaxseg.init(network, jax.random.key(0)), tx), make_mesh())
    step = make_train_step(network, tx, loss_fn)
    order = np.random.default_rng(0)
    for _ in range(steps):
        state, metrics = step(state, read("train", order.integers(0, 1024, 8)))
    return {"params": state.params, "batch_stats": state.batch_stats}, float(metrics["loss"])


for name in [] if not STEPS else ["fpn"] if STEPS <= 2 else NETWORKS:  # two steps only show that it runs
    network = jaxseg.create_model(name, "plain", num_classes=7, encoder_options=ENCODER, **NETWORKS[name])
    variables, loss = train(network, STEPS)
    print(f"{name:6} trained for {STEPS} steps, last loss {loss:.3f}")
    if STEPS > 2:
        val = read("val", range(64))
        masks = jax.jit(lambda x, n=network, v=variables: n.apply(v, x, train=False)["logits"].argmax(-1))(val["image"])
        matrix = jaxseg.metrics.confusion_matrix(masks, val["label"], num_classes=7)
        print(f"{name:6} mIoU on 64 images that were not trained on: {jaxseg.metrics.scores(matrix)['miou']:.3f}")

# %% [markdown] lang="en"
# ## Where to go from here
#
# - Configs: [`camvid_fpn_lite0`](../../configs/camvid_fpn_lite0.py),
#   [`cityscapes_fpn`](../../configs/papers/cityscapes_fpn.py),
#   [`cityscapes_panet`](../../configs/papers/cityscapes_panet.py), [`voc_bifpn`](../../configs/papers/voc_bifpn.py),
#   [`folder_fpn`](../../configs/folder_fpn.py) (your own images).
# - Pages: [what a second path costs](../models.md), [a league of all models](../league.md).
# - Papers: Lin et al., [arXiv:1612.03144](https://arxiv.org/abs/1612.03144); Kirillov et al.,
#   [arXiv:1901.02446](https://arxiv.org/abs/1901.02446); Liu et al.,
#   [arXiv:1803.01534](https://arxiv.org/abs/1803.01534); Tan et al.,
#   [arXiv:1911.09070](https://arxiv.org/abs/1911.09070).
# - Next: [lesson 6, PAN](06_pan.md).

# %% [markdown] lang="vi"
# ## Tiếp theo
#
# - Config: [`camvid_fpn_lite0`](../../configs/camvid_fpn_lite0.py),
#   [`cityscapes_fpn`](../../configs/papers/cityscapes_fpn.py),
#   [`cityscapes_panet`](../../configs/papers/cityscapes_panet.py), [`voc_bifpn`](../../configs/papers/voc_bifpn.py),
#   [`folder_fpn`](../../configs/folder_fpn.py) (ảnh của chính bạn).
# - Trang tài liệu (tiếng Anh): [giá của đường đi thứ hai](../models.md), [bảng xếp hạng các mô hình](../league.md).
# - Bài báo: Lin et al., [arXiv:1612.03144](https://arxiv.org/abs/1612.03144); Kirillov et al.,
#   [arXiv:1901.02446](https://arxiv.org/abs/1901.02446); Liu et al.,
#   [arXiv:1803.01534](https://arxiv.org/abs/1803.01534); Tan et al.,
#   [arXiv:1911.09070](https://arxiv.org/abs/1911.09070).
# - Bài sau: [bài 6, PAN](06_pan.md).
