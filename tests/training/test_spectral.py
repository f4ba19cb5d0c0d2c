"""One large image of many bands, from its file to the label map: trained, scored, predicted, bundled."""

import json

import jax
import numpy as np
from PIL import Image

from jaxseg import Predictor, create_encoder, init, load
from jaxseg.cli.program import call
from jaxseg.config import default_config
from jaxseg.data.bands import Bands
from jaxseg.pretrained import save_bundle
from jaxseg.pretrained.convert import adapt_input
from jaxseg.training.loop import train

BANDS = 5


def write_split(folder, width, seed):
    """A scene of 12 bits whose classes, 1 and 2, differ in the last band alone; 0 is not labeled."""
    random = np.random.default_rng(seed)
    label = np.repeat(random.integers(0, 3, (5, width // 8), np.uint8), 8, axis=0).repeat(8, axis=1)
    image = random.integers(400, 4000, (*label.shape, BANDS)).astype(np.uint16)
    image[..., -1] = np.where(label == 1, 1000, 3000) + random.integers(0, 300, label.shape)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    np.save(folder / "images" / "scene.npy", image)
    Image.fromarray(label).save(folder / "labels" / "scene.png")
    return image


def test_a_scene_of_many_bands_from_training_to_its_label_map(tmp_path):
    root, run = tmp_path / "data", tmp_path / "run"
    write_split(root / "train", 48, 0)
    scene = write_split(root / "val", 40, 1)
    (root / "classes.json").write_text(json.dumps({"classes": ["low", "high"]}))
    encoder = create_encoder("plain", widths=(8,), convs=1)
    weights = init(encoder, jax.random.key(3))
    save_bundle(tmp_path / "rgb", encoder, weights)
    c = default_config()
    c.data.update(name="folder", root=str(root), canvas=(16, 16), crop=(16, 16), batch_size=4, balance=0.5)
    c.data.update(label_ignore=(0,), label_offset=-1)
    c.model.update(name="unet", encoder="plain", encoder_weights=str(tmp_path / "rgb"))
    c.model.encoder_options = {"widths": (8,), "convs": 1}
    c.model.options = {"decoder_channels": (8,)}
    c.optim.update(lr=2e-2, freeze=("encoder",))
    c.train.update(steps=40, compilation_cache="")
    c.log.update(every=20, images=1, tensorboard=False)
    c.checkpoint.every = c.eval.every = 40
    scores = train(c, run)
    assert scores["miou"] > 0.8
    trained = load(run)
    bands = trained.bands
    assert (bands.names, bands.dtype) == (tuple(f"band{i}" for i in range(BANDS)), "uint16")
    assert all(380 < low < 1100 and 3200 < high < 4020 for low, high in bands.window)
    stem = weights["params"]["level1_conv1"]["conv"]["kernel"]
    np.testing.assert_allclose(  # the frozen encoder's, for RGB, was adapted to the bands
        trained.variables["params"]["encoder"]["level1_conv1"]["conv"]["kernel"],
        adapt_input(np.asarray(stem).transpose(3, 2, 0, 1), BANDS).transpose(2, 3, 1, 0),
        rtol=1e-6,
    )
    label = Predictor(trained)(scene)
    trained.save(tmp_path / "bundle")
    bundle = load(tmp_path / "bundle")
    assert bundle.preprocessing == trained.preprocessing
    np.testing.assert_array_equal(Predictor(bundle)(scene), label)
    out = tmp_path / "out"
    assert call("predict", str(tmp_path / "bundle"), str(root / "val" / "images"), "--out", str(out)) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out / "scene_label.png")), label)
    assert np.asarray(Image.open(out / "scene_overlay.png")).shape[2] == 3
    assert bands == Bands.from_json(json.loads(json.dumps(bands.to_json())))
