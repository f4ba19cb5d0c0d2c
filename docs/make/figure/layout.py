"""Where the boxes of a picture are: rows are sizes of feature maps, columns are the order of computing.

An encoder is a column of its levels. An edge that goes past other boxes has a lane in the row of the box it comes from.
"""

import math
from dataclasses import dataclass, field

from docs.make.figure.graph import Box, Graph
from docs.make.figure.trace import SIZE

BOX, LANE, ROUND = 40, 14, 24  # heights of a box and of a lane, and across a meeting place, in pixels
PAD, GAP, LEFT, TOP = 10, 46, 84, 14  # between tracks, between columns, for the rows' names, above the first row


@dataclass
class Place:
    """Where a box is: its column, its row, its track of the row, and its rectangle in pixels."""

    column: int
    row: int
    track: int = 0
    x: float = 0.0
    y: float = 0.0  # of the middle
    width: float = 0.0
    height: float = 0.0


@dataclass
class Row:
    """A row: its boxes' name, and its tracks, each with the columns that are taken; where it is in pixels."""

    name: tuple[str, str]
    tracks: list[set[int]] = field(default_factory=list)
    has_box: list[bool] = field(default_factory=list)
    middles: list[float] = field(default_factory=list)
    top: float = 0.0
    bottom: float = 0.0


@dataclass
class Layout:
    """Places of boxes, rows, lanes of boxes whose edges are long (a track), columns (left, right), and the size."""

    places: dict[int, Place]
    rows: list[Row]
    lanes: dict[int, int]
    columns: list[tuple[float, float]]
    width: float
    height: float


def lay_out(graph: Graph) -> Layout:
    """Returns where everything is."""
    scales = sorted({scale(box) for box in graph.boxes.values()})
    order = _order(graph)
    places = _columns(graph, order, {n: scales.index(scale(box)) for n, box in graph.boxes.items()})
    rows = [Row(_name([box for box in graph.boxes.values() if scale(box) == s], s)) for s in scales]
    for n in sorted(order, key=lambda n: _side(graph, places, n)):
        place = places[n]
        place.track = _take(rows[place.row], range(place.column, place.column + 1), box=True)
    lanes = {}
    for n in order:
        last = max((places[b].column for b in graph.out_of(n)), default=0)
        span = range(places[n].column + 1, last)
        if span:
            lanes[n] = _take(rows[places[n].row], span, first=places[n].track)
    return _measure(graph, places, rows, lanes)


def _side(graph: Graph, places: dict[int, Place], n: int) -> int:
    """-1 if a box has a neighbor right above it in its column, 1 if below it, so that it is put on that side."""
    here = places[n]
    rows = [places[m].row for m in (*graph.into(n), *graph.out_of(n)) if places[m].column == here.column]
    if graph.boxes[n].kind == "level":
        return 0
    return sum((row > here.row) - (row < here.row) for row in rows)


def scale(box: Box) -> int:
    """How often the image's size was halved, about."""
    return round(math.log2(SIZE / box.shape[0]))


def width(box: Box) -> float:
    """Of a box with its text, in pixels."""
    if box.kind == "meeting":
        return ROUND
    return max(58.0, 7.2 * len(box.title) + 18, 5.7 * len(second(box)) + 18)


def second(box: Box) -> str:
    """The second line of a box: what it computes, and how many channels leave it."""
    height, width_, channels = box.shape
    if box.kind in ("image", "output"):
        return f"{height}×{width_}×{channels}"
    return f"{box.detail} → {channels}"


def _order(graph: Graph) -> list[int]:
    """The boxes, each after all that it looks at."""
    order: list[int] = []
    while len(order) < len(graph.boxes):
        ready = [n for n in graph.boxes if n not in order and all(a in order for a in graph.into(n))]
        if not ready:
            raise ValueError(
                f"these boxes look at each other: {[graph.boxes[n].title for n in graph.boxes if n not in order]}"
            )
        order.append(min(ready))
    return order


def _columns(graph: Graph, order: list[int], rows: dict[int, int]) -> dict[int, Place]:
    encoders = list(dict.fromkeys(box.calls[0] for box in graph.boxes.values() if box.kind == "level"))
    places: dict[int, Place] = {}
    taken: set[tuple[int, int]] = set()
    for n in order:
        box, column = graph.boxes[n], 0
        if box.kind == "level":
            column = encoders.index(box.calls[0])
        else:
            for a in graph.into(n):
                column = max(column, _column_after(graph.boxes[a], places[a], rows[n], taken))
        places[n] = Place(column, rows[n])
        taken.add((rows[n], column))
    return places


def _column_after(box: Box, place: Place, row: int, taken: set[tuple[int, int]]) -> int:
    """The first column for a box of `row` that looks at another: the same one, if it is right above or below it."""
    below = abs(place.row - row) == 1 and box.kind not in ("level",) and (row, place.column) not in taken
    return place.column + (0 if below else 1)


def _name(boxes: list[Box], halvings: int) -> tuple[str, str]:
    sizes = {box.shape[:2] for box in boxes}
    share = "1" if halvings == 0 else f"1/{2**halvings}" if halvings > 0 else f"{2**-halvings}"
    if len(sizes) > 1:
        return share, "about"
    ((height, width_),) = sizes
    exact = height * 2**halvings == SIZE and height > 8
    return (share, f"{height}×{width_}") if exact else (f"{height}×{width_}", "")


def _take(row: Row, span: range, *, box: bool = False, first: int = 0) -> int:
    """Takes columns of the first track of a row where they are free, preferring `first`; returns the track."""
    for track in sorted(range(len(row.tracks)), key=lambda t: (t != first, t)):
        if not row.tracks[track] & set(span):
            break
    else:
        track = len(row.tracks)
        row.tracks.append(set())
        row.has_box.append(False)
    row.tracks[track] |= set(span)
    row.has_box[track] = row.has_box[track] or box
    return track


def _measure(graph: Graph, places: dict[int, Place], rows: list[Row], lanes: dict[int, int]) -> Layout:
    y: float = TOP
    for row in rows:
        row.top = y
        y += PAD
        for has_box in row.has_box:
            height = BOX if has_box else LANE
            row.middles.append(y + height / 2)
            y += height + PAD
        row.bottom = y
    x: float = LEFT
    columns = []
    for column in range(1 + max(place.column for place in places.values())):
        here = [n for n, place in places.items() if place.column == column]
        wide = max((width(graph.boxes[n]) for n in here), default=0)
        columns.append((x, x + wide))
        for n in here:
            place, box = places[n], graph.boxes[n]
            place.width, place.height = width(box), ROUND if box.kind == "meeting" else BOX
            place.x, place.y = x + (wide - place.width) / 2, rows[place.row].middles[place.track]
        x += wide + GAP
    return Layout(places, rows, lanes, columns, x - GAP + PAD, y + TOP)
