# %% [markdown] lang="en"
# # Lesson 4: DeepLab and the CRF
#
# To name a pixel, a network must see far; to draw an outline, its map must not be small. Pooling gives the first and
# takes the second. DeepLab's answer is the atrous (dilated) convolution. This lesson takes it apart, builds the ASPP
# from it, and ends with the fully connected CRF, which the first two versions of DeepLab put behind the network.

# %% [markdown] lang="vi"
# # Bài 4: DeepLab và CRF
#
# Muốn phân lớp một điểm ảnh, mạng phải nhìn xa; muốn vẽ đúng đường biên, feature map không được quá bé. Pooling giúp
# nhìn xa nhưng làm feature map bé đi. Cách giải quyết của DeepLab là Atrous Convolution (Dilated Convolution). Bài này
# xem xét kỹ phép tích chập đó, dùng nó để dựng ASPP, và kết thúc với Fully Connected Conditional Random Field (CRF) mà
# DeepLabV1 và V2 đặt sau mạng.

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
from jaxseg.blocks import aspp
from jaxseg.training import create_state, make_mesh, make_train_step, place

STEPS = int(os.environ.get("COURSE_STEPS", 0))  # 300 trains two networks; that takes some minutes on two cores
shapes = jaxseg.create_dataset("shapes", size=64, train=1024, val=64, color=0.9)

# %% [markdown] lang="en"
# ## Four ways to see more
#
# | way | idea | in jaxseg |
# |---|---|---|
# | image pyramid | the same network on several sizes of the image | `image_pyramid` |
# | encoder-decoder | deep and shallow features meet on the way up | `unet`, `fpn` |
# | deeper with atrous convolution | more layers, no further pooling | `deeplabv3_cascade` |
# | spatial pyramid pooling | one map, looked at with several widths | `pspnet`, `deeplabv3` |

# %% [markdown] lang="vi"
# ## Bốn cách để nắm được nhiều ngữ cảnh hơn
#
# | cách | ý tưởng | trong jaxseg |
# |---|---|---|
# | Image Pyramid | cùng một mạng chạy trên nhiều kích thước của ảnh | `image_pyramid` |
# | Encoder-Decoder | đặc trưng sâu và nông gặp nhau trên đường đi lên | `unet`, `fpn` |
# | Deeper with Atrous Convolution | thêm layer nhưng không pooling thêm | `deeplabv3_cascade` |
# | Spatial Pyramid Pooling | một feature map, nhìn ở nhiều tỉ lệ | `pspnet`, `deeplabv3` |

# %% [markdown] lang="en"
# ## Atrous convolution
#
# The kernel keeps its nine numbers, but they are spread: with a rate of 2 there is one zero between two of them, with a
# rate of 3 there are two. So it reaches further, and has no more parameters.
#
# **Exercise 1.** Put the zeros in. A kernel of k x k becomes one of (k - 1) * rate + 1.

# %% [markdown] lang="vi"
# ## Dilated Convolution
#
# Kernel vẫn có chín số, chỉ thêm các số 0 vào giữa để mở rộng kích thước: với rate 2 có một số 0 xen giữa hai phần tử,
# với rate 3 có hai số. Nhờ vậy kernel quét được vùng rộng hơn, Receptive Field mở rộng, mà số lượng tham số không tăng.
#
# **Bài tập 1.** Hãy thêm các số 0 vào kernel. Kernel k x k trở thành kernel có cạnh (k - 1) * rate + 1.


# %% tags=["exercise"]
def spread(kernel, rate):
    """kernel [k, k] -> [(k - 1) * rate + 1, (k - 1) * rate + 1]."""
    return kernel  # your turn


# %% tags=["solution"]
def spread(kernel, rate):
    """kernel [k, k] -> [(k - 1) * rate + 1, (k - 1) * rate + 1]."""
    size = (len(kernel) - 1) * rate + 1
    wide = np.zeros((size, size), kernel.dtype)
    wide[::rate, ::rate] = kernel
    return wide


