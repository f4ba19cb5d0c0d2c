# %% [markdown] lang="en"
# # HUST chapter 6: upsampling, objectives, networks
#
# Segmentation labels every pixel. It does not tell objects of one class apart. This lesson follows the chapter: from
# the sliding window to the fully convolutional network, the layers that enlarge a map, the objectives that a network is
# trained with, and the networks that everybody compares with.

# %% [markdown] lang="vi"
# # HUST chương 6: upsampling, hàm mục tiêu, các mạng tiêu biểu
#
# Phân đoạn ảnh là phân lớp từng điểm ảnh, không phân biệt các đối tượng cùng lớp trong ảnh. Bài này đi theo chương 6:
# từ trượt cửa sổ đến mạng tích chập hoàn toàn, các lớp tăng độ phân giải (upsampling), các hàm mục tiêu để huấn luyện,
# và một số mạng phân đoạn ảnh tiêu biểu.

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
from jaxseg import losses, ops
from jaxseg.analysis import loss_maps
from jaxseg.analysis.flops import count_macs
from jaxseg.models.patch_cnn import slide
from jaxseg.training import create_state, make_mesh, make_train_step, place

STEPS = int(os.environ.get("COURSE_STEPS", 0))  # 300 trains five times; that takes some minutes on two cores

# %% [markdown] lang="en"
# ## From the sliding window to one convolution
#
# The first idea was to cut a patch around every pixel and let a classifier name the pixel in its middle. Neighboring
# patches overlap almost wholly, and everything in the overlap is computed again for each of them. A fully convolutional
# network gives the same scores in one pass: dense layers become convolutions, and every pooling keeps all positions
# while later layers are dilated. Below are both, with the same weights.

# %% [markdown] lang="vi"
# ## Từ trượt cửa sổ đến tích chập hoàn toàn
#
# Ý tưởng đầu tiên là trượt cửa sổ: trích một vùng ảnh quanh mỗi điểm ảnh rồi phân lớp điểm ảnh trung tâm bằng mạng CNN.
# Các vùng cạnh nhau gần như trùng nhau, mà phần trùng bị tính lại cho từng vùng: đặc trưng không được dùng lại. Mạng
# tích chập hoàn toàn (Fully Convolutional) cho đúng các điểm số đó chỉ trong một lần chạy: lớp kết nối đầy đủ trở thành
# tích chập, lớp pooling giữ lại mọi vị trí, còn các lớp sau dùng dilated conv. Dưới đây là cả hai cách, với cùng trọng
# số.

# %%
patch_cnn = jaxseg.create_model("patch_cnn", num_classes=3, widths=(4, 8), kernel_sizes=(3, 3), positions=2, hidden=16)
variables = jaxseg.init(patch_cnn, jax.random.key(0))
image = jax.random.normal(jax.random.key(1), (1, 20, 20, 3))
one_pass = jax.jit(lambda v, x: patch_cnn.apply(v, x, train=False)["logits"])
windows = jax.jit(lambda v, x: slide(patch_cnn, v, x))
difference = jnp.abs(one_pass(variables, image) - windows(variables, image)).max()
cost = [count_macs(f, variables, image).total() for f in (windows, one_pass)]
print(f"patches of {patch_cnn.patch} x {patch_cnn.patch} pixels; largest difference {difference:.0e}")
print(f"multiply-accumulates: {cost[0]:,} by windows, {cost[1]:,} at once: {cost[0] / cost[1]:.0f} times less")

# %% [markdown] lang="en"
# ## Upsampling: what each layer does to the same 2 x 2
#
# A network that keeps the full resolution everywhere is expensive, so it shrinks the map by pooling or strides and has
# to enlarge it again. Unpooling has no parameters. *Nearest* repeats, *bed of nails* puts each value into a corner and
# zeros around it, *max unpooling* puts it back to where the maximum was when the encoder pooled. *Bilinear*
# interpolates. *Transposed convolution* has a kernel that is trained.

