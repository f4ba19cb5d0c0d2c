"""A small TFDS data set, built on disk and read back; no TensorFlow anywhere."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data import check_dataset, create_dataset
from jaxseg.data.pipeline import train_iterator

tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
features = tensorflow_datasets.features
SIZES = [(20 + i, 24) for i in range(6)]


def content(index):
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (*SIZES[index], 3), np.uint8), rng.integers(1, 5, SIZES[index], np.uint8)


def encoded(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    file.seek(0)
    return file


class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
    """Images and masks of ids 1 to 4."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    MASK = ("segmentation_mask", features.Image(shape=(None, None, 1), use_colormap=False))

    def _info(self):
        return tensorflow_datasets.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(None, None, 3)),
                    self.MASK[0]: self.MASK[1],
                    "file_name": features.Text(),
                    "label": features.ClassLabel(num_classes=2),
                }
            ),
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(range(6)), "test": self._generate_examples(range(2))}

    def _generate_examples(self, indices):
        for i in indices:
            image, mask = content(i)
            record = {"image": encoded(image), "file_name": f"folder/image{i}.png", "label": 0}
            yield i, {**record, self.MASK[0]: encoded(mask)}


class Pets(Builder, skip_registration=True):
    pass


class Labeled(Builder, skip_registration=True):
    MASK = ("odd_name", features.LabeledImage(labels=["a", "b", "c", "d", "e"], shape=(None, None, 1)))


class DepthMask(Builder, skip_registration=True):
    MASK = ("depth", features.Image(shape=(None, None, 4)))

    def _generate_examples(self, indices):
        for i, record in super()._generate_examples(indices):
            yield i, {**record, "depth": encoded(np.zeros((4, 4, 4), np.uint8))}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("tfds"))
    for builder in (Pets, Labeled, DepthMask):
        builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def test_records_come_back(root):
    dataset = create_dataset("tfds:pets", root, label_offset=-1, label_ignore=(4,), num_classes=3)
    assert dataset.num_classes == 3
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}
    check_dataset(dataset, "train")
    records = {r["name"]: r for r in (dataset.splits["train"][i] for i in range(6))}
    assert sorted(records) == [f"image{i}" for i in range(6)]
    for i in range(6):
        image, mask = content(i)
        record = records[f"image{i}"]
        np.testing.assert_array_equal(record["image"], image)
        np.testing.assert_array_equal(record["label"], np.where(mask == 4, 255, mask - 1))


def test_the_masks_own_ignore_value_is_kept(root):
    dataset = create_dataset("tfds:pets", root, label_offset=-1, num_classes=3, ignore=4)
    assert dataset.ignore == 4
    records = {r["name"]: r for r in (dataset.splits["train"][i] for i in range(6))}
    for i in range(6):
        mask = content(i)[1]
        np.testing.assert_array_equal(records[f"image{i}"]["label"], np.where(mask == 4, 4, mask - 1))


def test_classes_are_found_or_given(root):
    assert create_dataset("tfds:labeled", root).classes == ("a", "b", "c", "d", "e")
    named = create_dataset("tfds:pets", root, classes=("pet", "ground", "outline", "none"), label_offset=-1)
    assert named.classes == ("pet", "ground", "outline", "none")


def test_16_bit_images_are_rounded_to_8():
    from jaxseg.data.tfds import _rgb

    values = np.array([[0, 128, 129, 257, 65406, 65407, 65535]], np.uint16)[..., None]
    np.testing.assert_array_equal(_rgb(values)[0, :, 1], [0, 0, 1, 1, 254, 255, 255])