# %% tags=["check"]
draw = np.random.default_rng(0)
kernel, x = draw.normal(size=(3, 3)).astype(np.float32), draw.normal(size=(1, 12, 12, 1)).astype(np.float32)
for rate in (2, 3):
    atrous = ops.conv2d(x, kernel[:, :, None, None], dilation=rate)
    wide = np.asarray(spread(kernel, rate))
    assert wide.shape == (2 * rate + 1, 2 * rate + 1), f"rate {rate}: the kernel has {wide.shape}"
    assert np.allclose(ops.conv2d(x, wide[:, :, None, None]), atrous, atol=1e-5), f"rate {rate}: other numbers"
print("Right: a dilated convolution is one with zeros in its kernel.")

# %% [markdown] lang="en"
# ## How far three layers see
#
# Each panel counts on how many ways a pixel reaches the middle through three 3 x 3 convolutions. Rates that double from
# 1 on (1, 2, 4) see 15 pixels instead of 7 and miss none. Beginning with 2, every second pixel of a row is missed;
# three times the rate 4 sees one pixel of four. That is why DeepLabV3 varies the rates within a block (*multi-grid*).

# %% [markdown] lang="vi"
# ## Ba layer nhìn được bao xa
#
# Mỗi hình đếm số đường đi từ một điểm ảnh đến điểm giữa qua ba tích chập 3 x 3. Rate tăng gấp đôi bắt đầu từ 1 (1, 2,
# 4) nhìn được 15 điểm ảnh thay vì 7 và không bỏ sót điểm nào. Nếu bắt đầu từ 2 thì trên mỗi hàng, cứ hai điểm lại sót
# một; nếu dùng ba lần cùng rate 4 thì cứ bốn điểm chỉ thấy một. Vì thế DeepLabV3 thay đổi rate trong một block (kỹ
# thuật *Multi Grid*).

# %% figure="atrous" en="Ways from each pixel to the middle, for three rates each." vi="Số đường đi từ mỗi điểm ảnh đến điểm giữa, với ba rate."
point = jnp.zeros((1, 29, 29, 1)).at[0, 14, 14].set(1.0)
ones = jnp.ones((3, 3, 1, 1))
fig, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
for panel, rates in zip(axes, [(1, 1, 1), (1, 2, 4), (2, 4, 8), (4, 4, 4)], strict=True):
    reach = point
    for rate in rates:
        reach = ops.conv2d(reach, ones, padding=rate, dilation=rate)
    seen = np.asarray(reach[0, :, :, 0])
    rows = np.flatnonzero(seen.any(1))
    panel.imshow(np.where(seen > 0, seen, np.nan), cmap="viridis")
    panel.set_facecolor("0.9")
    width = rows[-1] - rows[0] + 1
    panel.set_title(f"rates {rates}:\n{width} x {width}, {np.count_nonzero(seen)} of them seen", fontsize=9)
    panel.set_xticks([])
    panel.set_yticks([])

# %% [markdown] lang="en"
# ## Output stride: a map that is larger, and what it costs
#
# The *output stride* of an encoder says how many times smaller than the image its last map, c5, is in height and width:
# usually 32. An encoder can replace its last poolings by dilation. The weights stay the same, c5 keeps the size of c4
# or c3, and each number in it costs as much as before; there are just more of them.

# %% [markdown] lang="vi"
# ## Output stride: feature map lớn hơn, và cái giá của nó
#
# *Output stride* cho biết feature map cuối cùng, c5, nhỏ hơn ảnh bao nhiêu lần ở mỗi chiều: bình thường là 32. Encoder
# có thể thay các lớp pooling cuối bằng dilation. Trọng số giữ nguyên, c5 có kích thước của c4 hoặc c3. Chi phí tính mỗi
# phần tử của c5 vẫn như trước, nhưng số phần tử nhiều hơn.

# %%
images = jax.ShapeDtypeStruct((1, 512, 512, 3), jnp.float32)
for stride in (32, 16, 8):
    encoder = jaxseg.create_encoder("plain", output_stride=stride)
    variables = jax.eval_shape(lambda x, encoder=encoder: encoder.init(jax.random.key(0), x, train=False), images)

    def encode(v, x, encoder=encoder):
        return encoder.apply(v, x, train=False)["c5"]

    c5 = jax.eval_shape(encode, variables, images)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    macs = count_macs(encode, variables, images).total()
    print(f"output stride {stride:2}: c5 {c5.shape[1:]}, {parameters:,} parameters, {macs / 1e9:.1f} GMAC")

