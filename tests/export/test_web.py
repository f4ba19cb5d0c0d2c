"""The page: a network in a real browser says what the predictor says."""

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.export.web import export_web, fill_page
from jaxseg.inference.predict import Predictor
from tests.browser import Browser, served
from tests.export.conftest import RUNTIME
from tests.export.models import MEAN, STD, random_image, small


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def labels_of(browser):
    """The label map that the page offers to save."""
    address = browser.wait_for("document.getElementById('save').href")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))[..., 0]


def test_an_image_that_is_given_gets_the_predictors_labels(browser, tmp_path):
    trained, image = small(), random_image(48, 64, 3)
    export_web(trained, tmp_path / "site", (48, 64), RUNTIME)
    Image.fromarray(image).save(tmp_path / "street.png")
    with served(tmp_path / "site") as address:
        browser.call("Page.navigate", url=address)
        browser.wait_for("document.getElementById('status').textContent.startsWith('Ready')")
        browser.give_file("#file", tmp_path / "street.png")
        found = labels_of(browser)
        status = browser.evaluate("document.getElementById('status').textContent")
        if "SCREENSHOT" in os.environ:
            browser.screenshot(Path(os.environ["SCREENSHOT"]))
    wanted = Predictor(trained)(image)
    assert found.shape == wanted.shape
    assert (found == wanted).mean() >= 0.999
    assert "street.png: 48 × 64 pixels, seen as 48 × 64, in" in status


def test_a_larger_image_is_made_smaller_by_the_models_rule(browser, tmp_path):
    seen = Preprocessing(MEAN, STD, bucket=8, resize=Resize(factor=0.5))
    export_web(small(preprocessing=seen), tmp_path / "site", (40, 64), RUNTIME)
    Image.fromarray(random_image(60, 90, 3)).save(tmp_path / "half.png")
    Image.fromarray(random_image(120, 120, 3)).save(tmp_path / "large.png")
    with served(tmp_path / "site") as address:
        browser.call("Page.navigate", url=address)
        browser.wait_for("document.getElementById('status').textContent.startsWith('Ready')")
        for name, seen in {"half": "30 × 45,", "large": "40 × 40, made smaller"}.items():
            browser.give_file("#file", tmp_path / f"{name}.png")
            browser.wait_for(f"document.getElementById('status').textContent.includes('seen as {seen}')")


def test_the_camera_is_labeled_until_it_is_stopped(browser, tmp_path):
    export_web(small(), tmp_path / "site", (48, 64), RUNTIME)
    with served(tmp_path / "site") as address:
        browser.call("Page.navigate", url=address)
        browser.wait_for("document.getElementById('status').textContent.startsWith('Ready')")
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait_for("document.getElementById('status').textContent.startsWith('Camera, seen as')")
        browser.evaluate("document.getElementById('camera').click()")
        height, width = labels_of(browser).shape  # of whatever form the camera is
        assert height == 48 or width == 64


def test_texts_of_a_model_are_no_part_of_the_page():
    page = fill_page({"classes": ["</script><script>alert(1)</script>"]})
    assert "</script><script>alert" not in page
    assert page.count("</script>") == fill_page({"classes": []}).count("</script>")


def test_what_the_page_needs_is_named(tmp_path):
    with pytest.raises(UserError, match="npm install onnxruntime-web"):
        export_web(small(), tmp_path / "site", (16, 16), tmp_path)
    bands = small(preprocessing=Preprocessing((0,), (1,), Bands(("height",), "uint16", (0, 9)), bucket=8))
    with pytest.raises(UserError, match="A browser has images of red, green and blue"):
        export_web(bands, tmp_path / "site", (16, 16), RUNTIME)
    assert not (tmp_path / "site").exists()
