import numpy as np
import pytest
from PIL import Image

from jaxseg import visualize
from jaxseg.checks import UserError
from jaxseg.visualize.images import WRONG, _caption, as_percent

PALETTE, CLASSES = [(10, 20, 30), (200, 100, 0), (0, 0, 255)], ("ground", "house", "sea")


@pytest.fixture
def label():
    label = np.random.default_rng(0).integers(0, 3, (12, 20))
    label[:3, :6] = 255
    return label


@pytest.fixture
def image(label):
    return np.random.default_rng(1).integers(0, 256, (*label.shape, 3), dtype=np.uint8)


def test_colorize_gives_every_class_its_color_and_hatches_the_rest(label):
    sample = visualize.colorize(label, PALETTE)
    assert sample.dtype == np.uint8
    for i, color in enumerate(PALETTE):
        assert (sample[label == i] == color).all()
    hatch = sample[label == 255]
    assert len(np.unique(hatch)) == 2 and (hatch == hatch[:, :1]).all(), "two grays"


def test_overlay_tints_what_is_labeled_and_leaves_the_rest(image, label):
    sample = visualize.overlay(image, label, PALETTE, CLASSES, alpha=0.25, legend=False)
    expected = np.round(0.75 * image + 0.25 * np.array(PALETTE)[label % 255])
    np.testing.assert_array_equal(sample, np.where((label == 255)[..., None], image, expected))


def test_legend_is_beneath_and_names_only_what_occurs(image, label):
    plain = visualize.overlay(image, label, PALETTE, CLASSES, legend=False)
    with_legend = visualize.overlay(image, label, PALETTE, CLASSES)
    np.testing.assert_array_equal(with_legend[:12, :20], plain)
    strip = with_legend[12:].reshape(-1, 3)
    assert all((strip == color).all(1).any() for color in PALETTE)
    one = visualize.overlay(image, np.ones_like(label), PALETTE, CLASSES)
    strip = one[12:].reshape(-1, 3)
    assert [bool((strip == color).all(1).any()) for color in PALETTE] == [False, True, False]
    wide = visualize.overlay(np.zeros((4, 600, 3), np.uint8), np.zeros((4, 600), int), PALETTE, CLASSES)
    assert wide.shape[1] == 600, "a legend that fits does not widen the image"


def test_legend_gives_shares_of_the_whole_image(image, label, monkeypatch):
    """So that they add up to less where something is ignored."""
    drawn = []

    def legend(entries, width, *, size):
        drawn.extend(text for _, text in entries)
        return Image.new("RGB", (width, size))

    monkeypatch.setattr("jaxseg.visualize.images._legend", legend)
    visualize.overlay(image, np.where(np.indices(label.shape)[1] < 5, 1, 255), PALETTE, CLASSES)
    assert drawn == ["house 25.0%"]


def test_caption_is_of_the_pixels_that_count():
    row = {"label": np.array([[0, 1, 255, 255]]), "prediction": np.array([[0, 0, 0, 0]]), "name": "a"}
    assert _caption(row, 255) == "a: 50.0% of the pixels right"


def test_error_map_tells_right_wrong_and_ignored_apart(image, label):
    prediction = np.where(label == 255, 0, label)
    prediction[6] = (prediction[6] + 1) % 3
    errors = visualize.error_map(image, label, prediction)
    wrong = (errors == WRONG).all(-1)
    np.testing.assert_array_equal(wrong, (prediction != label) & (label != 255))
    assert len(np.unique(errors[label == 255])) == 2
    right = errors[(prediction == label)]
    assert (right == right[:, :1]).all() and right.min() >= 110, "pale gray"


