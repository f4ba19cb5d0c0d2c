"""The pictures of models: what is a box, what goes where, and that every model has one."""

import re
from xml.etree import ElementTree

import jax.numpy as jnp
import pytest
from flax import linen as nn

import jaxseg
from docs.make.contents import DOCS
from docs.make.figure.graph import Box, Graph
from docs.make.figure.layout import lay_out
from docs.make.figure.opening import open_parts
from docs.make.figure.svg import draw
from docs.make.figure.trace import trace
from jaxseg.ops.resize import resize

SMALL = {"widths": (4, 4, 4), "convs": 1}


class Forked(nn.Module):
    """One convolution, two side by side whose sum is enlarged, and one that nothing comes of."""

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Conv(4, (3, 3), strides=2, name="stem")(image)
        y = nn.Conv(4, (1, 1), name="left")(x) + nn.Conv(4, (3, 3), kernel_dilation=2, name="right")(x)
        nn.Conv(4, (1, 1), name="unused")(x)
        return {"logits": resize(nn.relu(y), image.shape[1:3])}


def titles(graph):
    """The edges by the titles of their boxes."""
    return {(graph.boxes[a].title, graph.boxes[b].title): resized for (a, b), resized in graph.edges.items()}


def test_boxes_and_edges_are_what_is_computed():
    graph = open_parts(trace(Forked()))
    assert titles(graph) == {
        ("image", "stem"): False,
        ("stem", "left"): False,
        ("stem", "right"): False,
        ("left", "+"): False,
        ("right", "+"): False,
        ("+", "logits"): True,  # enlarged on the way
    }
    boxes = {box.title: box for box in graph.boxes.values()}
    assert boxes["stem"].shape == (256, 256, 4)
    assert boxes["stem"].detail == "3×3/2"
    assert boxes["right"].detail == "3×3 dilation 2"
    assert boxes["logits"].shape == (512, 512, 4)


def test_a_unet_is_a_u():
    model = jaxseg.create_model("unet", "plain", num_classes=3, encoder_options=SMALL, decoder_channels=(4, 4, 4))
    graph = open_parts(trace(model))
    edges = titles(graph)
    assert {("image", "c1"), ("c1", "c2"), ("c2", "c3"), ("c3", "block0"), ("c2", "block0"), ("c1", "block1")} <= set(
        edges
    )
    assert edges["c3", "block0"], "it is enlarged"
    assert not edges["c2", "block0"]
    places = {graph.boxes[n].title: place for n, place in lay_out(graph).places.items()}
    assert [places[name].row for name in ("image", "c1", "c2", "c3")] == [0, 1, 2, 3]
    assert {places[name].column for name in ("c1", "c2", "c3")} == {0}
    assert [places[name].row for name in ("block0", "block1", "block2")] == [2, 1, 0]
    assert len({places[name].column for name in ("block0", "block1", "block2")}) == 1
    picture = ElementTree.fromstring(draw(graph, "a <U>"))
    texts = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"c1", "block0", "1/2", "256×256", "512×512×3"} <= set(texts)
    assert len([node for node in picture.iter("{http://www.w3.org/2000/svg}path") if node.get("marker-end")]) == len(
        edges
    )


def test_no_box_lies_on_another_and_no_lane_on_a_box():
    size = (64, 64, 8)
    boxes = {0: Box("image", "image"), **{n: Box("module", f"m{n}", "1×1", size) for n in range(1, 7)}}
    boxes[7] = Box("output", "logits")
    edges = [(0, 1), (1, 2), (1, 3), (1, 4), (2, 5), (3, 5), (1, 6), (5, 6), (4, 6), (6, 7)]
    layout = lay_out(Graph(boxes, dict.fromkeys(edges, False)))
    spots = [(place.column, place.row, place.track) for place in layout.places.values()]
    assert len(set(spots)) == len(spots)
    assert {layout.places[n].column for n in (2, 3, 4)} == {layout.places[1].column + 1}
    for n, track in layout.lanes.items():
        here = layout.places[n]
        last = max(layout.places[b].column for a, b in edges if a == n)
        assert not {(column, here.row, track) for column in range(here.column + 1, last)} & set(spots)
    assert 1 in layout.lanes, "from m1 to m6, past m2 and m5"
    with pytest.raises(ValueError, match="look at each other: \\['m1', 'm2'\\]"):
        lay_out(Graph({1: boxes[1], 2: boxes[2]}, {(1, 2): False, (2, 1): False}))


def test_every_model_has_a_picture_and_every_encoder_a_row():
    page = (DOCS / "architectures.md").read_text()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(jaxseg.MODELS), "run python -m docs.make.figure"
    for name in jaxseg.MODELS:
        picture = ElementTree.parse(DOCS / "pictures" / "models" / f"{name}.svg").getroot()
        assert "logits" in {node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")}
        assert f"(pictures/models/{name}.svg)" in page
    encoders = (DOCS / "encoders.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", encoders, re.MULTILINE) == list(jaxseg.ENCODERS), (
        "run python -m docs.make.figure"
    )
    assert "| `resnet18` | 64 | 64 | 128 | 256 | 512 | 11,176,512 |" in encoders


def test_parts_side_by_side_are_shown_and_a_chain_is_a_box():
    class Parts(nn.Module):
        parallel: bool

        @nn.compact
        def __call__(self, x):
            y = nn.Conv(2, (1, 1), name="first")(x)
            z = nn.Conv(2, (3, 3), name="second")(x if self.parallel else y)
            return y + z if self.parallel else z

    class Both(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            x = Parts(parallel=False, name="chain")(image)
            return {"logits": nn.Conv(2, (1, 1), name="last")(Parts(parallel=True, name="fork")(x))}

    class Chains(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            return {"logits": Parts(parallel=False, name="b")(Parts(parallel=False, name="a")(image))}

    assert {box.title for box in open_parts(trace(Chains())).boxes.values()} == {"image", "a", "b", "logits"}
    shown = {box.title: box for box in open_parts(trace(Both())).boxes.values()}
    assert {"first", "second", "last"} <= set(shown)
    assert shown["last"].joins == "+"


def test_meeting_places_of_one_kind_are_joined():
    class Sum(nn.Module):
        @nn.compact
        def __call__(self, image, *, train):
            a, b, c = (nn.Conv(2, (1, 1), name=name)(image) for name in "abc")
            return {"logits": nn.Conv(2, (1, 1), name="last")(jnp.concatenate([a + b + c, image], -1))}

    assert set(titles(open_parts(trace(Sum())))) == {
        ("image", "a"),
        ("image", "b"),
        ("image", "c"),
        ("a", "+"),
        ("b", "+"),
        ("c", "+"),
        ("+", "last"),  # the concatenation is a sign on its box
        ("image", "last"),
        ("last", "logits"),
    }
