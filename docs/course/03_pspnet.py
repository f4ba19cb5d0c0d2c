# %% [markdown] lang="en"
# # Lesson 3: PSPNet
#
# A convolution sees its neighborhood. What a thing is may depend on the whole scene: the same gray patch is a boat on
# water and a car on a road. PSPNet gives every position a summary of the image at several scales. Its one new part is
# the pyramid pooling module, PPM, and this lesson builds it.

# %% [markdown] lang="vi"
# # Bài 3: PSPNet
#
# Tích chập chỉ nhìn vùng lân cận. Nhưng muốn biết một vật là gì, có khi phải nhìn toàn cảnh: cùng một mảng xám, trên
# mặt nước là thuyền, trên đường là ô tô. PSPNet cho mỗi vị trí một bản tóm tắt của ảnh ở nhiều tỉ lệ. Thành phần mới
# duy nhất của nó là Pyramid Pooling Module (PPM); bài này sẽ dựng module đó.

# %%
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib import pyplot as plt

import jaxseg
from jaxseg import ops
from jaxseg.analysis import receptive_field
from jaxseg.blocks import ppm
from jaxseg.training import create_state, make_mesh, make_train_step, place

STEPS = int(os.environ.get("COURSE_STEPS", 0))  # 800 trains two networks; that takes some minutes on two cores
BINS = (1, 2, 3, 6)

# %% [markdown] lang="en"
# ## Averages over a grid
#
# Pool a feature map to 1 x 1, 2 x 2, 3 x 3 and 6 x 6 averages. The first is the whole image in one number per channel,
# the last is still a small map. Enlarged to the old size and put beside the features, they tell every position about
# its surroundings, near and far: local and global features in one place.

# %% [markdown] lang="vi"
# ## Trung bình trên lưới
#
# Lấy trung bình (pooling) feature map về 1 x 1, 2 x 2, 3 x 3 và 6 x 6. Mức đầu tóm tắt cả ảnh thành một số cho mỗi
# kênh, mức cuối vẫn là một feature map nhỏ. Sau khi được phóng to về kích thước cũ và ghép với feature map ban đầu, các
# mức này cho mỗi vị trí biết về vùng xung quanh, cả gần lẫn xa: đặc trưng cục bộ (local feature) và đặc trưng ngữ cảnh
# (global feature) được kết hợp.

# %% figure="bins" en="A gray image, its averages over four grids, and these enlarged." vi="Ảnh xám, trung bình trên bốn lưới, và kết quả phóng to."
gray = jaxseg.create_dataset("shapes", size=48, train=4).splits["train"][3]["image"].mean(-1)
x = jnp.asarray(gray, jnp.float32)[None, :, :, None]
pool = jax.jit(lambda x: [ops.adaptive_avg_pool(x, (n, n)) for n in BINS])
enlarge = jax.jit(lambda views: [ops.resize(view, (48, 48), align_corners=True) for view in views])
fig, axes = plt.subplots(2, 5, figsize=(10, 4.3), layout="constrained")
for column, n, small, large in zip(axes.T[1:], BINS, pool(x), enlarge(pool(x)), strict=True):
    for panel, view in zip(column, (small, large), strict=True):
        panel.imshow(np.asarray(view[0, :, :, 0]), cmap="gray", vmin=0, vmax=255)
    column[0].set_title(f"{n} x {n}", fontsize=9)
axes[0, 0].imshow(gray, cmap="gray", vmin=0, vmax=255)
axes[0, 0].set_title("features", fontsize=9)
for panel in axes.ravel():
    panel.set_axis_off()

# %% [markdown] lang="en"
# **Exercise.** Write the average over n x n bins. A map of 7 rows does not divide into 3 parts, so bins overlap: bin i
# runs from floor(i * 7 / 3) up to, but not including, ceil((i + 1) * 7 / 3).

# %% [markdown] lang="vi"
# **Bài tập.** Viết hàm lấy trung bình trên n x n ô. Feature map 7 hàng không chia đều cho 3, nên các ô chồng lên nhau:
# ô thứ i đi từ floor(i * 7 / 3) đến trước ceil((i + 1) * 7 / 3).