# %% [markdown] lang="vi"
# ## Upsampling: mỗi lớp làm gì với cùng một ma trận 2 x 2
#
# Giữ độ phân giải cao ở mọi lớp thì tính toán rất tốn kém. Vì vậy mạng giảm độ phân giải (downsampling) bằng max
# pooling hay strided conv, rồi phải tăng độ phân giải (upsampling) trở lại. Các lớp unpooling không có tham số.
# *Nearest Neighbor* lặp lại giá trị, *Bed of Nails* đặt giá trị vào một góc và thêm số 0 xung quanh, *Max Unpooling*
# đặt giá trị về đúng vị trí phần tử lớn nhất đã ghi nhớ khi pooling. *Bilinear* nội suy. *Tích chập chuyển vị*
# (transposed convolution) có kernel huấn luyện được.

# %% figure="upsampling" en="Six ways from 2 x 2 to 4 x 4." vi="Sáu cách đi từ 2 x 2 đến 4 x 4."
small = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
before = jnp.array([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).reshape(1, 4, 4, 1)
ones, triangle = np.ones((3, 3), np.float32), ops.bilinear_kernel(3, 2)  # 1/4 1/2 1/4; 1/2 1 1/2; 1/4 1/2 1/4


def transposed(x, kernel):
    return ops.conv_transpose2d(x, kernel.reshape(3, 3, 1, 1), stride=2, padding=1, output_padding=1)


TITLES = ("input", "nearest", "bed of nails", "max unpooling", "bilinear", "transposed, ones", "transposed, triangle")


@jax.jit
def upsample(x, before):
    _, positions = ops.max_pool_with_positions(before)  # of the maxima 5, 6, 7 and 8
    unpooled = [ops.nearest(x), ops.bed_of_nails(x), ops.max_unpool(x, positions)]
    return [x, *unpooled, ops.bilinear(x), transposed(x, jnp.asarray(ones)), transposed(x, jnp.asarray(triangle))]


fig, axes = plt.subplots(1, 7, figsize=(13, 2.2), layout="constrained")
for panel, title, x in zip(axes, TITLES, upsample(small, before), strict=True):
    grid = np.asarray(x[0, :, :, 0])
    panel.imshow(grid, cmap="viridis", vmin=0, vmax=max(4, grid.max()))
    for (row, column), value in np.ndenumerate(grid):
        shade = "white" if value < 0.6 * max(4, grid.max()) else "black"
        panel.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=8, color=shade)
    panel.set_title(title, fontsize=9)
    panel.set_axis_off()

# %% [markdown] lang="en"
# ## Transposed convolution
#
# A convolution with stride 2 takes a window for each result. The transposed one goes the other way: each input value
# writes a copy of the kernel, multiplied by the value, and the copies lie 2 apart. Where they overlap they are added.
# It is also called upconvolution, fractionally strided or backward strided convolution. "Deconvolution" is a misleading
# name, since nothing is inverted; it is the transpose of the matrix of the convolution, which the last line below
# tests.

# %% [markdown] lang="vi"
# ## Tích chập chuyển vị
#
# Tích chập với bước nhảy stride 2 lấy một cửa sổ cho mỗi giá trị kết quả. Tích chập chuyển vị đi theo chiều ngược lại:
# mỗi giá trị đầu vào ghi ra một bản sao của kernel nhân với giá trị đó, các bản sao cách nhau 2 ô. Chỗ nào chồng lên
# nhau thì cộng lại. Nó còn được gọi là upconvolution, backward strided hay fractionally strided convolution. Tên
# "deconvolution" dễ gây hiểu nhầm, vì không có phép nghịch đảo nào cả; đây là chuyển vị của ma trận tích chập, như dòng
# cuối dưới đây kiểm tra.

