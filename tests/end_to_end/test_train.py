"""The main job: train, look, evaluate, predict, stop and go on."""

import json
import random
import signal
import time

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.log import read_rows
from jaxseg.inference.calibration import load_calibration
from tests.end_to_end.conftest import TINY


def _state(workdir, step=20):
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")


def _assert_same_bits(ours, theirs):
    chex.assert_trees_all_equal(ours, theirs)


def test_workdir_holds_everything(trained):
    for name in ("config.json", "dataset.json", "environment.json", "metrics.jsonl", "curves.png"):
        assert (trained / name).stat().st_size > 0, name
    assert sorted(p.name for p in (trained / "images").iterdir()) == ["val_000010.png", "val_000020.png"]
    assert list((trained / "tensorboard").glob("events.*"))
    environment = json.loads((trained / "environment.json").read_text())[0]
    assert environment["versions"]["jax"] == jax.__version__
    checkpoints = Checkpoints(trained)
    assert checkpoints.latest() == 20
    scored = {row["step"]: row["miou"] for row in read_rows(trained / "metrics.jsonl") if row["kind"] == "eval"}
    assert checkpoints.best() == max(scored, key=scored.get)


def test_metrics_rows(trained):
    rows = read_rows(trained / "metrics.jsonl")
    train = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in train] == sorted({*range(3, 20, 3), 4, 8, 10, 12, 16, 20})
    assert {"loss", "grad_norm", "lr", "images_per_s", "loss/logits/cross_entropy", "loss/logits/dice"} <= set(train[0])
    total = train[0]["loss/logits/cross_entropy"] + 0.5 * train[0]["loss/logits/dice"]
    np.testing.assert_allclose(train[0]["loss"], total, rtol=1e-5)
    assert train[-1]["loss"] < train[0]["loss"]
    lr = [2e-3 * (1 - (row["step"] - 1) / 20) ** 0.9 for row in train]  # of the row's last step
    np.testing.assert_allclose([row["lr"] for row in train], lr, rtol=1e-5)
    assert [row["step"] for row in rows if row["kind"] == "eval"] == [10, 20]


def test_eval_repeats_the_last_validation(trained, run, tmp_path):
    text = run(
        "eval.py", "--workdir", trained, "--checkpoint", "latest", "--out", tmp_path, "--calibrate", "temperature"
    )
    assert "ring" in text and "mIoU" in text
    scores = json.loads((tmp_path / "scores.json").read_text())
    last = [row for row in read_rows(trained / "metrics.jsonl") if row["kind"] == "eval"][-1]
    assert scores["checkpoint"] == 20
    for name in ("miou", "pixel_accuracy", "loss"):
        np.testing.assert_allclose(scores[name], last[name], atol=1e-6, err_msg=name)
    for name in ("confusion.png", "predictions.png", "reliability.png"):
        assert (tmp_path / name).exists()
    found = json.loads((trained / "calibration.json").read_text())
    assert (found["checkpoint"], found["split"]) == (20, "val")
    assert found["report"]["nll"] == {"before": scores["nll"], "after": scores["calibrated"]["nll"]}
    assert scores["calibrated"]["nll"] < scores["nll"]
    assert load_calibration(trained, 20).scale[0] == 1 / found["temperature"]


def test_predict_writes_labels_and_overlays(trained, run, tmp_path):
    from jaxseg import Predictor, create_dataset
    from jaxseg.trained import load

    source = create_dataset("shapes", size=48).splits["val"]
    images = [source[i]["image"] for i in range(2)]
    (tmp_path / "in").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[: 48 - 5 * i]).save(tmp_path / "in" / f"p{i}.png")
    run("-m", "jaxseg", "predict", trained, tmp_path / "in", "--out", tmp_path / "out")
    predictor = Predictor(load(trained))
    palette = np.array(create_dataset("shapes").palette)
    for i, image in enumerate(images):
        written = [p for p in (tmp_path / "out").rglob(f"p{i}*.png") if Image.open(p).mode == "P"]
        label = np.asarray(Image.open(written[0]))
        np.testing.assert_array_equal(label, predictor(image[: 48 - 5 * i]))
        overlay = np.asarray(Image.open(tmp_path / "out" / f"p{i}_overlay.png"))[: 48 - 5 * i, :48]
        np.testing.assert_array_equal(overlay, np.round(0.5 * image[: 48 - 5 * i] + 0.5 * palette[label]))


