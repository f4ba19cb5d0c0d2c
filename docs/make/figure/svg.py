"""Draws a laid out graph as SVG: text stays text, and the colors can be read on white and on black."""

from html import escape

from docs.make.figure.graph import Box, Graph
from docs.make.figure.layout import GAP, Layout, Place, lay_out, second

FILLS = {"image": "#ffe3ad", "level": "#c9dcff", "module": "#cdeed4", "output": "#ffe3ad", "meeting": "#e6e6ea"}
EDGES = {"image": "#b98a2a", "level": "#5577c2", "module": "#4d9a62", "output": "#b98a2a", "meeting": "#808590"}
STYLE = """
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle; }
.t { font-size: 12px; font-weight: 600; fill: #16181c; } .d { font-size: 10px; fill: #3a3f47; }
.m { font-size: 13px; font-weight: 600; fill: #16181c; }
.r { font-size: 12px; fill: #7d8590; text-anchor: end; font-weight: 600; }
.s { font-size: 10px; fill: #7d8590; text-anchor: end; }
.e { fill: none; stroke: #7d8590; stroke-width: 1.4; }
.z { stroke-dasharray: 5 3; } .l { stroke: #7d8590; opacity: .25; }
"""


def draw(graph: Graph, title: str) -> str:
    """Returns the picture of a graph as the text of an SVG file."""
    layout = lay_out(graph)
    width, height = round(layout.width), round(layout.height)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#7d8590"/></marker></defs>',
    ]
    for row in layout.rows:
        middle = (row.top + row.bottom) / 2
        first, below = row.name
        parts.append(f'<text class="r" x="60" y="{middle + (0 if below else 4):.0f}">{first}</text>')
        if below:
            parts.append(f'<text class="s" x="60" y="{middle + 13:.0f}">{below}</text>')
        if row is not layout.rows[0]:
            parts.append(f'<path class="l" d="M8 {row.top:.0f}H{width - 8}"/>')
    parts += [_edge(layout, graph, a, b, resized) for (a, b), resized in graph.edges.items()]
    parts += [_box(box, layout.places[n]) for n, box in graph.boxes.items()]
    return "\n".join([*parts, "</svg>", ""])


def _box(box: Box, place: Place) -> str:
    x, y, middle = place.x, place.y - place.height / 2, place.x + place.width / 2
    paint = f'fill="{FILLS[box.kind]}" stroke="{EDGES[box.kind]}"'
    if box.kind == "meeting":
        size = ' style="font-size:9px"' if len(box.title) > 1 else ""
        circle = f'<circle cx="{middle:.1f}" cy="{place.y:.1f}" r="{place.height / 2}" {paint}/>'
        return f'{circle}<text class="m" x="{middle:.1f}" y="{place.y + 4.5:.1f}"{size}>{box.title}</text>'
    rounded = 9 if box.kind in ("image", "output") else 5
    drawn = (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{place.width:.1f}" height="{place.height}" rx="{rounded}" {paint}/>'
        f'<text class="t" x="{middle:.1f}" y="{y + 17:.1f}">{escape(box.title)}</text>'
        f'<text class="d" x="{middle:.1f}" y="{y + 31:.1f}">{escape(second(box))}</text>'
    )
    if box.joins:
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="{FILLS["meeting"]}" stroke="{EDGES["meeting"]}"/>'
        drawn += f'<text class="d" x="{x:.1f}" y="{y + 3.5:.1f}" style="font-weight:700">{box.joins}</text>'
    return drawn


def _edge(layout: Layout, graph: Graph, a: int, b: int, resized: bool) -> str:
    start, end = layout.places[a], layout.places[b]
    kind = "e z" if resized else "e"
    if start.column == end.column:
        path = _vertical(layout, start, end)
    else:
        path = _forward(layout, a, start, end)
    return f'<path class="{kind}" d="{path}" marker-end="url(#a)"/>'


def _vertical(layout: Layout, start: Place, end: Place) -> str:
    x, down = start.x + start.width / 2, end.y > start.y
    between = [
        p for p in layout.places.values()
        if p.column == start.column and min(start.y, end.y) < p.y < max(start.y, end.y)
    ]  # fmt: skip
    if between:  # around them, on the right
        right, bend = max(p.x + p.width for p in (*between, start, end)), GAP * 0.6
        from_x, to_x = start.x + start.width, end.x + end.width
        curve = f"{right + bend:.1f} {start.y:.1f} {right + bend:.1f} {end.y:.1f} {to_x:.1f} {end.y:.1f}"
        return f"M{from_x:.1f} {start.y:.1f}C{curve}"
    sign = 1 if down else -1
    return f"M{x:.1f} {start.y + sign * start.height / 2:.1f}V{end.y - sign * end.height / 2:.1f}"


def _forward(layout: Layout, a: int, start: Place, end: Place) -> str:
    """To the right: through the gap behind the box, along its lane, and through the gap before the other."""
    x, y = start.x + start.width, start.y
    path = f"M{x:.1f} {y:.1f}"
    last = layout.columns[end.column - 1][1]
    if end.column - start.column > 1:
        lane = layout.rows[start.row].middles[layout.lanes[a]]
        here = layout.columns[start.column][1]
        path += f"H{here:.1f}" + _curve(here, y, here + GAP, lane) + f"H{last:.1f}"
        x, y = last, lane
    else:
        path += f"H{last:.1f}"
    inside = layout.columns[end.column][0]
    return path + _curve(last, y, inside, end.y) + f"H{end.x:.1f}"


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    if abs(y - to_y) < 0.5:
        return f"H{to_x:.1f}"
    half = (x + to_x) / 2
    return f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
