"""Commands on a run as it lies on the disk: the checkpoint, the data and the files that are named are those used."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.evaluation.data import find_dataset
from jaxseg.evaluation.evaluator import Evaluation
from jaxseg.evaluation.score import evaluate
from jaxseg.inference.calibration import Calibration, load_calibration, save_calibration

ONES = 3 * 16 * 4 / (16 * (20 + 21 + 22))  # the share of class 1 in the split, all that checkpoint 1 gets wrong


def test_errors_are_those_of_the_checkpoint_and_the_root_that_are_named(run, tmp_path, capsys):
    moved = str(shutil.move(run.root, tmp_path / "moved"))
    for checkpoint, wrong in (("1", ONES), ("best", 1 - ONES)):
        assert call("errors", str(run.workdir), "--root", moved, "--checkpoint", checkpoint) == 0
        assert f" {100 * wrong:.2f} % of the pixels wrong" in capsys.readouterr().out
    assert (run.workdir / "errors" / "val" / "errors.html").exists()


def test_scores_are_of_the_checkpoint_and_the_root_that_are_named(run, tmp_path):
    moved, out = str(shutil.move(run.root, tmp_path / "moved")), tmp_path / "out"
    assert call("eval", str(run.workdir), "--root", moved, "--checkpoint", "1", "--out", str(out)) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert (scores["checkpoint"], scores["split"], scores["refine"]) == (1, "val", None)
    np.testing.assert_allclose(scores["pixel_accuracy"], 1 - ONES)
    assert not (run.workdir / "eval").exists()


def test_a_class_that_is_never_predicted_is_told(run, capsys):
    """Which the pixel accuracy does not show where it is rare."""
    assert call("eval", str(run.workdir), "--checkpoint", "1") == 0
    assert f"Never predicted: house ({100 * ONES:.3g} % of the labeled pixels). Train longer" in capsys.readouterr().out


@pytest.mark.parametrize("labeled,told", [(3, "<0.0001 %"), (81_200, "0.081 %"), (99_680_000, "99.7 %")])
def test_the_share_of_what_is_never_predicted_has_no_exponent(labeled, told):
    matrix = np.array([[10**8 - labeled, 0], [labeled, 0]], np.int64)
    evaluation = Evaluation(matrix, 0.0, [], {}, {}, 1)
    assert f"Never predicted: house ({told} of the labeled pixels)" in evaluation.never_predicted(("sky", "house"))


def test_options_of_metrics_are_given_to_one_evaluation(run):
    """Millimeters of anisotropic pixels: class 1 fills the image where it should have 4 columns of 20, 21 and 22."""
    options = ("--metric-option", "surface.spacing=0.5,3.0", "--metric-option", "surface.tolerance=0.75")
    assert call("eval", str(run.workdir), "--metrics", "surface", *options) == 0
    scores = json.loads((run.workdir / "eval" / "val" / "scores.json").read_text())
    assert scores["surface"]["spacing"] == [0.5, 3.0] and scores["surface"]["tolerance"] == 0.75
    np.testing.assert_allclose(scores["hausdorff"][1], np.mean([3.0 * (16 + i) for i in range(3)]), rtol=1e-5)
    with pytest.raises(UserError, match="Name the metric too: --metrics confusion,surface"):
        call("eval", str(run.workdir), *options)
    with pytest.raises(UserError, match="must be METRIC.KEY=VALUE"):
        call("eval", str(run.workdir), "--metrics", "surface", "--metric-option", "spacing=1,1")


def test_a_run_says_what_its_labels_and_its_padding_were(run):
    trained = jaxseg.load(run.workdir)
    assert (trained.ignore, trained.preprocessing.bucket, trained.palette) == (200, 8, ((0, 0, 0), (9, 9, 9)))
    assert jaxseg.Predictor(trained).trained.preprocessing.bucket == 8


def test_refined_scores_lie_beside_the_plain_ones(run):
    trained = jaxseg.load(run.workdir)
    evaluate(trained, *find_dataset(trained), refine="guided")
    assert [path.name for path in (run.workdir / "eval").iterdir()] == ["val-guided"]


def test_predictions_are_calibrated_as_the_file_says(run):
    calibration = Calibration("vector", (0.5, 0.25), (0.0, 1.0), checkpoint=2, split="val")
    save_calibration(calibration, run.workdir)
    assert load_calibration(run.workdir, 2) == calibration
    odds = np.exp(0.25 * 2 + 1)  # of class 1, whose logit is 2, over class 0, whose logit is 0
    image = np.zeros((16, 20, 3), np.uint8)
    p = jaxseg.Predictor(jaxseg.load(run.workdir)).probabilities(image)
    np.testing.assert_allclose(p[..., 1], odds / (1 + odds), rtol=1e-5)
    with pytest.warns(UserWarning, match="fitted to checkpoint 2, not to 1"):
        p = jaxseg.Predictor(jaxseg.load(run.workdir, 1)).probabilities(image)
    np.testing.assert_allclose(p[..., 1], 1 / (1 + np.exp(2)), rtol=1e-5)


def test_predict_writes_labels_and_overlays_of_the_checkpoint(run, tmp_path):
    out, images = tmp_path / "out", run.root / "val" / "images"
    given = (str(run.workdir), str(images), "--out", str(out), "--checkpoint", "2", "--alpha", "1")
    assert call("predict", *given) == 0
    for i in range(3):
        size = (16, 20 + i)
        label = Image.open(out / f"{i}_label.png")
        assert (np.asarray(label) == np.ones(size)).all() and (np.asarray(label.convert("RGB")) == 9).all()
        assert (np.asarray(Image.open(out / f"{i}_overlay.png"))[: size[0], : size[1]] == 9).all()


def test_images_that_do_not_read_are_left_out_and_named(run, tmp_path, capsys):
    images, out = run.root / "val" / "images", tmp_path / "out"
    (images / "1.png").write_bytes((images / "1.png").read_bytes()[:300])
    whole = (run.root / "train" / "images" / "0.png").read_bytes()
    (run.root / "train" / "images" / "0.png").write_bytes(b"")  # nobody looks at it here
    command = (str(run.workdir), "--out", str(out), "--accept-data")  # the files were whole when the run began
    with pytest.warns(UserWarning, match=r"1 of 3 images .* does not read and is in no score.*\n.*images/1.png"):
        assert call("eval", *command) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert (scores["images"], scores["unreadable"]) == (2, 1)
    np.testing.assert_allclose(scores["pixel_accuracy"], 2 * 16 * 4 / (16 * (20 + 22)))
    assert "split val, 2 of 3 images (1 does not read)" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"images/1.png"):
        assert call("errors", *command) == 0
    assert "2 of 3 images" in capsys.readouterr().out
    page = (out / "errors.html").read_text()
    assert "1 of 3 images do not read" in page and "images/1.png" in page and "<p>2 images," in page
    for name in ("eval", "errors"):
        with pytest.raises(UserError, match=r"images/1.png does not read"):
            call(name, *command, "--strict")
    for file in images.iterdir():
        file.write_bytes(b"")
    (run.root / "train" / "images" / "0.png").write_bytes(whole)
    for name in ("eval", "errors"):
        with pytest.raises(UserError, match=r"No image of the split 'val' .* reads: .*it is empty"):
            call(name, *command)


def test_a_strangers_run_on_data_of_tfds_is_told_where_it_may_look(run):
    path = run.workdir / "config.json"
    config = json.loads(path.read_text())
    config["data"] |= {"name": "tfds:evil", "root": str(run.root)}
    path.write_text(json.dumps(config))
    for name in ("eval", "errors"):
        with pytest.raises(UserError, match="say that you trust this one with --root"):
            call(name, str(run.workdir))
