"""classes.json in all its forms, and labels that say one thing by their values and another by their colors."""

import json

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.legend import Legend, numbered, read_legend
from jaxseg.data.readers import StoredLabel

RNG = np.random.default_rng(0)
GRID = np.arange(48).reshape(6, 8)
IDS = RNG.integers(0, 3, (6, 8)).astype(np.uint8)
COLORS = ((128, 64, 128), (0, 200, 0), (10, 20, 30))
RAMP = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
ENTRIES = [{"name": n, "color": c} for n, c in zip("abc", COLORS, strict=True)]


def parse(tmp_path, document) -> Legend:
    (tmp_path / "classes.json").write_text(json.dumps(document))
    return read_legend(tmp_path / "classes.json", None)


def palette(*colors) -> np.ndarray:
    """256 colors, these first and then gray."""
    return np.concatenate([np.array(colors, np.uint8), RAMP])[:256]


@pytest.mark.parametrize(
    "document",
    [
        {"classes": ["a", "b"]},
        ["a", "b"],
        {"classes": {"1": "b", "0": "a"}},
        {"1": "b", "0": "a"},
        {"id2label": {"1": "b", "0": "a"}, "label2id": {"a": 0, "b": 1}},
        {"classes": {"b": 1, "a": 0}},
        {"classes": {"1": {"name": "b"}, "0": {"name": "a"}}},
        {"classes": {"0": "a", "1": "b", "255": "void"}},
    ],
)
def test_forms(tmp_path, document):
    legend = parse(tmp_path, document)
    assert (legend.names, legend.ignore, legend.values) == (("a", "b"), 255, None)


@pytest.mark.parametrize("document", [{"classes": {"road": "0"}}, {"names": ["a"]}, {"classes": []}, {"classes": 3}, 7])
def test_what_is_no_list_of_classes(tmp_path, document):
    with pytest.raises(UserError, match="does not read"):
        parse(tmp_path, document)