# %%
line = ops.conv_transpose1d(
    jnp.array([2.0, 3.0]).reshape(1, 2, 1), jnp.array([1.0, 10, 100]).reshape(3, 1, 1), stride=2
)
print("(2, 3) with kernel (1, 10, 100) at stride 2:", line.ravel())
key_x, key_y, key_k = jax.random.split(jax.random.key(2), 3)
x, y = jax.random.normal(key_x, (1, 8, 8, 1)), jax.random.normal(key_y, (1, 4, 4, 1))
kernel = jax.random.normal(key_k, (3, 3, 1, 1))
there = (ops.conv2d(x, kernel, stride=2, padding=1) * y).sum()
back = (x * transposed(y, kernel)).sum()
print(f"<conv(x), y> = {there:.4f}, <x, transposed(y)> = {back:.4f}")

# %% [markdown] lang="en"
# **Exercise 1.** Write the transposed convolution of a sequence. The result has (n - 1) * stride + k values.

# %% [markdown] lang="vi"
# **Bài tập 1.** Viết tích chập chuyển vị trong 1D. Kết quả có (n - 1) * stride + k giá trị.


# %% tags=["exercise"]
def transposed_1d(x, kernel, stride):
    """x [n], kernel [k] -> [(n - 1) * stride + k]."""
    result = np.zeros((len(x) - 1) * stride + len(kernel))
    return result  # your turn


# %% tags=["solution"]
def transposed_1d(x, kernel, stride):
    """x [n], kernel [k] -> [(n - 1) * stride + k]."""
    result = np.zeros((len(x) - 1) * stride + len(kernel))
    for i, value in enumerate(x):
        result[i * stride : i * stride + len(kernel)] += value * np.asarray(kernel)
    return result


# %% tags=["check"]
assert transposed_1d([2, 3], [1, 10, 100], 2).tolist() == [2, 20, 203, 30, 300], "2 and 3 meet in the middle: 200 + 3"
assert transposed_1d([1, 1, 1], [1, 1], 1).tolist() == [1, 2, 2, 1], "at stride 1 every copy overlaps the next one"
print("Right: as ops.conv_transpose1d.")

# %% [markdown] lang="en"
# ## Objectives of distributions: one pixel at a time
#
# With p the target (0 or 1) and p̂ the predicted probability:
#
# - cross entropy: -(p log p̂ + (1 - p) log(1 - p̂));
# - weighted cross entropy: the first term times β, so that missing the object costs more (`beta`);
# - focal loss: each term also times how wrong the pixel is, to the power of γ, and times α or 1 - α. Pixels that are
#   easy count next to nothing, and the many easy pixels of the background no longer drown the few of the object.
#
# The picture shows each loss at one pixel of the object.

# %% [markdown] lang="vi"
# ## Hàm mục tiêu dựa trên phân phối: xét từng điểm ảnh
#
# Gọi p là giá trị đúng (0 hoặc 1), p̂ là xác suất dự đoán:
#
# - Cross Entropy (CE): -(p log p̂ + (1 - p) log(1 - p̂));
# - Weighted CE: số hạng đầu nhân với trọng số β, để bỏ sót đối tượng bị phạt nặng hơn (`beta`);
# - Focal loss: mỗi số hạng còn nhân với mức độ sai của điểm ảnh mũ γ, và nhân với α hoặc 1 - α. Điểm ảnh dễ phân loại
#   gần như không còn đóng góp, nhờ vậy rất nhiều điểm ảnh dễ của lớp nền không còn lấn át số ít điểm ảnh của lớp đối
#   tượng: đó là cách giải quyết mất cân bằng.
#
# Hình dưới là giá trị của từng hàm tại một điểm ảnh của đối tượng.

