"""The page of `jaxseg demo`, in a browser: an image is chosen, and what the page shows is what the predictor says."""

import contextlib

import numpy as np
from PIL import Image

from jaxseg.inference import Predictor
from jaxseg.serve.service import choosing
from tests.browser import Browser
from tests.serve.test_server import COLORS, PIXELS, TRAINED, running


def uncertainty(p):
    """The entropy, in units of the largest that there is."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1) / np.log(p.shape[-1])


def test_an_image_that_is_chosen_is_labeled(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    predictor = Predictor(TRAINED)
    with (
        running(predictor, page=True, predictor_of=choosing(predictor, {})) as address,
        contextlib.closing(Browser(tmp_path / "profile")) as browser,
    ):
        browser.call("Page.navigate", url=f"{address}/")
        browser.wait_for("document.querySelectorAll('#classes li').length === 3")
        browser.give_file("#file", tmp_path / "a.png")
        browser.wait_for("!document.querySelector('#save').disabled")
        found = np.array(browser.evaluate("Array.from(label.values)")).reshape(PIXELS.shape[:2])
        np.testing.assert_array_equal(found, predictor(PIXELS))
        drawn = "Array.from($('canvas').getContext('2d').getImageData(0, 0, label.width, label.height).data)"
        whole = browser.evaluate("$('alpha').value = 100, draw(), " + drawn)
        shown = np.array(whole).reshape(*found.shape, 4)[..., :3]
        np.testing.assert_array_equal(shown, np.array(COLORS)[found])
        part = browser.evaluate("document.querySelector('#classes input').click(), " + drawn)
        shown = np.array(part).reshape(*found.shape, 4)[..., :3]
        np.testing.assert_array_equal(shown[found == 0], PIXELS[found == 0])
        tinted = browser.evaluate("$('view').value = 'uncertainty', draw(), " + drawn)
        weight = uncertainty(np.rint(255 * predictor.probabilities(PIXELS)) / 255)[..., None]
        assert weight.max() > 0.5
        expected = PIXELS + weight * (np.array([255, 120, 0]) - PIXELS)
        np.testing.assert_allclose(np.array(tinted).reshape(*found.shape, 4)[..., :3], expected, atol=1)
        turned = Predictor(TRAINED, tta="flip,0.75,1.25")
        browser.evaluate("$('tta').value = 'flip,0.75,1.25', $('tta').dispatchEvent(new Event('change'))")
        browser.wait_for("$('error').textContent === ''")
        label, p = turned.label_and_probabilities(PIXELS)
        np.testing.assert_array_equal(browser.evaluate("Array.from(label.values)"), label.ravel())
        np.testing.assert_array_equal(browser.evaluate("Array.from(probabilities.values)"), p.ravel())
        assert (label != found).any()
        (tmp_path / "b.png").write_text("no image")
        browser.give_file("#file", tmp_path / "b.png")
        browser.wait_for("$('error').textContent.startsWith('The image does not read')")