def test_prediction_grid_of_images_of_many_sizes(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i, (h, w) in enumerate([(40, 50), (700, 900), (64, 16)]):
        label = rng.integers(0, 3, (h, w)).astype(np.uint8)
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        rows.append({"image": image, "label": label, "prediction": label, "name": f"image {i}"})
    rows[2]["label"] = np.full((64, 16), 255, np.uint8)
    path = tmp_path / "grid.png"
    visualize.prediction_grid(rows, palette=PALETTE, classes=CLASSES, path=path)
    with Image.open(path) as grid:
        pixels = np.asarray(grid)
    assert pixels.shape[1] == 4 * 300 + 3 * 8 + 2 * 16  # the second image is reduced to 300 columns
    flat = pixels.reshape(-1, 3)
    assert all((flat == color).all(1).any() for color in PALETTE)
    assert (flat == WRONG).all(1).sum() < 300, "red in the legend alone: every pixel that counts is right"


def test_prediction_grid_shows_errors_and_nothing_without_rows(tmp_path, image, label):
    row = {"image": image, "label": label, "prediction": np.where(label == 0, 1, 0), "name": "wrong"}
    visualize.prediction_grid([row], palette=PALETTE, classes=CLASSES, path=tmp_path / "grid.png")
    pixels = np.asarray(Image.open(tmp_path / "grid.png")).reshape(-1, 3)
    assert (pixels == WRONG).all(1).sum() > 200 * (label < 255).sum()  # enlarged 15-fold
    visualize.prediction_grid([], palette=PALETTE, classes=CLASSES, path=tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_prediction_grid_has_each_map_under_its_title(tmp_path):
    """Image, label, prediction and errors, from the left, of an image as wide as its column."""
    image, label = np.full((20, 300, 3), 77, np.uint8), np.zeros((20, 300), np.uint8)
    row = {"image": image, "label": label, "prediction": label + 1, "name": "a"}
    visualize.prediction_grid([row], palette=PALETTE, classes=CLASSES, path=tmp_path / "grid.png")
    pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    lefts = 16 + 308 * np.arange(4)
    np.testing.assert_array_equal(pixels[50, lefts + 150], [(77, 77, 77), PALETTE[0], PALETTE[1], WRONG])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_label_png_keeps_the_ids_and_has_the_colors(tmp_path, label, dtype):
    path = tmp_path / "label.png"
    visualize.save_label_png(path, label.astype(dtype), PALETTE)
    with Image.open(path) as sample:
        assert sample.mode == "P"
        np.testing.assert_array_equal(np.asarray(sample), label)
        colors = np.asarray(sample.convert("RGB"))
    for i, color in enumerate(PALETTE):
        assert (colors[label == i] == color).all()
    assert (colors[label == 255] == 255).all()


def test_label_png_with_256_classes_and_not_one_more(tmp_path):
    label = np.arange(256).reshape(16, 16)
    colors = [(i, 255 - i, i // 2) for i in range(256)]
    visualize.save_label_png(tmp_path / "a.png", label, colors, ignore=-1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), label)
    with pytest.raises(UserError, match="at most 256 classes, got 257"):
        visualize.save_label_png(tmp_path / "b.png", label, [*colors, (0, 0, 0)])


def test_wrong_maps_are_named(image, label):
    with pytest.raises(UserError, match="holds 7, but there are 3 classes and 255 is ignored"):
        visualize.colorize(np.array([[0, 7]]), PALETTE)
    with pytest.raises(UserError, match="holds -1"):
        visualize.colorize(np.array([[0, -1]]), PALETTE)
    with pytest.raises(UserError, match=r"must be integers\[h, w\], got float64"):
        visualize.colorize(label / 1.0, PALETTE)
    with pytest.raises(UserError, match=r"`alpha` must be in \[0, 1\], got 50"):
        visualize.overlay(image, label, PALETTE, CLASSES, alpha=50)


def test_percent_never_rounds_something_to_nothing():
    assert [as_percent(x) for x in (0, 1e-6, 0.001, 0.5, 1)] == ["0.0%", "<0.1%", "0.1%", "50.0%", "100.0%"]
