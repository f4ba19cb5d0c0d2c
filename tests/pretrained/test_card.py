"""Model cards: the hub reads the front matter, people the rest, and what somebody wrote stays."""

import re

import jax
import numpy as np
import pytest
import yaml

from jaxseg.encoders import create_encoder
from jaxseg.models import create_model, init
from jaxseg.pretrained import save_bundle
from jaxseg.pretrained.card import is_edited

SCORES = {
    "data": "camvid",
    "split": "val",
    "date": "2026-11-27",
    "checkpoint": 1200,
    "metrics": {"miou": 0.7231, "pixel_accuracy": 0.93, "iou/road": 0.95, "iou/car": float("nan")},
}
FIELDS = dict(
    classes=("road", "a | b <script>"),
    palette=((128, 64, 128), (1, 2, 3)),
    values=(7, 9),
    scores=SCORES,
    source="camvid, trained by jaxseg: run camvid, step 1200",
)


@pytest.fixture(scope="module")
def small():
    model = create_model(
        "unet", "plain", num_classes=2, encoder_options={"widths": (4, 6), "convs": 1}, decoder_channels=(6, 4)
    )
    return model, jax.tree.map(np.asarray, init(model, jax.random.key(0)))


def written(folder, small, **fields):
    save_bundle(folder, *small, with_golden=False, **{**FIELDS, **fields})
    return (folder / "README.md").read_text()


def front(text):
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])


def test_the_hub_reads_it(small, tmp_path):
    found = front(written(tmp_path / "camvid", small, license="Apache-2.0"))
    assert (found["library_name"], found["license"], found["pipeline_tag"]) == (
        "jaxseg",
        "apache-2.0",
        "image-segmentation",
    )
    assert {"jaxseg", "jax", "semantic-segmentation", "unet", "plain"} <= set(found["tags"])
    (result,) = found["model-index"][0]["results"]
    assert result["dataset"] == {"name": "camvid", "type": "camvid", "split": "val"}
    assert result["metrics"][0] == {"type": "mean_iou", "name": "mIoU", "value": 0.7231}
    assert [metric["name"] for metric in result["metrics"]] == ["mIoU", "pixel accuracy"]
    of_its_own = front(written(tmp_path / "own", small, license='Mine: "free"\nfor all', scores=None))
    assert (of_its_own["license"], of_its_own["license_name"]) == ("other", 'Mine: "free" for all')
    assert "model-index" not in of_its_own and "license" not in front(written(tmp_path / "none", small))


def test_people_read_the_rest(small, tmp_path):
    text = written(tmp_path / "camvid", small)
    assert "| 0 | road | #804080 | 7 |" in text
    assert "| 1 | a &#124; b &lt;script> | #010203 | 9 |" in text
    assert "| mIoU | 0.7231 |" in text and "| iou/road | 0.9500 |" in text and "nan" not in text
    assert "On camvid (split val, date 2026-11-27, checkpoint 1200)." in text
    assert "camvid, trained by jaxseg: run camvid, step 1200" in text
    assert "| red | 0 to 255 | 127.5 |" in text or "| red | 0 to 255 | 123.675 |" in text
    assert "keep their size" in text and 'jaxseg.load("camvid")' in text
    assert "None were measured" in written(tmp_path / "new", small, scores=None)


def test_a_card_that_was_edited_is_kept(small, tmp_path):
    folder = tmp_path / "bundle"
    first = written(folder, small)
    assert not is_edited(folder / "README.md")
    assert written(folder, small, source="newer") != first  # nobody wrote in it
    (folder / "README.md").write_text(first.replace("## Use", "It is mine.\n\n## Use"))
    with pytest.warns(UserWarning, match="was edited and is kept as it is; .* README.new.md"):
        text = written(folder, small, source="newest")
    assert "It is mine." in text and "newest" in (folder / "README.new.md").read_text()
    (folder / "README.md").write_text("Mine alone.")
    with pytest.warns(UserWarning, match="was edited"):
        assert written(folder, small) == "Mine alone."
    (folder / "README.md").unlink()
    written(folder, small)
    assert not (folder / "README.new.md").exists()


def test_an_encoder_has_one_too(tmp_path):
    encoder = create_encoder("plain", widths=(4, 6))
    save_bundle(tmp_path / "encoder", encoder, jax.tree.map(np.asarray, init(encoder, jax.random.key(0))))
    text = (tmp_path / "encoder" / "README.md").read_text()
    assert "pipeline_tag" not in front(text) and "config.model.encoder_weights=PATH" in text
