"""The command that looks at a data set: its report, its page, its statistics and its exit status."""

import json

import numpy as np
import pytest

from jaxseg.cli.program import main
from tests.data.test_check import image, mask, save, write


def run(capsys, *words):
    status = main(["data", *map(str, words)])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_check_prints_the_report_and_writes_a_page_without_other_files(tmp_path, capsys):
    root, page = write(tmp_path), tmp_path / "out" / "sheet.html"
    status, out, _ = run(capsys, "check", root, "--html", page)
    assert status == 0
    assert "folder: 2 classes, ignore label 255, uint8 RGB" in out
    assert out.endswith(f"0 errors, 0 warnings\n-> {page}\n")
    text = page.read_text()
    assert text.count('src="data:image/jpeg;base64') == 2 * 5  # the image, and the label over it
    assert text.count('src="data:image/png;base64') == 5
    assert "http" not in text


def test_an_error_is_status_1_and_is_on_the_page_too(tmp_path, capsys):
    root = write(tmp_path)
    save(root / "val" / "labels" / "p1.png", mask(value=9))
    status, out, _ = run(capsys, "check", root, "--html", tmp_path / "sheet.html")
    assert status == 1
    assert "error: " in out
    assert "got 9" in out
    text = (tmp_path / "sheet.html").read_text()
    assert "got 9" in text and "<h2>1 error</h2>" in text
    assert run(capsys, "check", root, "--split", "train")[0] == 0
    assert run(capsys, "check", "--split", "train", root)[0] == 0


def test_a_setting_given_as_an_option_is_named(tmp_path, capsys):
    status, _, told = run(capsys, "check", write(tmp_path), "--option", "label_offset=-1")
    assert status == 1 and "Set data.label_offset instead." in told


def test_the_page_says_what_is_alike_once(tmp_path, capsys):
    root = write(tmp_path)
    for i in range(3):
        save(root / "train" / "labels" / f"p{i}.png", mask(value=9))
    assert run(capsys, "check", root, "--html", tmp_path / "sheet.html")[0] == 1
    text = (tmp_path / "sheet.html").read_text()
    assert "<h2>3 errors</h2>" in text and text.count("got 9") == 1 and "(and 2 more like it)" in text


def test_a_layout_without_classes_is_looked_at_as_it_would_be_read(tmp_path, capsys):
    for i in range(5):
        save(tmp_path / "images" / f"p{i}.png", image(i))
        save(tmp_path / "masks" / f"p{i}.png", mask(value=255))
    status, out, _ = run(capsys, "check", tmp_path)
    assert status == 1
    assert "set data.options = {'labels': 'masks', 'split': (0.8, 0.2)}" in out
    assert '"classes": [{"id": 0, "name": "background", "values": [0]}, {"id": 1, "name": "foreground"' in out
    assert "train: 4 images" in out
    options = "--option", "labels=masks", "--option", "split=(0.8,0.2)", "--option", "num_classes=2"
    assert "holds no split" not in run(capsys, "check", tmp_path, *options)[1]


def test_colors_without_classes_become_classes(tmp_path, capsys):
    for split in ("train", "val"):
        save(tmp_path / split / "images" / "a.png", image(split == "val"))
        save(tmp_path / split / "labels" / "a.png", np.stack([mask(value=200)] + [mask() * 0] * 2, axis=-1))
    out = run(capsys, "check", tmp_path)[1]
    assert '"classes": [{"id": 0, "name": "class0", "color": [0, 0, 0]}, ' in out
    assert '{"id": 1, "name": "class1", "color": [200, 0, 0]}]' in out
    assert "train: 1 image\n" in out


def test_the_settings_of_a_run_are_checked_with_the_data(tmp_path, capsys):
    root = write(tmp_path)
    given = "--config.data.canvas=12,16", "--config.data.crop=8,8", "--config.data.batch_size=8"
    status, out, _ = run(capsys, "check", root, "--config.train.steps=1", *given)
    assert status == 1
    assert "in windows of 12x16, 25 % of an image at a time; crops of 8x8" in out
    assert "fewer than config.data.batch_size=8" in out
    assert "can never be filled" in run(capsys, "check", root, "--config.data.crop=999,8", "--config.train.steps=1")[1]


def test_stats_are_json_for_a_config(tmp_path, capsys):
    root = write(tmp_path, picture=lambda seed: image(seed, dtype=np.uint16, high=1400)[..., 0])
    status, out, _ = run(capsys, "stats", root)
    assert status == 0
    told = json.loads(out)
    (window,) = told["window"]
    assert 20 <= window[0] < 40
    assert 1380 < window[1] <= 1399
    assert told["config"]["data.options"] == {"window": [window]}
    assert run(capsys, "check", root, "--option", f"window={tuple(window)}")[0] == 0


@pytest.mark.parametrize(
    "words,said",
    [
        (["check", "nowhere"], "'nowhere' does not exist"),
        (["check", "--data", "shape"], "Unknown data set 'shape'. Did you mean 'shapes'?"),
        (["stats", "nowhere"], "'nowhere' does not exist"),
        (["check", ".", "--option", "window"], "--option must be KEY=VALUE"),
        (["look", "."], "invalid choice: 'look'"),
    ],
)
def test_what_cannot_be_opened_says_so(words, said, capsys):
    status, out, err = run(capsys, *words)
    assert status in (1, 2)
    assert said in out + err


def test_drawn_data_have_no_files_and_are_checked_too(capsys):
    status, out, _ = run(capsys, "check", "--data", "shapes", "--option", "size=16", "--split", "val")
    assert status == 0
    assert "sizes   16x16" in out
