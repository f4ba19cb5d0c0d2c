# %% [markdown] lang="en"
# # Lesson 2: FCN and U-Net
#
# A classifier says *what* is in an image. Semantic segmentation says it for every pixel. In this lesson a classifier
# becomes a fully convolutional network (FCN), we see why its answer is coarse, and how FCN and U-Net make it fine
# again.
#
# You need jaxseg, installed as the README says, and a processor; nothing is downloaded. Every code cell runs in
# seconds, but for the training, which is switched off until you ask for it.

# %% [markdown] lang="vi"
# # Bài 2: FCN và U-Net
#
# Mạng phân loại ảnh cho biết trong ảnh *có gì*. Phân vùng ngữ nghĩa (semantic segmentation) trả lời câu hỏi đó cho từng
# điểm ảnh. Trong bài này ta biến một mạng phân loại thành mạng tích chập hoàn toàn (Fully Convolutional Network, FCN),
# xem vì sao kết quả của nó còn thô, và FCN, U-Net làm cho kết quả mịn trở lại như thế nào.
#
# Bạn chỉ cần cài jaxseg (README chỉ cách cài) và một CPU; không phải tải dữ liệu. Mỗi ô code chạy trong vài giây, trừ
# phần huấn luyện: phần này chỉ chạy khi bạn bật lên.

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
from jaxseg.models.fcn import refine_scores
from jaxseg.training import create_state, make_mesh, make_train_step, place

STEPS = int(os.environ.get("COURSE_STEPS", 0))  # 500 trains three networks; that takes some minutes on two cores
SIZE = 64  # of the images, pixels a side
shapes = jaxseg.create_dataset("shapes", size=SIZE, train=1024, val=64, color=0.9)

# %% [markdown] lang="en"
# ## What goes in and what comes out
#
# The input is an image, (H, W, 3). The output has the same height and width and one score per class, (H, W, C). The
# class with the largest score at a pixel is its label, so the mask is an argmax over the last axis. Channels come last
# in JAX; PyTorch's order is (B, C, H, W). `jax.eval_shape` tells the shapes without computing anything.

# %% [markdown] lang="vi"
# ## Đầu vào và đầu ra
#
# Đầu vào là ảnh (H, W, 3). Đầu ra có cùng chiều cao, chiều rộng với ảnh, và mỗi lớp có một điểm số: (H, W, C). Nhãn của
# một điểm ảnh là lớp có điểm số lớn nhất, nên mask chính là argmax theo trục cuối. JAX đặt kênh ở cuối, khác với thứ tự
# (B, C, H, W) của PyTorch. `jax.eval_shape` cho biết kích thước mà không phải tính toán gì.

# %%
model = jaxseg.create_model(
    "unet", "plain", num_classes=7, encoder_options={"widths": (16, 32, 64)}, decoder_channels=(64, 32, 16)
)
variables = jaxseg.init(model, jax.random.key(0))
images = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images)
print("image", images.shape, "-> logits", outputs["logits"].shape)

# %% [markdown] lang="en"
# ## The idea of FCN: do not flatten
#
# A classifier ends with a dense layer: it flattens the feature map to a vector, and with that throws away where things
# are. FCN keeps the map. A dense layer that is applied at every position is a convolution with a 1 x 1 kernel, so the
# classifier's own weights can be used again, and the image may have any size.
#
# **Exercise 1.** Write the dense layer that looks at each position by itself. Use no loop: an `@` is enough.

# %% [markdown] lang="vi"
# ## Ý tưởng của FCN: không flatten
#
# Mạng phân loại kết thúc bằng lớp kết nối đầy đủ (fully connected): feature map bị flatten thành vector 1D, và thông
# tin vị trí mất đi. FCN giữ nguyên feature map 2D. Lớp kết nối đầy đủ áp dụng tại từng vị trí chính là tích chập với
# kernel 1 x 1. Vì vậy ta dùng lại được trọng số của mạng phân loại, và ảnh có thể có kích thước bất kỳ.
#
# **Bài tập 1.** Viết lớp kết nối đầy đủ áp dụng cho từng vị trí. Không cần vòng lặp: một phép `@` là đủ.