# %% [markdown] lang="en"
# ## ASPP: one map, several rates at once
#
# Objects have several sizes, so atrous spatial pyramid pooling looks at the same map with several rates in parallel,
# and once at the mean of the whole image. DeepLabV2 adds the views up, DeepLabV3 concatenates and projects them. `aspp`
# is that wiring; the branches below are plain sums over nine pixels, and the input is a single 1, so you see where
# every branch finds it.

# %% [markdown] lang="vi"
# ## ASPP: một feature map, nhiều rate cùng lúc
#
# Đối tượng có nhiều kích cỡ, nên Atrous Spatial Pyramid Pooling (ASPP) nhìn cùng một feature map bằng vài dilated conv
# song song, mỗi nhánh một rate, và một lần bằng trung bình của cả ảnh. Ý tưởng giống Pyramid Pooling Module (PPM).
# DeepLabV2 cộng các kết quả, DeepLabV3 ghép (concatenate) rồi cho qua một tích chập 1 x 1. `aspp` là cách nối đó; mỗi
# nhánh dưới đây chỉ là tổng của chín điểm ảnh, đầu vào chỉ có đúng một số 1, nên có thể thấy mỗi nhánh tìm ra nó ở
# những vị trí nào.


# %% figure="aspp" en="Where each branch of the ASPP finds a single 1." vi="Mỗi nhánh của ASPP tìm thấy số 1 duy nhất ở đâu."
def atrous_branch(rate):
    return lambda x: ops.conv2d(x, ones, padding=rate, dilation=rate)


views = aspp(point, [lambda x: x, *map(atrous_branch, (3, 6, 9))], image=lambda x: x, project=lambda views: views)
fig, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained")
for i, (panel, title) in enumerate(zip(axes, ("1 x 1", "rate 3", "rate 6", "rate 9", "image"), strict=True)):
    panel.imshow(np.asarray(views[0, :, :, i]), cmap="viridis", vmin=0)
    panel.set_title(f"{title}, sum {float(views[0, :, :, i].sum()):.0f}", fontsize=9)
    panel.set_axis_off()

# %% [markdown] lang="en"
# ## The fully connected CRF
#
# The scores of a coarse map, enlarged, are smooth; the image knows where the edges are. In the CRF every pixel votes on
# the label of every other one, the louder the closer the two are in place and in color:
#
#     Q = softmax(scores + w K Q),   K[i, j] = exp(-|place_i - place_j|² / 2 a² - |color_i - color_j|² / 2 b²)
#
# starting from Q = softmax(scores), a few times over: the mean field. For a small image, K can be written down as one
# matrix.
#
# **Exercise 2.** Write K. Colors are in 0 to 255, places in pixels, row by row.

# %% [markdown] lang="vi"
# ## Fully Connected CRF
#
# Feature map bé sau khi được phóng to bằng thuật toán nội suy cho điểm số nhòe, còn ảnh gốc thì có cạnh rõ ràng. CRF
# làm mịn kết quả phân vùng: mỗi điểm ảnh bỏ phiếu cho nhãn của mọi điểm ảnh khác, hai điểm càng gần nhau về vị trí và
# màu sắc thì phiếu càng nặng:
#
#     Q = softmax(scores + w K Q),   K[i, j] = exp(-|place_i - place_j|² / 2 a² - |color_i - color_j|² / 2 b²)
#
# bắt đầu từ Q = softmax(scores), lặp lại vài lần: đó là mean field. Với ảnh nhỏ, có thể viết K thành một ma trận.
#
# **Bài tập 2.** Viết K. Màu từ 0 đến 255, vị trí tính bằng điểm ảnh, theo từng hàng.


# %% tags=["exercise"]
def affinity(image, a, b):
    """image [h, w, 3], 0 to 255 -> K [h * w, h * w]."""
    return np.eye(image.shape[0] * image.shape[1])  # your turn


# %% tags=["solution"]
def affinity(image, a, b):
    """image [h, w, 3], 0 to 255 -> K [h * w, h * w]."""
    places = np.stack(np.indices(image.shape[:2]), -1).reshape(-1, 2) / a
    points = np.concatenate([places, image.reshape(-1, 3) / b], axis=1)
    return np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 2)


