# %% [markdown] lang="en"
# # Lesson 6: PAN
#
# To say what an image shows, you do not look at all of it with the same care. Attention gives a network the same
# freedom: weights, computed from the image itself, that say what counts. The pyramid attention network (PAN) uses two
# kinds. Feature pyramid attention (FPA) weighs *positions* of the deepest map, the global attention upsample (GAU)
# weighs *channels* on the way up.

# %% [markdown] lang="vi"
# # Bài 6: PAN
#
# Khi xác định nội dung bức ảnh, không phải vùng nào cũng quan trọng như nhau. Cơ chế Attention giúp mạng "chú ý" vào
# vùng quan trọng: nó tính từ chính bức ảnh một ma trận trọng số ứng với từng vùng. Pyramid Attention Network (PAN) dùng
# hai loại. Feature Pyramid Attention (FPA) đặt trọng số cho *vị trí* trên feature map cuối cùng; Global Attention
# Upsample (GAU) đặt trọng số cho *kênh* trên đường phóng to.

# %%
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt
from PIL import Image

import jaxseg
from jaxseg import ops
from jaxseg.analysis.attention import attention
from jaxseg.blocks import fpa, gau
from jaxseg.blocks.fpa import halve, pyramid
from jaxseg.training import create_state, make_mesh, make_train_step, place

STEPS = int(os.environ.get("COURSE_STEPS", 0))  # 300 trains the network; that takes some minutes on two cores
shapes = jaxseg.create_dataset("shapes", size=96, train=512, val=64, color=0.9)

# %% [markdown] lang="en"
# ## FPA: attention to positions
#
# The last map of the (dilated) encoder goes through a small pyramid: halve it, filter with a 7 x 7 kernel, halve, 5 x
# 5, halve, 3 x 3; then come back, enlarging and adding, as FPN does. The result is one weight per position that knows
# the surroundings at three scales. It is multiplied with the features, and the mean of the whole image is added.
#
# `pyramid` and `fpa` are these two wirings. Below, each filter is just a mean over its window, so the attention is high
# where the features are large and their surroundings are too: the lonely pixel gets little.

# %% [markdown] lang="vi"
# ## FPA: chú ý theo vị trí
#
# Feature map cuối cùng tại backbone (dùng Dilated Conv như DeepLab) đi qua một Pyramid nhỏ gồm các Conv với kernel khác
# nhau: giảm một nửa kích thước, Conv 7 x 7, giảm một nửa, Conv 5 x 5, giảm một nửa, Conv 3 x 3; sau đó phóng to dần và
# cộng lại, giống với FPN. Kết quả là ma trận trọng số: mỗi vị trí có một trọng số, phụ thuộc vào vùng xung quanh ở ba
# tỉ lệ. Trọng số này nhân với feature map, rồi cộng thêm trung bình của cả ảnh (global pooling).
#
# `pyramid` và `fpa` là hai cách nối đó. Dưới đây mỗi bộ lọc chỉ là trung bình trên cửa sổ của nó, nên trọng số cao ở
# chỗ đặc trưng lớn và xung quanh cũng lớn: điểm sáng đơn lẻ nhận được rất ít.