# %% figure="curves" en="Losses of one pixel of the object." vi="Giá trị hàm mục tiêu tại một điểm ảnh của đối tượng."
p = np.linspace(0.01, 0.99, 99, dtype=np.float32)
logits = jnp.asarray(np.log(p / (1 - p))).reshape(-1, 1, 1, 1, 1)
label = jnp.ones((1, 1, 1), jnp.int32)
curves = {
    "cross entropy": losses.binary_cross_entropy,
    "weighted, β = 3": lambda x, t: losses.binary_cross_entropy(x, t, beta=3.0),
    "focal, γ = 1": lambda x, t: losses.sigmoid_focal(x, t, gamma=1.0, alpha=None),
    "focal, γ = 2": lambda x, t: losses.sigmoid_focal(x, t, gamma=2.0, alpha=None),
    "focal, γ = 5": lambda x, t: losses.sigmoid_focal(x, t, gamma=5.0, alpha=None),
}
values = jax.jit(lambda x: {name: jax.lax.map(lambda one: f(one, label), x) for name, f in curves.items()})(logits)
fig, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
for name in curves:
    axes.plot(p, values[name], label=name)
axes.set_xlabel("p̂, predicted probability of the object")
axes.set_ylabel("loss")
axes.set_ylim(0, 6)
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown] lang="en"
# ## Objectives of regions and of borders
#
# The Dice coefficient, 2 TP / (2 TP + FP + FN), and the IoU, TP / (TP + FP + FN), compare whole regions, so the size of
# the background does not matter. The Dice loss is 1 - (2 Σ p p̂ + 1) / (Σ p + Σ p̂ + 1). Tversky weighs the two kinds
# of errors: in the chapter's formula β is the weight of pixels predicted too many, 1 - β of pixels missed;
# `losses.tversky` calls these two α and β. Combined objectives are sums: Dice + cross entropy, Dice + focal.
#
# The boundary loss measures how far the predicted border lies from the true one. It needs no border, only a sum over
# regions: φ, the signed distance to the true border (negative inside), times the prediction. Here is φ of a small
# square.

# %% [markdown] lang="vi"
# ## Hàm mục tiêu dựa trên vùng và trên biên
#
# Dice coefficient, 2 TP / (2 TP + FP + FN), và IoU, TP / (TP + FP + FN), so sánh cả vùng, nên kích thước lớp nền không
# còn ảnh hưởng. Dice loss là 1 - (2 Σ p p̂ + 1) / (Σ p + Σ p̂ + 1). Tversky loss đặt trọng số cho hai loại lỗi: trong
# công thức của chương, β là trọng số của điểm ảnh dự đoán thừa, 1 - β là của điểm ảnh bị bỏ sót; `losses.tversky` gọi
# hai trọng số này là α và β. Hàm mục tiêu kết hợp là tổng: Dice loss + CE, Dice loss + Focal loss.
#
# Boundary loss đo biên dự đoán cách biên thật bao xa. Nó không cần tìm biên, chỉ cần lấy tổng trên vùng: φ, khoảng cách
# có dấu đến biên thật (âm ở bên trong), nhân với dự đoán. Dưới đây là φ của một hình vuông nhỏ.

# %%
square = jnp.zeros((1, 7, 7), jnp.int32).at[:, 2:5, 2:5].set(1)
print(np.round(np.asarray(ops.signed_distance(square == 1)[0]), 1))
certain = 20.0 * jax.nn.one_hot(square, 2)
boundary = jax.jit(lambda logits: losses.boundary(logits, square, classes=(1,)))
print(f"boundary loss: {boundary(certain):.3f} right, {boundary(jnp.roll(certain, 2, 2)):.3f} two pixels beside it")

# %% figure="surfaces" en="Above: the loss over two probabilities. Below: where each loss pushes the scores." vi="Trên: giá trị theo hai xác suất. Dưới: mỗi hàm đẩy điểm số về đâu."
target, probability = loss_maps.example()
chosen = {"cross_entropy": losses.cross_entropy, "dice": losses.dice, "boundary": losses.boundary}
maps = {
    name: {"surface": loss_maps.surface(f, target, steps=21), "push": loss_maps.push(f, target, probability)}
    for name, f in chosen.items()
}
drawn = Path(tempfile.mkdtemp()) / "losses.png"
jaxseg.visualize.losses_figure(maps, target, probability, drawn)
Image.open(drawn)

