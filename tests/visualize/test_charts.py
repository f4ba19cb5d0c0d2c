import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from jaxseg import visualize


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    saved, save = [], matplotlib.figure.Figure.savefig

    def keep(self, path, **options):
        saved.append(self)
        save(self, path, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", keep)
    return saved


def test_confusion_numbers_are_percents_of_the_row(tmp_path, figures):
    matrix = np.array([[90, 10, 0], [0, 0, 0], [1, 0, 999]])
    visualize.confusion_figure(matrix, ["a", "b", "c"], tmp_path / "m.png")
    axes = figures[0].axes[0]
    numbers = {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "90", (1, 0): "10", (2, 2): "100"}  # (column, row)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a  9.1%", "b  0.0%", "c  90.9%"]
    assert "mIoU 63.0" in axes.get_title()  # of a 90/101, of b (predicted, never labeled) 0, of c 999/1000
    assert Image.open(tmp_path / "m.png").size[0] > 300


def test_spread_is_drawn_where_the_scores_are(tmp_path, figures):
    found = {"miou": 0.5, "miou_low": 0.4, "miou_high": 0.6, "image_miou": 0.45, "image_miou_std": 0.1}
    found |= {"iou": [0.3, np.nan, 0.7], "iou_low": [0.2, np.nan, 0.6], "iou_high": [0.35, np.nan, 0.9]}
    found |= {"image_iou": [0.25, np.nan, 0.6], "image_iou_std": [0.3, np.nan, np.nan], "spread": {"level": 0.95}}
    visualize.spread_figure(found, ["a", "b", "c"], tmp_path / "s.png")
    axes = figures[0].axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["mean", "c", "a"]  # the best first; b has no score
    means, whole = axes.lines
    np.testing.assert_allclose(whole.get_xdata(), [50, 70, 30])
    np.testing.assert_allclose(means.get_xdata(), [45, 60, 25])
    deviations, intervals = (
        [np.reshape(line, (-1, 2))[:, 0].tolist() for line in lines.get_segments()] for lines in axes.collections
    )
    np.testing.assert_allclose(intervals, [[40, 60], [60, 90], [20, 35]])
    np.testing.assert_allclose(deviations[2], [0, 55])  # from 25 - 30, but not below 0
    assert Image.open(tmp_path / "s.png").size[0] > 300


@pytest.mark.parametrize("count", [1, 24, 25])
def test_confusion_of_any_number_of_classes(tmp_path, figures, count):
    visualize.confusion_figure(np.eye(count, dtype=int), [f"class {i}" for i in range(count)], tmp_path / "m.png")
    assert len(figures[0].axes[0].texts) == (count if count <= 24 else 0)
    assert max(Image.open(tmp_path / "m.png").size) < 4000


def test_curves(tmp_path, figures):
    rows = [{"kind": "train", "step": 10 * i, "loss": 1 / i, "lr": 1e-3} for i in range(1, 101)]
    rows += [
        {"kind": "eval", "step": s, "loss": 0.5, "miou": m, "pixel_accuracy": 0.9} for s, m in [(500, 0.7), (1000, 0.6)]
    ]
    rows += [{"kind": "eval", "step": 1001, "loss": None, "miou": None, "pixel_accuracy": None}]
    visualize.curves(rows, tmp_path / "curves.png")
    left, right = figures[0].axes[:2]
    assert "best mIoU 0.7000 at step 500" in right.get_title()
    drawn = {line.get_label(): line.get_xydata().tolist() for axes in (left, right) for line in axes.lines}
    assert drawn["mIoU"] == [[500, 0.7], [1000, 0.6]]
    assert drawn["validation"] == [[500, 0.5], [1000, 0.5]]
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend == ["training, smoothed", "validation", "learning rate"]
    smooth = drawn["training, smoothed"]
    assert len(smooth) == 100
    np.testing.assert_allclose(smooth[50][1], np.mean([1 / i for i in range(49, 54)]))


@pytest.mark.parametrize("rows", [[], [{"kind": "train", "step": 1, "loss": 2.0, "lr": 0.0}]])
def test_curves_of_a_run_that_hardly_began(tmp_path, figures, rows):
    visualize.curves(rows, tmp_path / "curves.png")
    assert "not evaluated" in figures[0].axes[1].get_title()


def test_nothing_is_drawn_on_a_screen(tmp_path):
    """Figures are made without pyplot, which would choose a window system and keep every figure alive."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from jaxseg import visualize\n"
        f"visualize.curves([], {str(tmp_path / 'c.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dollar_in_a_name_is_no_mathematics(tmp_path, figures):
    names = ["$\\frac{a}$", "under $5 and over $9"]
    visualize.confusion_figure(np.eye(2, dtype=int), names, tmp_path / "m.png")  # the first would raise, as mathematics
    found = {"miou": 0.5, "miou_low": 0.4, "miou_high": 0.6, "image_miou": 0.45, "image_miou_std": 0.1}
    found |= {key: [0.5, 0.4] for key in ("iou", "iou_low", "iou_high", "image_iou", "image_iou_std")}
    visualize.spread_figure(found | {"spread": {"level": 0.95}}, names, tmp_path / "s.png")
    for figure in figures:
        assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())
    assert not any(label.get_parse_math() for label in figures[0].axes[0].get_xticklabels())