# %% tags=["exercise"]
def classify_every_position(features, weight, bias):
    """features [h, w, channels], weight [channels, classes], bias [classes] -> scores [h, w, classes]."""
    return jnp.zeros((*features.shape[:2], len(bias)))  # your turn


# %% tags=["solution"]
def classify_every_position(features, weight, bias):
    """features [h, w, channels], weight [channels, classes], bias [classes] -> scores [h, w, classes]."""
    return features @ weight + bias


# %% tags=["check"]
keys = jax.random.split(jax.random.key(1), 3)
features, weight, bias = (jax.random.normal(k, s) for k, s in zip(keys, [(5, 6, 8), (8, 7), (7,)], strict=True))
as_convolution = ops.conv2d(features[None], weight[None, None])[0] + bias  # a kernel of 1 x 1
found = classify_every_position(features, weight, bias)
assert np.allclose(found, as_convolution, atol=1e-5), "this is not yet what the 1 x 1 convolution computes"
print("Right: a dense layer at every position is a 1 x 1 convolution.")

# %% [markdown] lang="en"
# ## What one score can see
#
# A pixel alone does not tell its class; the network must see what is around it. The part of the image that can reach a
# feature is its receptive field. Every 3 x 3 convolution widens it by two pixels *of its own map*, and every pooling
# makes the steps twice as wide. So the deep levels see much, but they are small: at stride 32 one feature stands for 32
# x 32 pixels. In jaxseg the maps of an encoder are called c1 to c5: c1 has half the height and width of the image
# (stride 2), c5 a thirty-second (stride 32).

# %% [markdown] lang="vi"
# ## Một điểm số nhìn thấy được bao nhiêu
#
# Chỉ nhìn một điểm ảnh thì không biết nó thuộc lớp nào; mạng phải thấy vùng xung quanh. Phần ảnh có ảnh hưởng tới một
# đặc trưng gọi là Receptive Field (vùng cảm nhận) của nó. Mỗi tích chập 3 x 3 mở rộng Receptive Field thêm hai điểm ảnh
# *của chính feature map đó*, còn mỗi lớp pooling làm bước nhảy rộng gấp đôi. Vì vậy các layer sâu nhìn được rộng, nhưng
# feature map của chúng nhỏ: với bước nhảy tổng cộng 32, một đặc trưng đại diện cho 32 x 32 điểm ảnh. Trong jaxseg, các
# feature map của encoder có tên c1 đến c5: c1 có chiều cao và chiều rộng bằng một nửa ảnh (stride 2), c5 bằng một phần
# 32 (stride 32).

# %%
encoder = jaxseg.create_encoder("plain")
fields = receptive_field.theoretical(encoder, (192, 192), depth=0)
print(receptive_field.table(fields))

# %% figure="fields" en="Receptive fields of the levels of a plain encoder." vi="Receptive Field của các mức trong encoder."
fig, axes = plt.subplots(figsize=(4.4, 4.4), layout="constrained")
axes.imshow(jaxseg.create_dataset("shapes", size=192, train=1).splits["train"][0]["image"])
for field, color in zip(fields, plt.colormaps["plasma"](np.linspace(0, 0.9, len(fields))), strict=True):
    top, left, bottom, right = field.box
    axes.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=2, edgecolor=color))
    axes.text(left + 2, top + 2, field.name, color="white", backgroundcolor=color, fontsize=7, va="top")
axes.set_axis_off()

# %% [markdown] lang="en"
# ## Why deep scores alone are coarse
#
# Suppose a network were perfect at stride 32: each of its scores is the true share of every class in its window.
# Enlarged to the image, the outlines are gone all the same, and small objects with them. No training can bring back
# what the small map cannot hold. The finer the map, the better.

# %% [markdown] lang="vi"
# ## Vì sao điểm số ở layer sâu thì thô
#
# Giả sử mạng hoàn hảo ở bước nhảy 32: mỗi điểm số đúng bằng tỉ lệ thật của từng lớp trong cửa sổ của nó. Khi phóng to
# về kích thước ảnh, đường biên vẫn mất, các đối tượng nhỏ cũng mất. Feature map quá bé không chứa được thông tin đó,
# nên huấn luyện thêm cũng không lấy lại được. Feature map càng mịn thì kết quả càng tốt.