PROGRAM = """
import sys
from jaxseg.data import create_dataset
from jaxseg.data.pipeline import train_iterator
if __name__ == "__main__":
    source = create_dataset("tfds:pets", sys.argv[1], label_offset=-1, num_classes=4).splits["train"]
    for workers in (0, 1):
        batches = train_iterator(
            source, canvas=(24, 24), batch_size=4, seed=0, ignore=255, num_labels=4, workers=workers
        )
        batch = next(batches)
        print(batch["image"].shape, batch["label"].shape, int(batch["image"].sum()))
        batches.close()
    print("tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("old", [False, True])
def test_a_prepared_set_that_names_code_is_refused(root, tmp_path, monkeypatch, old):
    """TFDS imports the module of every class that features.json names; one lies where Python looks."""
    import json
    import shutil

    folder = tmp_path / "data" / "evil"
    shutil.copytree(next(Path(root).glob("pets/*")), folder / "1.0.0")
    (tmp_path / "pwn.py").write_text("import pathlib\npathlib.Path(__file__).with_name('PWNED').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    file = folder / "1.0.0" / "features.json"
    features = json.loads(file.read_text())
    if old:
        features = {"type": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "content": {"image": {}}}
        features["content"]["image"] = {"type": "pwn.Image", "content": {}}
    else:
        features["featuresDict"]["features"]["image"]["pythonClassName"] = "pwn.Image"
    file.write_text(json.dumps(features))
    info = json.loads((folder / "1.0.0" / "dataset_info.json").read_text())
    (folder / "1.0.0" / "dataset_info.json").write_text(json.dumps(info | {"name": "evil"}))
    with pytest.raises(UserError, match=r"features.json names the class 'pwn.Image', which is not of TFDS"):
        create_dataset("tfds:evil", str(tmp_path / "data"), num_classes=4)
    from jaxseg.data.tfds import Tfds

    with pytest.raises(UserError, match="not of TFDS"):  # as a worker process would open it
        _ = Tfds("evil", str(folder / "1.0.0"), "train", 6, "image", "segmentation_mask", "").records
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("name", ["huggingface:a", "evil/../x", "../evil", "evil;x", "a b"])
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="no data set that lies prepared on this machine"):
        create_dataset(f"tfds:{name}", str(tmp_path))
    with pytest.raises(UserError, match="no data set that lies prepared on this machine"):
        create_dataset("tfds:pets", "gs://somebody/elses")


def test_batches_without_tensorflow(root, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, program, root], capture_output=True, text=True, env=env)
    threads, processes, tensorflow = done.stdout.splitlines() or [done.stderr] * 3
    assert threads == processes
    assert threads.startswith("(4, 24, 24, 3) (4, 24, 24) ")
    assert tensorflow == "False"


def test_order_and_content_match_the_set(root):
    source = create_dataset("tfds:pets", root, label_offset=-1, num_classes=4).splits["train"]
    batches = train_iterator(source, canvas=(26, 26), batch_size=6, seed=0, ignore=255, num_labels=4)
    sums = sorted(int(i[label != 255].sum()) for i, label in zip(*next(batches).values(), strict=True))
    assert sums == sorted(int(content(i)[0].sum()) for i in range(6))


@pytest.mark.parametrize(
    "name,options,words",
    [
        ("pets", {}, "does not say how many classes its mask has"),
        ("pets", {"num_classes": 4, "label_key": "maskk"}, "no image feature 'maskk'"),
        ("pets", {"num_classes": 4, "classes": ("a",)}, "but 1 classes are named"),
        ("pets", {"klasses": 4}, "Unknown option 'klasses' of the TFDS data sets. Did you mean 'classes'"),
        ("depth_mask", {"num_classes": 4}, "looks like a segmentation mask: depth, file_name, image, label"),
        ("petss", {"num_classes": 4}, "TFDS knows no data set 'petss'"),
        ("oxford_iiit_pe", {"num_classes": 4}, "Did you mean oxford_iiit_pet"),
        ("oxford_iiit_pet", {"num_classes": 3}, "file_format='array_record'"),
    ],
)
def test_mistakes_are_explained(root, name, options, words):
    with pytest.raises(UserError) as caught:
        create_dataset(f"tfds:{name}", root, **options)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


def test_ids_out_of_range_are_named(root):
    dataset = create_dataset("tfds:pets", root, num_classes=4)
    with pytest.raises(UserError, match="tfds:pets, split 'train', record .*: expected class ids 0 to 3"):
        check_dataset(dataset, "train")


def test_masks_of_another_size_are_named(root):
    dataset = create_dataset("tfds:depth_mask", root, num_classes=4, label_key="depth", image_key="image")
    with pytest.raises(UserError, match=r"'depth' is \(4, 4\) but 'image' is"):
        dataset.splits["train"][0]


def test_a_run_trains_on_it(root, tmp_path):
    from jaxseg.training.loop import train
    from tests.end_to_end.tiny_config import get_config

    c = get_config()
    c.data.update(name="tfds:pets", root=root, eval_split="test", canvas=(24, 24), crop=(16, 16), batch_size=2)
    c.data.update(label_offset=-1, label_ignore=(4,))
    c.data.options = {"num_classes": 3}
    c.train.update(steps=4, compilation_cache="")
    c.eval.every = 4
    scores = train(c, tmp_path)
    assert scores["step"] == 4
    assert 0 <= scores["miou"] <= 1
    assert sum(name.startswith("iou/") for name in scores) == 3