# %% [markdown] lang="en"
# **Exercise 2.** Write the Dice loss of the formula above for one image. Mind that the sums run over all pixels
# *before* the division.

# %% [markdown] lang="vi"
# **Bài tập 2.** Viết Dice loss theo công thức ở trên cho một ảnh. Lưu ý: lấy tổng trên mọi điểm ảnh *trước* khi chia.


# %% tags=["exercise"]
def dice_loss(target, predicted):
    """target and predicted [h, w], 0 to 1 -> the Dice loss."""
    return 0.0  # your turn


# %% tags=["solution"]
def dice_loss(target, predicted):
    """target and predicted [h, w], 0 to 1 -> the Dice loss."""
    return 1 - (2 * (target * predicted).sum() + 1) / (target.sum() + predicted.sum() + 1)


# %% tags=["check"]
scores = np.log(probability) - np.log1p(-probability)
ours = losses.sigmoid_dice(jnp.asarray(scores, jnp.float32)[None, :, :, None], target[None])
assert abs(dice_loss(target, probability) - ours) < 1e-5, f"jaxseg.losses.sigmoid_dice gives {ours:.6f}"
assert abs(dice_loss(target, target)) < 1e-9, "a perfect mask has no loss"
print("Right: as losses.sigmoid_dice.")

# %% [markdown] lang="en"
# ## Networks
#
# FCN with two skips adds scores of finer levels ([lesson 2](02_fcn_unet.md)). SegNet unpools to the remembered
# positions. U-Net concatenates features, U-Net++ puts further nodes into its skips. Stacked U-Nets put several small
# U-Nets one behind the other, and CU-Net couples such a stack by skips from one U-Net to the next. The numbers of
# parameters come from shapes alone; nothing is computed.

# %% [markdown] lang="vi"
# ## Một số mạng phân đoạn ảnh tiêu biểu
#
# FCN với 2 kết nối tắt cộng điểm số của các mức mịn hơn ([bài 2](02_fcn_unet.md)). SegNet dùng max unpooling với vị trí
# đã ghi nhớ. U-Net ghép đặc trưng, U-Net++ thêm các nút vào trong kết nối tắt. Stacked UNets ghép nhiều UNet nhỏ nối
# tiếp nhau; CUNets cũng vậy nhưng có thêm các kết nối tắt giữa các UNet với nhau. Số tham số ở đây chỉ tính từ kích
# thước, không chạy mạng.

# %%
for name in ("segnet", "unet_original", "stacked_unet", "cunet"):
    model = jaxseg.create_model(name, num_classes=21)
    shape = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    sizes = jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x, train=False), shape)
    print(f"{name:14}{sum(leaf.size for leaf in jax.tree.leaves(sizes['params'])):>13,} parameters")

# %% [markdown] lang="en"
# ## Training: one small class, five objectives
#
# One kind of shape, the stars, is the object, everything else the background: few pixels of a hundred belong to it. The
# network, the data and the steps are the same, only the objective changes. IoU is of the object; recall is the share of
# its pixels that were found. One run each: small differences mean nothing.

# %% [markdown] lang="vi"
# ## Huấn luyện: một lớp nhỏ, năm hàm mục tiêu
#
# Chỉ một loại hình, các ngôi sao, là đối tượng; còn lại là lớp nền: chỉ vài phần trăm điểm ảnh thuộc đối tượng. Mạng,
# dữ liệu và số bước như nhau, chỉ đổi hàm mục tiêu. IoU là của lớp đối tượng; recall là tỉ lệ điểm ảnh của đối tượng
# được tìm thấy. Mỗi hàm chỉ chạy một lần: khác biệt nhỏ không có ý nghĩa.

# %%
OBJECTIVES = {
    "cross entropy": losses.binary_cross_entropy,
    "weighted, β = 5": lambda x, t: losses.binary_cross_entropy(x, t, beta=5.0),
    "focal": losses.sigmoid_focal,
    "Dice": lambda x, t: losses.sigmoid_dice(x, t, per_image=False),
    "cross entropy + Dice": lambda x, t: losses.binary_cross_entropy(x, t) + losses.sigmoid_dice(x, t, per_image=False),
}
STAR = 4
stars = jaxseg.create_dataset("shapes", size=64, train=1024, val=64, color=0.9)