# %% figure="strides" en="Perfect scores at four strides, enlarged." vi="Điểm số hoàn hảo ở bốn bước nhảy, được phóng to."
sample = jaxseg.create_dataset("shapes", size=128, val=4).splits["val"][3]
truth = jax.nn.one_hot(sample["label"], 7)[None]
fig, axes = plt.subplots(1, 5, figsize=(11, 2.4), layout="constrained")
axes[0].imshow(jaxseg.visualize.colorize(sample["label"], shapes.palette))
axes[0].set_title("label", fontsize=9)
for panel, stride in zip(axes[1:], (4, 8, 16, 32), strict=True):
    coarse = ops.adaptive_avg_pool(truth, (128 // stride, 128 // stride))
    mask = ops.resize(coarse, (128, 128)).argmax(-1)[0]
    matrix = jaxseg.metrics.confusion_matrix(mask[None], sample["label"][None].astype(np.int32), num_classes=7)
    panel.imshow(jaxseg.visualize.colorize(np.asarray(mask), shapes.palette))
    panel.set_title(f"stride {stride}: mIoU {jaxseg.metrics.scores(matrix)['miou']:.2f}", fontsize=9)
for panel in axes:
    panel.set_axis_off()

# %% [markdown] lang="en"
# ## FCN's way: add the scores of finer levels
#
# FCN enlarges the coarse scores (with a transposed convolution, see the [HUST lesson](hust6_segmentation.md)) and adds
# scores that a 1 x 1 convolution makes from an earlier, finer level. With no such skip it is FCN-32s, with one FCN-16s,
# with two FCN-8s. The wiring is a pure function that gets the layers from outside. Here each "layer" is a lambda, so
# you can follow the numbers: a unit of the result comes from the coarsest level, a hundredth from the middle one, a
# thousandth from the finest.

# %% [markdown] lang="vi"
# ## Cách của FCN: cộng thêm điểm số của các mức mịn hơn
#
# FCN phóng to điểm số thô (bằng tích chập chuyển vị, xem [bài HUST](hust6_segmentation.md)) rồi cộng với điểm số mà một
# tích chập 1 x 1 tính từ một mức phía trước, mịn hơn. Không có kết nối tắt nào là FCN-32s, một kết nối tắt là FCN-16s,
# hai kết nối tắt là FCN-8s. Cách nối này là một hàm thuần (pure function), các layer được đưa vào từ bên ngoài. Ở đây
# mỗi "layer" chỉ là một lambda để bạn theo dõi được các con số: hàng đơn vị đến từ mức thô nhất, hàng phần trăm từ mức
# giữa, hàng phần nghìn từ mức mịn nhất.

# %%
c5 = jnp.arange(1.0, 3.0).reshape(1, 1, 2, 1)
c4, c3 = jnp.full((1, 2, 4, 1), 0.01), jnp.full((1, 4, 8, 1), 0.001)
scores = refine_scores(c5, [c4, c3], enlarge=[ops.nearest] * 2, predict=[lambda skip: skip] * 2)
print(np.asarray(scores[0, :, :, 0]))

# %% [markdown] lang="en"
# ## U-Net's way: climb back with features
#
# U-Net enlarges *features*, not scores. At every step up it puts the features of the encoder that have the same size
# beside them and lets two convolutions mix both. So the deep levels say what, the early ones say where.
# `jaxseg.blocks.climb` is that wiring; the lambdas below only count channels, to show what meets what.

# %% [markdown] lang="vi"
# ## Cách của U-Net: phóng to đặc trưng và ghép với encoder
#
# U-Net phóng to *đặc trưng* chứ không phải điểm số. Ở mỗi bước lên, nó ghép (concatenate) với đặc trưng cùng kích thước
# của encoder, rồi cho qua hai tích chập để kết hợp. Như vậy các layer cuối của encoder cho biết "cái gì" (global
# feature), các layer đầu cho biết "ở đâu" (local feature). `jaxseg.blocks.climb` là cách nối đó; các lambda dưới đây chỉ
# đếm số kênh, để thấy feature map nào được ghép với feature map nào.

# %%
skips = [
    jnp.zeros((1, 16, 16, 64)),
    jnp.zeros((1, 32, 32, 32)),
    None,
]  # of c2, of c1; at the image's size there is none
sizes = [(16, 16), (32, 32), (64, 64)]


def block(x, skip):
    joined = x if skip is None else jnp.concatenate([x, skip], axis=-1)
    print(f"{x.shape[1:]} and {None if skip is None else skip.shape[1:]} -> {joined.shape[1:]}")
    return joined[..., : joined.shape[-1] // 2]  # two convolutions would come here


jaxseg.blocks.climb(jnp.zeros((1, 8, 8, 128)), skips, sizes, upsamples=[ops.resize] * 3, blocks=[block] * 3).shape

# %% [markdown] lang="en"
# ## Training the three
#
# FCN-32s, FCN-8s and U-Net on the same small encoder, the same drawn images, the same number of steps. The images have
# 64 x 64 pixels, so FCN-32s has just 2 x 2 scores. `make_train_step` returns one jitted function, (state, batch) ->
# (state, metrics). To run it, set `STEPS` above to 500.

# %% [markdown] lang="vi"
# ## Huấn luyện ba mạng
#
# FCN-32s, FCN-8s và U-Net dùng cùng một encoder nhỏ, cùng ảnh, cùng số bước. Ảnh có 64 x 64 điểm ảnh, nên FCN-32s chỉ
# có 2 x 2 điểm số. `make_train_step` trả về một hàm đã jit: (state, batch) -> (state, metrics). Muốn chạy, đặt `STEPS`
# ở trên thành 500.

# %%
NETWORKS = {
    "fcn32s": {"features": 128, "kernel_size": 3, "dropout": 0.0},
    "fcn8s": {"features": 128, "kernel_size": 3, "dropout": 0.0},
    "unet": {"decoder_channels": (96, 64, 48, 32, 24)},
}
ENCODER = {"widths": (16, 32, 64, 96, 128), "convs": 1}


def read(split, indices):
    samples = [shapes.splits[split][int(i)] for i in indices]
    image = ops.normalize(np.stack([s["image"] for s in samples]), (127.5,) * 3, (64.0,) * 3)
    return {"image": image, "label": np.stack([s["label"] for s in samples]).astype(np.int32)}


def loss_fn(outputs, labels, where, step):
    logits = outputs["logits"]
    return jaxseg.losses.cross_entropy(logits, labels) + jaxseg.losses.dice(logits, labels, per_image=False)


def train(name, steps):
    model = jaxseg.create_model(name, "plain", num_classes=7, encoder_options=ENCODER, **NETWORKS[name])
    tx = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    state = place(create_state(jaxseg.init(model, jax.random.key(0)), tx), make_mesh())
    step = make_train_step(model, tx, loss_fn)
    draw = np.random.default_rng(0)
    for _ in range(steps):
        state, metrics = step(state, read("train", draw.integers(0, 1024, 8)))
    return model, {"params": state.params, "batch_stats": state.batch_stats}, float(metrics["loss"])


trained = {}
names = [] if not STEPS else ["fcn8s"] if STEPS <= 2 else list(NETWORKS)  # two steps only show that it runs
for name in names:
    model, variables, loss = train(name, STEPS)
    trained[name] = jax.jit(lambda x, model=model, v=variables: model.apply(v, x, train=False)["logits"].argmax(-1))
    print(f"{name:7} trained for {STEPS} steps, last loss {loss:.3f}")

# %%
val = read("val", range(64)) if STEPS > 2 else None
for name, predict in trained.items() if val else []:
    matrix = jaxseg.metrics.confusion_matrix(predict(val["image"]), val["label"], num_classes=7)
    print(f"{name:7} mIoU on 64 images that were not trained on: {jaxseg.metrics.scores(matrix)['miou']:.3f}")

# %% figure="trained" en="Image, label and three predictions." vi="Ảnh, nhãn và kết quả của ba mạng sau khi huấn luyện."
fig, axes = plt.subplots(3, 2 + len(trained), figsize=(2 * (2 + len(trained)), 6), layout="constrained")
for row, i in zip(axes, (0, 1, 4), strict=True):
    sample = shapes.splits["val"][i]
    row[0].imshow(sample["image"])
    masks = {"label": sample["label"]}
    masks |= {name: np.asarray(predict(val["image"])[i]) for name, predict in trained.items() if val}
    for panel, (name, mask) in zip(row[1:], masks.items(), strict=False):
        panel.imshow(jaxseg.visualize.colorize(mask, shapes.palette))
        panel.set_title(name, fontsize=9)
for panel in axes.ravel():
    panel.set_axis_off()

# %% [markdown] lang="en"
# ## Exercise 2: the receptive field by hand
#
# Go through the layers from the image on. Keep two numbers: how wide the field is, and how many pixels of the image lie
# between two neighboring features (the *jump*). A layer with a kernel of k and a stride of s widens the field by (k -
# 1) jumps, and then makes the jump s times as large. Both begin with 1.

# %% [markdown] lang="vi"
# ## Bài tập 2: tự tính Receptive Field
#
# Đi qua các layer, bắt đầu từ ảnh. Giữ hai con số: độ rộng của Receptive Field, và khoảng cách tính bằng điểm ảnh giữa
# hai đặc trưng kề nhau (*jump*). Một layer có kernel k và bước nhảy stride s làm Receptive Field rộng thêm (k - 1) lần
# jump, sau đó jump tăng s lần. Ban đầu cả hai số đều bằng 1.


# %% tags=["exercise"]
def field_of(layers):
    """layers: a list of (kernel, stride) from the image on -> width of the receptive field, in pixels."""
    return 1  # your turn


# %% tags=["solution"]
def field_of(layers):
    """layers: a list of (kernel, stride) from the image on -> width of the receptive field, in pixels."""
    field, jump = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field


# %% tags=["check"]
level = [(2, 2), (3, 1), (3, 1)]  # of the plain encoder above: max pooling, two convolutions
for depth, field in enumerate(fields, start=1):
    assert field_of(depth * level) == field.size[0], f"{field.name} sees {field.size[0]} pixels"
vgg16 = 2 * [*2 * [(3, 1)], (2, 2)] + 3 * [*3 * [(3, 1)], (2, 2)]
assert field_of(vgg16) == 212, "VGG16's last pooling sees 212 pixels"
print("Right: as jaxseg finds it by tracing the network.")

# %% [markdown] lang="en"
# ## Where to go from here
#
# - Configs: [`shapes_unet`](../../configs/shapes_unet.py) (this lesson's task without the help of color, five minutes),
#   [`voc_fcn8s`](../../configs/papers/voc_fcn8s.py), [`isbi_unet`](../../configs/papers/isbi_unet.py) (U-Net as
#   published, with its weight map).
# - Pages: [models](../models.md), [receptive fields](../analysis.md), [training](../training.md).
# - Papers: Long et al., 2015, [arXiv:1411.4038](https://arxiv.org/abs/1411.4038); Ronneberger et al., 2015,
#   [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
# - Next: [lesson 3, PSPNet](03_pspnet.md).

# %% [markdown] lang="vi"
# ## Tiếp theo
#
# - Config: [`shapes_unet`](../../configs/shapes_unet.py) (cùng bài toán nhưng màu sắc không gợi ý lớp, năm phút),
#   [`voc_fcn8s`](../../configs/papers/voc_fcn8s.py), [`isbi_unet`](../../configs/papers/isbi_unet.py) (U-Net đúng như
#   bài báo, có bản đồ trọng số).
# - Trang tài liệu (tiếng Anh): [mô hình](../models.md), [Receptive Field](../analysis.md), [huấn
#   luyện](../training.md).
# - Bài báo: Long et al., 2015, [arXiv:1411.4038](https://arxiv.org/abs/1411.4038); Ronneberger et al., 2015,
#   [arXiv:1505.04597](https://arxiv.org/abs/1505.04597).
# - Bài sau: [bài 3, PSPNet](03_pspnet.md).