# %% figure="fpa" en="Features, the pyramid's weights, and their product." vi="Đặc trưng, trọng số của Pyramid, và tích của chúng."
def mean_over(size):
    kernel = jnp.full((size, size, 1, 1), 1 / size**2)
    return lambda x: ops.conv2d(x, kernel, padding=size // 2)


features = jnp.zeros((1, 32, 32, 1)).at[0, 6:16, 8:18].set(1.0).at[0, 24, 24].set(1.0)


@jax.jit
def attend(x):
    filters = [mean_over(size) for size in (7, 5, 3)]
    weights = pyramid(x, pool=halve, down=filters, across=filters)
    return weights, fpa(x, attention=lambda x: weights, middle=lambda x: x, image=lambda mean: 0 * mean)


weights, weighed = attend(features)
fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained")
for panel, title, x in zip(
    axes, ("features", "weights", "features, weighed"), (features, weights, weighed), strict=True
):
    drawn = panel.imshow(np.asarray(x[0, :, :, 0]), cmap="inferno", vmin=0)
    panel.set_title(f"{title}, {x.shape[1]} x {x.shape[2]}", fontsize=9)
    panel.set_axis_off()
    fig.colorbar(drawn, ax=panel, shrink=0.8)

# %% [markdown] lang="en"
# ## GAU: attention to channels
#
# On the way up a GAU joins a deep map (knows what, is small) with a shallow one (knows where, is large). The deep map
# is averaged over the image; from these averages come weights, one for each channel, that decide which channels of the
# shallow map may pass. Then the deep map is enlarged and added.
#
# **Exercise.** Write it in NumPy, with a sigmoid for the weights and `np.repeat` for the enlargement by two.

# %% [markdown] lang="vi"
# ## GAU: chú ý theo kênh
#
# Trên đường phóng to, GAU kết hợp feature map tại layer sâu hơn (biết "cái gì", nhỏ) với feature map tại layer nông hơn
# (biết "ở đâu", lớn). Global Pooling lấy trung bình layer sâu hơn trên cả ảnh; từ đó tính Channel Attention: mỗi kênh
# một trọng số, quyết định kênh nào của layer nông hơn được đi qua. Cuối cùng layer sâu hơn được phóng to và cộng vào.
#
# **Bài tập.** Viết GAU bằng NumPy, dùng sigmoid để tính trọng số và `np.repeat` để phóng to gấp đôi.


# %% tags=["exercise"]
def my_gau(low, high):
    """low [2h, 2w, c] shallow, high [h, w, c] deep -> [2h, 2w, c]."""
    return low  # your turn


# %% tags=["solution"]
def my_gau(low, high):
    """low [2h, 2w, c] shallow, high [h, w, c] deep -> [2h, 2w, c]."""
    weights = 1 / (1 + np.exp(-high.mean(axis=(0, 1))))
    return high.repeat(2, axis=0).repeat(2, axis=1) + low * weights


# %% tags=["check"]
random = np.random.default_rng(0)
low, high = random.normal(size=(8, 6, 4)).astype(np.float32), random.normal(size=(4, 3, 4)).astype(np.float32)
expected = gau(
    low[None],
    high[None],
    detail=lambda x: x,
    weigh=jax.nn.sigmoid,
    upsample=lambda x, like: ops.resize_like(x, like, "nearest"),
)[0]
assert np.allclose(my_gau(low, high), expected, atol=1e-5), "not yet what jaxseg.blocks.gau computes"
print("Right: as jaxseg.blocks.gau.")

# %% [markdown] lang="en"
# ## Training, and where the network looks
#
# PAN on a small encoder at output stride 8. Afterwards `jaxseg.analysis.attention` collects what the blocks computed on
# the way: FPA's weights over an image, and GAU's channel weights from the largest to the smallest. FPA's weights come
# out of a ReLU, so they are 0 or more and have no upper bound; on 12 x 12 features its pyramid has 6 x 6. GAU's come
# out of a sigmoid. The map shows what this small network found useful after a short training; it is no mask of the
# objects. (Without training you see the weights of a network that knows nothing.)

# %% [markdown] lang="vi"
# ## Huấn luyện, và xem mạng nhìn vào đâu
#
# PAN trên một encoder nhỏ, output stride 8. Sau đó `jaxseg.analysis.attention` thu lại những gì các block đã tính:
# trọng số của FPA trên một ảnh, và trọng số kênh của GAU từ lớn đến nhỏ. Trọng số của FPA là đầu ra của ReLU nên không
# âm và không có chặn trên; với feature map 12 x 12, Pyramid của nó có kích thước 6 x 6. Trọng số của GAU là đầu ra của
# sigmoid. Bản đồ trọng số cho thấy mạng nhỏ này chú ý vào vùng nào sau một lần huấn luyện ngắn; nó không phải là mask
# của đối tượng. (Nếu không huấn luyện, bạn thấy trọng số của một mạng chưa biết gì.)

# %%
network = jaxseg.create_model(
    "pan", "plain", num_classes=7, output_stride=8, encoder_options={"widths": (24, 48, 96), "convs": 1}
)


def read(split, indices):
    samples = [shapes.splits[split][int(i)] for i in indices]
    image = ops.normalize(np.stack([s["image"] for s in samples]), (127.5,) * 3, (64.0,) * 3)
    return {"image": image, "label": np.stack([s["label"] for s in samples]).astype(np.int32)}


def loss_fn(outputs, labels, where, step):
    logits = outputs["logits"]
    return jaxseg.losses.cross_entropy(logits, labels) + jaxseg.losses.dice(logits, labels, per_image=False)


def train(steps):
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    state = place(create_state(jaxseg.init(network, jax.random.key(0)), tx), make_mesh())
    step = make_train_step(network, tx, loss_fn)
    order = np.random.default_rng(0)
    for _ in range(steps):
        state, metrics = step(state, read("train", order.integers(0, 512, 8)))
    return {"params": state.params, "batch_stats": state.batch_stats}, float(metrics["loss"])


variables = jaxseg.init(network, jax.random.key(0))
if STEPS:
    variables, loss = train(STEPS)
    print(f"pan trained for {STEPS} steps, last loss {loss:.3f}")
if STEPS > 2:
    val = read("val", range(64))
    masks = jax.jit(lambda x: network.apply(variables, x, train=False)["logits"].argmax(-1))(val["image"])
    matrix = jaxseg.metrics.confusion_matrix(masks, val["label"], num_classes=7)
    print(f"pan mIoU on 64 images that were not trained on: {jaxseg.metrics.scores(matrix)['miou']:.3f}")

# %% figure="fpa_map" en="FPA's weight of every position." vi="Trọng số của FPA tại mỗi vị trí."
image = shapes.splits["val"][1]["image"]
found = attention(network, variables, ops.normalize(image, (127.5,) * 3, (64.0,) * 3))
folder = Path(tempfile.mkdtemp())
maps = {f"{block}: {title}": x for block, a in found.items() for title, x in (a.maps or {}).items()}
jaxseg.visualize.attention_figure(image, maps, folder / "maps.png")
Image.open(folder / "maps.png")

# %% figure="gau_channels" en="GAU's weights of the channels, sorted." vi="Trọng số kênh của GAU, xếp từ lớn đến nhỏ."
channels = {block: a.channels for block, a in found.items() if a.channels is not None}
jaxseg.visualize.channels_figure(image, channels, folder / "channels.png")
Image.open(folder / "channels.png")

# %% [markdown] lang="en"
# ## Where to go from here
#
# - Configs: [`voc_pan`](../../configs/papers/voc_pan.py), [`camvid_pan_lite0`](../../configs/camvid_pan_lite0.py);
#   other attention: [`pancreas_attention_unet`](../../configs/papers/pancreas_attention_unet.py),
#   [`lits_manet`](../../configs/papers/lits_manet.py).
# - Pages: [attention maps of a trained model](../analysis.md), [models](../models.md).
# - Paper: Li et al., 2018, [arXiv:1805.10180](https://arxiv.org/abs/1805.10180).
# - Next: [HUST chapter 6](hust6_segmentation.md).

# %% [markdown] lang="vi"
# ## Tiếp theo
#
# - Config: [`voc_pan`](../../configs/papers/voc_pan.py), [`camvid_pan_lite0`](../../configs/camvid_pan_lite0.py); các
#   kiểu attention khác: [`pancreas_attention_unet`](../../configs/papers/pancreas_attention_unet.py),
#   [`lits_manet`](../../configs/papers/lits_manet.py).
# - Trang tài liệu (tiếng Anh): [bản đồ attention của mô hình đã huấn luyện](../analysis.md), [mô hình](../models.md).
# - Bài báo: Li et al., 2018, [arXiv:1805.10180](https://arxiv.org/abs/1805.10180).
# - Bài sau: [HUST chương 6](hust6_segmentation.md).