# %% tags=["check"]
tiny = np.zeros((2, 3, 3))
tiny[1] = 30.0  # the second row is lighter
K = affinity(tiny, a=2.0, b=30.0)
assert K.shape == (6, 6) and np.allclose(K, K.T) and np.allclose(np.diag(K), 1), "symmetric, 1 on the diagonal"
assert np.isclose(K[0, 2], np.exp(-4 / 8)), "two pixels to the right, the same color"
assert np.isclose(K[0, 3], np.exp(-1 / 8 - 3 / 2)), "one pixel below, every color 30 apart"
print("Right.")

# %% figure="crf" en="A CRF on noisy scores." vi="CRF trên điểm số bị nhiễu."
sample = jaxseg.create_dataset("shapes", size=32, val=8).splits["val"][5]
classes = np.where(draw.random((32, 32)) < 0.55, sample["label"], draw.integers(0, 7, (32, 32)))
scores = jnp.asarray(2.0 * np.eye(7, dtype=np.float32)[classes].reshape(-1, 7))
K = jnp.asarray(affinity(sample["image"].astype(float), a=6.0, b=20.0), jnp.float32)
refined = ops.mean_field(scores, lambda q: -(K / K.sum(1, keepdims=True)) @ q * 8.0, iterations=5)
shown = {"label": sample["label"], "scores": classes, "after the CRF": np.asarray(refined.argmax(-1)).reshape(32, 32)}
fig, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
axes[0].imshow(sample["image"])
axes[0].set_title("image", fontsize=9)
for panel, (title, mask) in zip(axes[1:], shown.items(), strict=True):
    panel.imshow(jaxseg.visualize.colorize(mask, shapes.palette))
    panel.set_title(f"{title}: {100 * (mask == sample['label']).mean():.0f} % right", fontsize=9)
for panel in axes:
    panel.set_axis_off()

# %% [markdown] lang="en"
# ## Training: two output strides, with and without a CRF
#
# DeepLabV3 on the same encoder at output strides 16 and 8; the rates double with the map. `ops.dense_crf` is the CRF
# for images of any size: its second kernel lives on a lattice, so it never writes K down. Its settings here are a
# guess, not tuned. It helps a lot here: the scores are blurred, and the shapes have clean edges. On a sharp network the
# same guess may harm ([refinement](../refinement.md) has numbers), and DeepLabV3 left it out.

# %% [markdown] lang="vi"
# ## Huấn luyện: hai output stride, có và không có CRF
#
# DeepLabV3 trên cùng encoder, output stride 16 và 8; rate tăng gấp đôi khi feature map lớn gấp đôi. `ops.dense_crf` là
# CRF cho ảnh có kích thước bất kỳ: kernel thứ hai của nó được tính trên một lưới (lattice) nên không cần viết K ra. Các
# thiết lập ở đây chỉ là ước chừng, chưa được tinh chỉnh. Ở đây CRF giúp nhiều: điểm số còn nhòe, còn các hình có cạnh
# rõ. Với mạng sắc nét, cùng thiết lập đó có thể làm kết quả xấu đi ([làm mịn kết quả](../refinement.md) có số liệu), và
# DeepLabV3 đã loại bỏ CRF.

# %%
RATES = {16: (1, 2), 8: (2, 4)}


def read(split, indices):
    samples = [shapes.splits[split][int(i)] for i in indices]
    images = np.stack([s["image"] for s in samples])
    labels = np.stack([s["label"] for s in samples]).astype(np.int32)
    return {"image": ops.normalize(images, (127.5,) * 3, (64.0,) * 3), "label": labels}, images


def loss_fn(outputs, labels, where, step):
    logits = outputs["logits"]
    return jaxseg.losses.cross_entropy(logits, labels) + jaxseg.losses.dice(logits, labels, per_image=False)