def test_refined_scores_are_those_of_refined_predictions(trained, run):
    from jaxseg import Predictor, create_dataset, metrics
    from jaxseg.trained import load

    run("eval.py", "--workdir", trained, "--crf")
    scores = json.loads((trained / "eval" / "val-crf" / "scores.json").read_text())
    predictor, plain = Predictor(load(trained), refine="crf"), Predictor(load(trained))
    matrix, changed = 0, 0
    for record in create_dataset("shapes", size=32, train=26, val=7).splits["val"]:
        counts = {"num_classes": len(predictor.trained.classes), "where": record["label"][None] != 255}
        matrix += np.asarray(
            metrics.confusion_matrix(predictor(record["image"])[None], record["label"][None], **counts)
        )
        changed += (predictor(record["image"]) != plain(record["image"])).sum()
    assert changed > 0
    np.testing.assert_allclose(scores["miou"], metrics.scores(matrix)["miou"], rtol=1e-6)


@pytest.mark.parametrize("kills", [4])
def test_kill_minus_nine_costs_no_bits(trained, start, tmp_path, kills):
    """Whenever the process dies, the same command ends at the same parameters as the run that was left alone."""
    workdir, rng, killed = tmp_path / "killed", random.Random(0), 0
    command = ("train.py", "--config", TINY, "--workdir", workdir)
    while True:
        process = start(*command)
        if killed < kills:
            _wait_for_progress(process, workdir, rng)
            process.kill()
            killed += 1
        output, _ = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output
    assert killed == kills
    _assert_same_bits(_state(workdir), _state(trained))
    ours, theirs = (read_rows(w / "metrics.jsonl") for w in (workdir, trained))
    keys = ("kind", "step", "loss", "grad_norm", "miou")
    assert [[r.get(k) for k in keys] for r in ours] == [[r.get(k) for k in keys] for r in theirs]


def _wait_for_progress(process, workdir, rng):
    """Returns at a random moment after training has got further than it was."""
    path, deadline = workdir / "metrics.jsonl", time.monotonic() + 120
    before = _size(path)
    while process.poll() is None and time.monotonic() < deadline and _size(path) <= before:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))


def _size(path):
    """In bytes; 0 also at the moment at which a run that begins anew has set the file aside."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_first(trained, start, run, tmp_path, number):
    workdir = tmp_path / "stopped"
    command = ("train.py", "--config", TINY, "--workdir", workdir)
    process = start(*command)
    _wait_for_progress(process, workdir, random.Random(1))
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + number, output
    assert "Run the same command to go on" in output
    step = Checkpoints(workdir).latest()
    assert f"checkpoint {step} is saved" in output
    run(*command)
    _assert_same_bits(_state(workdir), _state(trained))


def test_two_devices_learn_what_one_learns(trained, run, tmp_path):
    workdir = tmp_path / "two"
    text = run("train.py", "--config", TINY, "--workdir", workdir, devices=2)
    assert "2 cpu devices" in text
    ours, theirs = (read_rows(w / "metrics.jsonl")[0] for w in (workdir, trained))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)


def test_a_finished_run_stays_as_it_is(trained, run):
    before = (trained / "metrics.jsonl").read_text()
    text = run("train.py", "--config", TINY, "--workdir", trained)
    assert "Done: 20 steps" in text
    assert (trained / "metrics.jsonl").read_text() == before


def test_the_module_lists_what_can_be_named(run):
    text = run("-m", "jaxseg", "list")
    for name in ("unet", "resnet18", "cross_entropy", "shapes"):
        assert f"  {name} " in text


def test_a_bundle_predicts_what_its_run_does(trained, run, tmp_path):
    from jaxseg import Predictor, create_dataset
    from jaxseg.trained import load

    run("-m", "jaxseg", "bundle", trained, "--out", tmp_path / "bundle", "--note", "Ours.")
    run_, bundle = load(trained), load(tmp_path / "bundle")
    assert (bundle.classes, bundle.palette, bundle.preprocessing) == (run_.classes, run_.palette, run_.preprocessing)
    assert bundle.source == "Ours."
    image = create_dataset("shapes", size=32).splits["val"][0]["image"]
    np.testing.assert_array_equal(Predictor(bundle)(image), Predictor(run_)(image))
    text = run("-m", "jaxseg", "eval", tmp_path / "bundle", code=1)
    assert "--data NAME --root DIR" in text
    text = run("-m", "jaxseg", "eval", tmp_path / "bundle", "--data", "shapes", code=1)
    assert "Name the folder to write to with --out" in text


def test_a_model_without_dropout_is_refused_once(trained, run, tmp_path):
    """Not at every image, and before any is predicted."""
    grid = trained / "images" / "val_000020.png"
    text = run("-m", "jaxseg", "predict", trained, grid, "--dropout", "2", "--out", tmp_path / "out", code=1)
    assert text.count("has no dropout") == 1
    assert "images predicted" not in text