# %% tags=["exercise"]
def average_bins(x, n):
    """x [h, w] -> [n, n]."""
    return np.zeros((n, n))  # your turn


# %% tags=["solution"]
def average_bins(x, n):
    """x [h, w] -> [n, n]."""
    (h, w), result = x.shape, np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            rows = slice(i * h // n, -(-(i + 1) * h // n))
            columns = slice(j * w // n, -(-(j + 1) * w // n))
            result[i, j] = x[rows, columns].mean()
    return result


# %% tags=["check"]
for size, n in ((6, 3), (7, 3), (5, 2)):
    square = np.arange(size * size, dtype=np.float32).reshape(size, size) ** 1.5
    expected = ops.adaptive_avg_pool(square[None, :, :, None], (n, n))[0, :, :, 0]
    assert np.allclose(average_bins(square, n), expected, rtol=1e-5), f"{size} x {size} to {n} x {n}: {expected}"
print("Right: as ops.adaptive_avg_pool.")

# %% [markdown] lang="en"
# ## The module
#
# `ppm` is the figure as a pure function. Each bin has its own layer (a 1 x 1 convolution that reduces the channels),
# and `project` fuses everything. Here the layers do nothing, so the result is the bare concatenation: for a map of 6 x
# 6 with one channel, five numbers at every position. In its corner, the bins get finer and the numbers come nearer to
# the feature itself.

# %% [markdown] lang="vi"
# ## Module PPM
#
# `ppm` là hình vẽ của PPM viết thành hàm thuần. Mỗi mức có một layer riêng (tích chập 1 x 1 giảm số kênh), và `project`
# kết hợp tất cả. Ở đây các layer không làm gì, nên kết quả chỉ là phép ghép: với feature map 6 x 6 có một kênh, mỗi vị
# trí có năm số. Tại góc, lưới càng mịn thì con số càng gần với chính đặc trưng ở đó.

# %%
ramp = jnp.arange(36.0).reshape(1, 6, 6, 1)
fused = ppm(ramp, {n: lambda pooled: pooled for n in BINS}, project=lambda views: views)
print(fused.shape, "in the corner:", fused[0, 0, 0], "(bins 1, 2, 3, 6, and the feature)")

# %% [markdown] lang="en"
# ## How it widens the receptive field
#
# The table is that of a small PSPNet. The deepest level of its encoder, c3, sees 36 pixels. After the module, which is
# the decoder here, every position sees the whole image, however large it is.

# %% [markdown] lang="vi"
# ## PPM mở rộng Receptive Field như thế nào
#
# Bảng dưới là của một PSPNet nhỏ. Mức sâu nhất của encoder, c3, thấy 36 điểm ảnh. Sau PPM (ở đây là decoder), mọi vị
# trí đều thấy cả ảnh, dù ảnh lớn đến đâu.

# %%
SMALL = {"output_stride": 8, "auxiliary": False, "level": "c3", "features": 32, "projection_kernel": 1, "dropout": 0.0}
ENCODER = {"widths": (16, 32, 64), "convs": 1}


def pspnet(bins):
    return jaxseg.create_model("pspnet", "plain", num_classes=3, encoder_options=ENCODER, bins=bins, **SMALL)


print(receptive_field.table(receptive_field.theoretical(pspnet(BINS), (96, 96))))

# %% [markdown] lang="en"
# ## Training: a lamp in the corner
#
# A task that needs the whole image. Half of the images have a lamp, a white square in the upper left corner. Every
# shape is class 1 if the lamp is on and class 2 if it is off. Nothing near a shape tells which, unless it lies beside
# the lamp. One PSPNet has only the finest bins, 6 x 6, the other all four.

# %% [markdown] lang="vi"
# ## Huấn luyện: ngọn đèn ở góc ảnh
#
# Đây là bài toán cần nhìn cả ảnh. Một nửa số ảnh có đèn: một ô vuông trắng ở góc trên bên trái. Mọi hình trong ảnh
# thuộc lớp 1 nếu đèn sáng, lớp 2 nếu đèn tắt. Vùng quanh một hình không cho biết điều đó, trừ khi nó nằm cạnh đèn. Một
# PSPNet chỉ có lưới mịn nhất 6 x 6, mạng kia có đủ bốn lưới.

# %% figure="lamp" en="The lamp is on in the first two images: their shapes are class 1." vi="Hai ảnh đầu đèn sáng: các hình thuộc lớp 1."
shapes = jaxseg.create_dataset("shapes", size=96, train=512, val=64)
PALETTE = [(64, 64, 72), (245, 195, 70), (80, 150, 235)]


def read(split, indices):
    images, labels = [], []
    for i in indices:
        sample = shapes.splits[split][int(i)]
        lit = i % 4 < 2
        image, shape = sample["image"], sample["label"] > 0
        image[:12, :12], shape[:12, :12] = 255 * lit, False
        images.append(image)
        labels.append(np.where(shape, 1 if lit else 2, 0))
    images, labels = np.stack(images), np.stack(labels).astype(np.int32)
    return {"image": ops.normalize(images, (127.5,) * 3, (64.0,) * 3), "label": labels}, images


batch, images = read("train", range(4))
fig, axes = plt.subplots(2, 4, figsize=(8, 4), layout="constrained")
for above, below, image, label in zip(*axes, images, batch["label"], strict=True):
    above.imshow(image)
    below.imshow(jaxseg.visualize.colorize(label, PALETTE))
for panel in axes.ravel():
    panel.set_axis_off()


# %%
def loss_fn(outputs, labels, where, step):
    return jaxseg.losses.cross_entropy(outputs["logits"], labels)


def train(network, steps):
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    state = place(create_state(jaxseg.init(network, jax.random.key(0)), tx), make_mesh())
    step = make_train_step(network, tx, loss_fn)
    order = np.random.default_rng(0)
    for _ in range(steps):
        state, metrics = step(state, read("train", order.integers(0, 512, 8))[0])
    return {"params": state.params, "batch_stats": state.batch_stats}, float(metrics["loss"])


for bins in [] if not STEPS else [BINS] if STEPS <= 2 else [(6,), BINS]:  # two steps only show that it runs
    network = pspnet(bins)
    variables, loss = train(network, STEPS)
    print(f"bins {bins!s:12} trained for {STEPS} steps, last loss {loss:.3f}")
    if STEPS > 2:
        val, _ = read("val", range(64))
        masks = jax.jit(lambda x, n=network, v=variables: n.apply(v, x, train=False)["logits"].argmax(-1))(val["image"])
        matrix = jaxseg.metrics.confusion_matrix(masks, val["label"], num_classes=3)
        ious = ", ".join(f"{iou:.3f}" for iou in jaxseg.metrics.scores(matrix)["iou"])
        print(f"bins {bins!s:12} IoU of background, lamp on, lamp off: {ious}")

# %% [markdown] lang="en"
# ## Where to go from here
#
# - Configs: [`cityscapes_pspnet`](../../configs/papers/cityscapes_pspnet.py) (the paper's: dilated ResNet, auxiliary
#   head with weight 0.4), [`ade20k_upernet`](../../configs/papers/ade20k_upernet.py) (the PPM on top of a feature
#   pyramid).
# - Pages: [models](../models.md), [receptive fields](../analysis.md).
# - Paper: Zhao et al., 2016, [arXiv:1612.01105](https://arxiv.org/abs/1612.01105).
# - Next: [lesson 4, DeepLab](04_deeplab_crf.md).

# %% [markdown] lang="vi"
# ## Tiếp theo
#
# - Config: [`cityscapes_pspnet`](../../configs/papers/cityscapes_pspnet.py) (theo bài báo: ResNet với dilation, đầu ra
#   phụ có trọng số 0.4), [`ade20k_upernet`](../../configs/papers/ade20k_upernet.py) (PPM đặt trên một feature pyramid).
# - Trang tài liệu (tiếng Anh): [mô hình](../models.md), [Receptive Field](../analysis.md).
# - Bài báo: Zhao et al., 2016, [arXiv:1612.01105](https://arxiv.org/abs/1612.01105).
# - Bài sau: [bài 4, DeepLab](04_deeplab_crf.md).