def train(stride, steps):
    encoder = {"widths": (16, 32, 64, 96, 128), "convs": 1}
    options = {"features": 64, "rates": RATES[stride], "dropout": 0.0}
    network = jaxseg.create_model(
        "deeplabv3", "plain", num_classes=7, output_stride=stride, encoder_options=encoder, **options
    )
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    state = place(create_state(jaxseg.init(network, jax.random.key(0)), tx), make_mesh())
    step = make_train_step(network, tx, loss_fn)
    order = np.random.default_rng(0)
    for _ in range(steps):
        state, metrics = step(state, read("train", order.integers(0, 1024, 8))[0])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return jax.jit(lambda x: network.apply(variables, x, train=False)["logits"]), float(metrics["loss"])


def miou(masks, labels):
    return jaxseg.metrics.scores(jaxseg.metrics.confusion_matrix(masks, labels, num_classes=7))["miou"]


crf = jax.jit(
    lambda logits, images: ops.dense_crf(
        logits,
        images,
        spatial_weight=1.0,
        spatial_sigma=1.0,
        bilateral_weight=3.0,
        bilateral_sigma=8.0,
        color_sigma=12.0,
    )
)
for stride in [] if not STEPS else [16] if STEPS <= 2 else [16, 8]:  # two steps only show that it runs
    network, loss = train(stride, STEPS)
    print(f"output stride {stride:2} trained for {STEPS} steps, last loss {loss:.3f}")
    if STEPS > 2:
        batch, images = read("val", range(64))
        logits = network(batch["image"])
        plain, refined = (miou(x.argmax(-1), batch["label"]) for x in (logits, crf(logits, images)))
        print(f"output stride {stride:2} mIoU on 64 images: {plain:.3f}, after the CRF {refined:.3f}")

# %% [markdown] lang="en"
# ## Where to go from here
#
# - Configs: [`voc_deeplabv1`](../../configs/papers/voc_deeplabv1.py),
#   [`voc_deeplabv2`](../../configs/papers/voc_deeplabv2.py), [`voc_deeplabv3`](../../configs/papers/voc_deeplabv3.py),
#   [`voc_deeplabv3_cascade`](../../configs/papers/voc_deeplabv3_cascade.py),
#   [`voc_deeplabv3plus`](../../configs/papers/voc_deeplabv3plus.py),
#   [`voc_image_pyramid`](../../configs/papers/voc_image_pyramid.py),
#   [`camvid_deeplabv3plus_lite0`](../../configs/camvid_deeplabv3plus_lite0.py).
# - Pages: [refinement](../refinement.md) (the CRF, as a layer too, and how to tune it), [receptive
#   fields](../analysis.md), [models](../models.md).
# - Papers: Chen et al., [arXiv:1412.7062](https://arxiv.org/abs/1412.7062),
#   [arXiv:1606.00915](https://arxiv.org/abs/1606.00915), [arXiv:1706.05587](https://arxiv.org/abs/1706.05587);
#   Krähenbühl & Koltun, [arXiv:1210.5644](https://arxiv.org/abs/1210.5644).
# - Next: [lesson 5, FPN](05_fpn.md).

# %% [markdown] lang="vi"
# ## Tiếp theo
#
# - Config: [`voc_deeplabv1`](../../configs/papers/voc_deeplabv1.py),
#   [`voc_deeplabv2`](../../configs/papers/voc_deeplabv2.py), [`voc_deeplabv3`](../../configs/papers/voc_deeplabv3.py),
#   [`voc_deeplabv3_cascade`](../../configs/papers/voc_deeplabv3_cascade.py),
#   [`voc_deeplabv3plus`](../../configs/papers/voc_deeplabv3plus.py),
#   [`voc_image_pyramid`](../../configs/papers/voc_image_pyramid.py),
#   [`camvid_deeplabv3plus_lite0`](../../configs/camvid_deeplabv3plus_lite0.py).
# - Trang tài liệu (tiếng Anh): [làm mịn kết quả](../refinement.md) (CRF, cả ở dạng một lớp, và cách tinh chỉnh),
#   [Receptive Field](../analysis.md), [mô hình](../models.md).
# - Bài báo: Chen et al., [arXiv:1412.7062](https://arxiv.org/abs/1412.7062),
#   [arXiv:1606.00915](https://arxiv.org/abs/1606.00915), [arXiv:1706.05587](https://arxiv.org/abs/1706.05587);
#   Krähenbühl & Koltun, [arXiv:1210.5644](https://arxiv.org/abs/1210.5644).
# - Bài sau: [bài 5, FPN](05_fpn.md).
