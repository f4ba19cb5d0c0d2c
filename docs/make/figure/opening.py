"""Which modules of a model are boxes of its picture, and which are opened, so that their parts are."""

from docs.make.figure.graph import Graph, Tracer
from docs.make.figure.trace import Traced

MOST, FEW = 40, 24  # boxes, see `open_parts`


def open_parts(traced: Traced, *, together: bool = False, most: int = MOST, few: int = FEW) -> Graph:
    """Returns the graph in which modules are opened as far as it tells something.

    Opened are modules in which data goes through parts side by side, all of a class or none, and, where the picture
    stays small, those whose parts are several stages of several convolutions.

    Args:
      traced: the model.
      together: parts whose names are alike up to the last _ become one box, as they do where there are too many.
      most: boxes that a picture may have.
      few: boxes that it may have where modules are opened that have no parallel parts.
    """
    tracer = Tracer(traced)
    halves = [call for call in tracer.calls if call.path in (("encoder",), ("decoder",)) and not call.levels]
    opened = {0} | {call.number for call in halves if len(tracer.inside[call.number]) > 2}
    if together or len(tracer.graph(opened).boxes) > most:
        tracer.put_together(opened)
    graph, closed = tracer.graph(opened), set()
    while found := _openable(tracer, graph, opened | closed):
        for numbers in found:
            tried, inside = tracer.graph(opened | numbers), [set(tracer.inside[n]) for n in numbers]
            parallel = any(_side_by_side(tried, calls) for calls in inside) and len(tried.boxes) <= most
            if parallel or (len(tried.boxes) <= few and any(tracer.stages(n) > 1 for n in numbers)):
                opened, graph = opened | numbers, tried
                break
            closed |= numbers
    return graph


def _openable(tracer: Tracer, graph: Graph, done: set[int]) -> list[set[int]]:
    """The modules of a graph that have parts and were not tried, by their class."""
    kinds: dict[type, set[int]] = {}
    for box in graph.boxes.values():
        if box.kind == "module" and len(box.calls) > 2 and box.calls[0] not in tracer.together:
            kinds.setdefault(type(tracer.calls[box.calls[0]].module), set()).add(box.calls[0])
    return [numbers for numbers in kinds.values() if not numbers & done]


def _side_by_side(graph: Graph, calls: set[int]) -> bool:
    """Whether two boxes among those of `calls` do not see each other."""
    boxes = [n for n, box in graph.boxes.items() if box.kind == "module" and box.calls[0] in calls]
    after: dict[int, set[int]] = {}
    for n in sorted(graph.boxes, reverse=True):
        after[n] = set().union(*({b} | after.get(b, set()) for b in graph.out_of(n)))
    return any(a not in after[b] and b not in after[a] for a in boxes for b in boxes if a != b)