def test_many_classes(tmp_path):
    legend = parse(tmp_path, [f"c{i}" for i in range(1000)])
    assert legend.ignore == 65535
    assert numbered(300).ignore == 65535
    assert parse(tmp_path, [f"c{i}" for i in range(255)]).ignore == 255
    entries = [{"name": f"c{i}", "color": [0, i // 256, i % 256]} for i in range(1000)]
    legend = parse(tmp_path, entries)
    colored = np.array([[[0, 3, 231], [0, 0, 5]]], np.uint8)
    assert legend.read(StoredLabel(colored), "f").tolist() == [[999, 5]]
    assert legend.read(StoredLabel(np.array([[999, 65535]], np.uint16)), "f").tolist() == [[999, 65535]]


def test_one_class(tmp_path):
    legend = parse(tmp_path, {"classes": ["cell"]})
    assert legend.read(StoredLabel(np.array([[0, 1]], np.uint8)), "f").tolist() == [[0, 1]]
    assert legend.stored is None
    legend = parse(tmp_path, {"ignore": 254, "classes": [{"name": "cell", "values": [255]}]})
    assert legend.read(StoredLabel(np.array([[0, 255, 254]], np.uint8)), "f").tolist() == [[0, 1, 254]]
    assert legend.stored == ((255,),)
    with pytest.raises(UserError, match='value 7 is in no "values"'):
        legend.read(StoredLabel(np.array([[0, 7]], np.uint8)), "f")
    legend = parse(tmp_path, [{"name": "cell", "color": [255, 0, 0]}])
    colored = np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)
    assert legend.read(StoredLabel(colored), "f").tolist() == [[1, 0]]


def test_stored_values(tmp_path):
    document = {
        "ignore": 255,
        "classes": [{"name": "a", "values": [7, 8]}, "b", {"id": 255, "name": "x", "values": [0]}],
    }
    legend = parse(tmp_path, document)
    assert legend.stored == ((7, 8), (1,))
    assert legend.read(StoredLabel(np.array([[7, 8, 1, 0, 255]], np.uint8)), "f").tolist() == [[0, 0, 1, 255, 255]]


def test_the_colors_of_a_palette_count_where_classes_have_them(tmp_path):
    """Programs that reduce an image to few colors number these as they like."""
    legend = parse(tmp_path, ENTRIES)
    order = [2, 0, 1]
    shuffled = StoredLabel(np.argsort(order).astype(np.uint8)[IDS], palette(*[COLORS[i] for i in order]))
    np.testing.assert_array_equal(legend.read(shuffled, "f"), IDS)
    np.testing.assert_array_equal(legend.read(StoredLabel(IDS, palette(*COLORS)), "f"), IDS)
    other = palette((5, 5, 6), (7, 8, 9), (3, 2, 1))  # colors of another program
    np.testing.assert_array_equal(legend.read(StoredLabel(IDS, other), "f"), IDS)
    ramp = parse(tmp_path, [{"name": "a", "color": [1, 1, 1]}, {"name": "b", "color": [0, 0, 0]}, "c"])
    np.testing.assert_array_equal(ramp.read(StoredLabel(IDS, RAMP), "f"), IDS)


def test_ignored_indices_need_no_color(tmp_path):
    """As VOC's: the outline is index 255 with a color that no class has."""
    legend = parse(tmp_path, ENTRIES)
    colors = palette(COLORS[1], COLORS[0], COLORS[2])
    colors[255] = (224, 224, 192)
    stored = np.array([[0, 1, 2, 255]], np.uint8)
    assert legend.read(StoredLabel(stored, colors), "f").tolist() == [[1, 0, 2, 255]]


def test_a_palette_that_contradicts_is_an_error(tmp_path):
    legend = parse(tmp_path, ENTRIES)
    half = palette(COLORS[1], (9, 9, 8), COLORS[2])
    with pytest.raises(UserError, match=r"index 0 stands for label 0 \(a\).*color \(0, 200, 0\), .* label 1 \(b\)"):
        legend.read(StoredLabel(np.array([[0, 1]], np.uint8), half), "f")
    values = parse(tmp_path, [{**e, "values": [i]} for i, e in enumerate(ENTRIES)])
    with pytest.raises(UserError, match="index 0 stands for label 0"):
        values.read(StoredLabel(np.array([[0, 1]], np.uint8), palette(COLORS[1], COLORS[0])), "f")
    np.testing.assert_array_equal(values.read(StoredLabel(IDS, palette(*COLORS)), "f"), IDS)


def test_ids_as_gray_rgb(tmp_path):
    gray = StoredLabel(np.stack([IDS] * 3, -1))
    for document in (["a", "b", "c"], ENTRIES, [{"name": "a", "color": [0, 0, 0]}, *ENTRIES[1:]]):
        np.testing.assert_array_equal(parse(tmp_path, document).read(gray, "f"), IDS)
    stored = parse(tmp_path, {"ignore": 254, "classes": ["a", {"name": "b", "values": [255]}]})
    mask = np.stack([255 * (IDS > 0)] * 3, -1).astype(np.uint8)
    np.testing.assert_array_equal(stored.read(StoredLabel(mask), "f"), IDS > 0)
    # Black and white are colors where classes have them, whatever their ids.
    colors = parse(tmp_path, [{"name": "a", "color": [255, 255, 255]}, {"name": "b", "color": [0, 0, 0]}])
    np.testing.assert_array_equal(colors.read(StoredLabel(mask), "f"), IDS == 0)
    with pytest.raises(UserError, match=r"color \(128, 128, 128\) is not in classes.json"):
        parse(tmp_path, ENTRIES).read(StoredLabel(np.full((2, 2, 3), 128, np.uint8)), "f")


def test_ids_in_the_red_channel_are_recognized(tmp_path):
    red = np.zeros((6, 8, 3), np.uint8)
    red[..., 0] = IDS
    for document in (["a", "b", "c"], ENTRIES):
        with pytest.raises(UserError, match="Are these class ids, in the red channel"):
            parse(tmp_path, document).read(StoredLabel(red), "f")


def test_interpolated_masks(tmp_path):
    legend = parse(tmp_path, {"ignore": 254, "classes": [{"name": "a", "values": [0]}, {"name": "b", "values": [255]}]})
    soft = np.zeros((40, 40), np.uint8)
    soft[:, 20:] = 255
    soft[:, 18:22] = np.array([50, 101, 152, 203])
    with pytest.raises(UserError, match="looks interpolated"):
        legend.read(StoredLabel(soft), "f")
    colored = parse(tmp_path, ENTRIES[:2])
    mixed = np.array(COLORS[:2], float)[(soft > 99).astype(int)]
    mixed[:, 15:25] = np.linspace(COLORS[0], COLORS[1], 10)
    with pytest.raises(UserError, match="looks interpolated"):
        colored.read(StoredLabel(mixed.round().astype(np.uint8)), "f")
    others = np.array([[3, 200, 9], [99, 3, 77], [255, 255, 0], [1, 0, 255], [7, 70, 7]], np.uint8)[GRID % 5]
    with pytest.raises(UserError, match="is not in classes.json") as caught:
        colored.read(StoredLabel(others), "f")
    assert "interpolated" not in str(caught.value)