def read(split, indices):
    samples = [stars.splits[split][int(i)] for i in indices]
    image = ops.normalize(np.stack([s["image"] for s in samples]), (127.5,) * 3, (64.0,) * 3)
    return {"image": image, "label": np.stack([s["label"] == STAR for s in samples]).astype(np.int32)}


network = jaxseg.create_model(
    "unet", "plain", num_classes=1, encoder_options={"widths": (16, 32, 64), "convs": 1}, decoder_channels=(64, 32, 16)
)


def train(objective, steps):
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    state = place(create_state(jaxseg.init(network, jax.random.key(0)), tx), make_mesh())
    step = make_train_step(network, tx, lambda outputs, labels, where, _: objective(outputs["logits"], labels))
    draw = np.random.default_rng(0)
    for _ in range(steps):
        state, metrics = step(state, read("train", draw.integers(0, 1024, 8)))
    return {"params": state.params, "batch_stats": state.batch_stats}, float(metrics["loss"])


val = read("val", range(64)) if STEPS > 2 else None
predict = jax.jit(lambda v, x: (network.apply(v, x, train=False)["logits"][..., 0] > 0).astype(jnp.int32))
if val:
    print(f"{100 * val['label'].mean():.1f} % of the pixels belong to stars")
for name in [] if not STEPS else ["Dice"] if STEPS <= 2 else OBJECTIVES:  # two steps only show that it runs
    trained, loss = train(OBJECTIVES[name], STEPS)
    print(f"{name:22} trained for {STEPS} steps, last loss {loss:.3f}", end="" if val else "\n")
    if val:
        matrix = jaxseg.metrics.confusion_matrix(predict(trained, val["image"]), val["label"], num_classes=2)
        result = jaxseg.metrics.scores(matrix)
        print(f"; IoU {result['iou'][1]:.3f}, recall {result['accuracy'][1]:.3f}")

# %% [markdown] lang="en"
# ## Where to go from here
#
# - Configs: [`isbi_patch_cnn`](../../configs/papers/isbi_patch_cnn.py) (sliding window),
#   [`camvid_segnet`](../../configs/papers/camvid_segnet.py),
#   [`isbi_unetplusplus`](../../configs/papers/isbi_unetplusplus.py),
#   [`voc_stacked_unet`](../../configs/papers/voc_stacked_unet.py),
#   [`cityscapes_cunet`](../../configs/papers/cityscapes_cunet.py).
# - Pages: [all losses, with pictures](../losses.md), [metrics](../metrics.md), [models](../models.md), [a league of all
#   models](../league.md).
# - Lovász, clDice, balanced cross entropy, U-Net's weights and the other losses of the chapter's source list are on the
#   page of losses too.

# %% [markdown] lang="vi"
# ## Tiếp theo
#
# - Config: [`isbi_patch_cnn`](../../configs/papers/isbi_patch_cnn.py) (trượt cửa sổ),
#   [`camvid_segnet`](../../configs/papers/camvid_segnet.py),
#   [`isbi_unetplusplus`](../../configs/papers/isbi_unetplusplus.py),
#   [`voc_stacked_unet`](../../configs/papers/voc_stacked_unet.py),
#   [`cityscapes_cunet`](../../configs/papers/cityscapes_cunet.py).
# - Trang tài liệu (tiếng Anh): [mọi hàm mục tiêu, có hình](../losses.md), [độ đo](../metrics.md), [mô
#   hình](../models.md), [bảng xếp hạng các mô hình](../league.md).
# - Lovász, clDice, balanced CE, trọng số của U-Net và các hàm khác trong tài liệu tham khảo của chương cũng có trong
#   trang về hàm mục tiêu.
