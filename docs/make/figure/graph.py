"""What a model computes, as a graph: boxes are modules, levels of an encoder, and places where several arrays meet.

The model is traced, never run. While it is traced, every call of a module opens a scope with a number, so that each
equation of the jaxpr says inside of which calls it stands. Equations of a module that is shown as one box belong to the
box; what its parents compute between boxes (resizing, adding, concatenating) becomes edges and meeting places.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from flax import linen as nn

from docs.make.figure.trace import SIZE, Traced

MEETINGS = {"add": "+", "add_any": "+", "concatenate": "‖", "mul": "×", "dot_general": "×", "max": "max", "sub": "−"}


@dataclass
class Box:
    """A node of the picture.

    Args:
      kind: "image", "level", "module", "meeting" or "output".
      title: what it is.
      detail: a second line.
      shape: of what leaves it, (height, width, channels).
      calls: of a module, the numbers of the calls in it, its own first; of a level, the encoder's.
      joins: how a module's inputs meet before it looks at them, "+", "‖" (side by side) or "×"; "" for a single input.
    """

    kind: str
    title: str
    detail: str = ""
    shape: tuple[int, int, int] = (SIZE, SIZE, 3)
    calls: list[int] = field(default_factory=list)
    joins: str = ""


@dataclass
class Graph:
    """Boxes, and edges: (from, to) -> whether what goes along was resized on its way."""

    boxes: dict[int, Box] = field(default_factory=dict)
    edges: dict[tuple[int, int], bool] = field(default_factory=dict)

    def into(self, box: int) -> list[int]:
        """The boxes that a box looks at."""
        return [a for a, b in self.edges if b == box]

    def out_of(self, box: int) -> list[int]:
        """The boxes that look at a box."""
        return [b for a, b in self.edges if a == box]


class Tracer:
    """Makes the graph of a traced model, for a choice of modules that are opened."""

    def __init__(self, traced: Traced):
        self.calls, self.jaxpr, self.outputs = traced.calls, traced.jaxpr, traced.outputs
        self.scopes = [_numbers(equation) for equation in self.jaxpr.eqns]
        self.inside: dict[int, list[int]] = {call.number: [call.number] for call in self.calls}
        for call in self.calls:
            for parent in call.parents:
                self.inside[parent].append(call.number)
        self.level_of = self._levels()
        # Calls that have parameters; what has none, such as a pooling, is between boxes.
        self.learned = {call.number for call in self.calls if call.path in traced.learned}
        self.together: dict[
            int, tuple[int, str]
        ] = {}  # call -> the first call of the box that it is shown in, and its title

    def _levels(self) -> dict[int, str]:
        """Equation of an encoder -> the first level that it leads to."""
        found: dict[int, str] = {}
        for encoder in (call.number for call in self.calls if call.levels):
            inside = [i for i, scope in enumerate(self.scopes) if encoder in scope]
            made_by = {v: i for i in inside for v in self.jaxpr.eqns[i].outvars}
            marks = [i for i in inside if self.jaxpr.eqns[i].primitive.name == "name" and self.scopes[i][-1] == encoder]
            for mark in sorted(marks, key=lambda i: self.jaxpr.eqns[i].params["name"]):
                todo = [mark]
                while todo:
                    i = todo.pop()
                    if i not in found:
                        found[i] = self.jaxpr.eqns[mark].params["name"]
                        todo += [made_by[v] for v in self.jaxpr.eqns[i].invars if _is_var(v) and v in made_by]
        return found

    def owner(self, i: int, opened: set[int]) -> tuple[int, str] | None:
        """The box that an equation belongs to, as a call and a level or the stem of a name; None between boxes."""
        for number in self.scopes[i]:
            if self.calls[number].levels:
                return (number, self.level_of[i]) if i in self.level_of else None
            if number not in opened and number in self.learned:
                return self.together.get(number, (number, ""))
        return None

    def put_together(self, opened: set[int]) -> None:
        """Lets parts of opened modules be one box where their names are alike up to the last _: a_conv and a_norm."""
        first: dict[tuple[int, ...], tuple[int, str]] = {}
        for call in self.calls:
            if call.parents and set(call.parents) <= opened and "_" in call.path[-1]:
                stem = call.path[-1].rpartition("_")[0]
                self.together[call.number] = first.setdefault((*call.parents, stem), (call.number, stem))

    def graph(self, opened: set[int]) -> Graph:
        """Returns the graph; modules of `opened` are not boxes themselves, but their parts are."""
        graph, numbers = Graph({0: Box("image", "image")}), {}
        image = self.jaxpr.invars[-1]
        # variable -> the boxes that it comes from; those that come from parameters alone are not in it.
        sources: dict[Any, frozenset[int]] = {image: frozenset([0])}
        for i, equation in enumerate(self.jaxpr.eqns):
            reads = [v for v in equation.invars if _is_var(v) and v in sources]
            if not reads:
                continue
            owner = self.owner(i, opened)
            if owner is not None:
                box = numbers.setdefault(owner, len(graph.boxes))
                if box not in graph.boxes:
                    graph.boxes[box] = self._box(owner)
                for v in reads:
                    _connect(graph, sources[v] - {box}, box, v)
                made = frozenset([box])
            else:
                made = self._between(graph, equation, reads, sources)
            for v in equation.outvars:
                sources[v] = made
                self._note_shape(graph, made, v, owner)
        for name, v in zip(self.outputs, self.jaxpr.outvars, strict=True):
            box = len(graph.boxes)
            graph.boxes[box] = Box("output", name, shape=_shape(v) or (SIZE, SIZE, 0))
            _connect(graph, sources[v], box, v)
        return _without_loose(graph)

    def _between(self, graph: Graph, equation: Any, reads: list[Any], sources: dict) -> frozenset[int]:
        """What an equation between boxes makes: what it reads, or a meeting place of what it reads."""
        kinds = list(dict.fromkeys(sources[v] for v in reads))
        if len(kinds) == 1:
            return kinds[0]
        box = len(graph.boxes)
        symbol = MEETINGS.get(equation.primitive.name, MEETINGS.get(str(equation.params.get("name")), "•"))
        known = [graph.boxes[a].shape for v in reads for a in sources[v]]
        shape = _shape(equation.outvars[0]) or max(known)
        graph.boxes[box] = Box("meeting", symbol, shape=shape)
        for v in reads:
            _connect(graph, sources[v], box, v)
        return frozenset([box])

    def _note_shape(self, graph: Graph, made: frozenset[int], v: Any, owner: Any) -> None:
        if owner is not None and len(v.aval.shape) in (2, 4):
            for box in made:
                graph.boxes[box].shape = _shape(v) or graph.boxes[box].shape

    def _box(self, owner: tuple[int, str]) -> Box:
        call, title = self.calls[owner[0]], owner[1]
        if call.levels:
            used = {n for i, scope in enumerate(self.scopes) if self.level_of.get(i) == title for n in scope}
            count = len(self._kernels([n for n in self.inside[call.number] if n in used]))
            return Box("level", title, _count(count) if count else "pooling", calls=[call.number])
        heads = [n for n, other in self.together.items() if other == owner] or [call.number]
        inside = [n for head in heads for n in self.inside[head]]
        kernels = self._kernels(inside)
        detail = ", ".join(kernels) if len(kernels) <= 2 else _count(len(kernels))
        name = call.path[-1] if call.path else type(call.module).__name__
        return Box("module", title or name, detail or type(call.module).__name__.strip("_"), calls=inside)

    def stages(self, number: int) -> int:
        """How many of the parts of a call have several convolutions."""
        parts = [call.number for call in self.calls if call.parents[-1:] == (number,)]
        return sum(len(self._kernels(self.inside[part])) > 1 for part in parts)

    def _kernels(self, numbers: list[int]) -> list[str]:
        """The convolutions among calls: size, and where they are not 1 stride (/) and dilation (dil)."""
        sized = [n for n in numbers if hasattr(self.calls[n].module, "kernel_size")]
        linear = ["linear" for n in numbers if isinstance(self.calls[n].module, nn.Dense)]
        around = {parent for n in sized for parent in self.calls[n].parents}
        found = []
        for module in (self.calls[n].module for n in sized if n not in around):
            sides = _pair(module.kernel_size)
            text = f"{sides[0]}×{sides[1]}" if len(sides) == 2 else f"{sides[0]}"
            for names, mark in ((("stride", "strides"), "/"), (("dilation", "kernel_dilation"), " dilation ")):
                value = max(max(_pair(getattr(module, name, None) or 1)) for name in names)
                text += f"{mark}{value}" if value > 1 else ""
            found.append(text)
        return found + linear


def _count(convolutions: int) -> str:
    return f"{convolutions} convolution{'s' if convolutions != 1 else ''}"


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _connect(graph: Graph, boxes: Iterable[int], to: int, v: Any) -> None:
    for box in boxes:
        shape = _shape(v)
        resized = shape is not None and graph.boxes[box].shape[:2] != shape[:2]
        graph.edges[box, to] = graph.edges.get((box, to), False) or resized


def _numbers(equation: Any) -> tuple[int, ...]:
    stack = str(equation.source_info.name_stack).split("/")
    return tuple(int(name[1:]) for name in stack if name.startswith("@"))


def _is_var(v: Any) -> bool:
    return isinstance(v, jax.extend.core.Var)


def _shape(v: Any) -> tuple[int, int, int] | None:
    """Height, width and channels of [b, h, w, c], [b, h * w, c] of a square, or [b, c]; None of another array."""
    shape = v.aval.shape
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    if len(shape) == 3 and math.isqrt(shape[1]) ** 2 == shape[1]:
        return math.isqrt(shape[1]), math.isqrt(shape[1]), shape[2]
    return (1, 1, shape[1]) if len(shape) == 2 else None


def _without_loose(graph: Graph) -> Graph:
    """Leaves out what leads to no output, and joins meeting places with each other and with the box behind them."""
    keep, todo = set(), [n for n, box in graph.boxes.items() if box.kind == "output"]
    while todo:
        box = todo.pop()
        if box not in keep:
            keep.add(box)
            todo += graph.into(box)
    graph = Graph(
        {n: graph.boxes[n] for n in sorted(keep)},
        {e: r for e, r in graph.edges.items() if e[0] in keep and e[1] in keep},
    )
    for n in [n for n, box in graph.boxes.items() if box.kind == "meeting"]:
        around = [b for b in graph.out_of(n) if b in graph.into(n)]  # it is between parts of one box
        if around:
            _absorb(graph, n, around[0])
    for n in [n for n, box in graph.boxes.items() if box.kind == "meeting"]:
        box, after = graph.boxes[n], graph.out_of(n)
        if len(after) == 1:
            other = graph.boxes[after[0]]
            same_place = other.shape[:2] == box.shape[:2] or not graph.edges[n, after[0]]
            if other.kind == "meeting" and other.title == box.title and same_place:
                _absorb(graph, n, after[0])
            elif other.kind == "module" and graph.into(after[0]) == [n] and same_place:
                _absorb(graph, n, after[0])
                other.joins = box.title
    return graph


def _absorb(graph: Graph, box: int, into: int) -> None:
    """Makes a box part of another."""
    for (a, b), resized in list(graph.edges.items()):
        if box in (a, b):
            del graph.edges[a, b]
            edge = (into if a == box else a, into if b == box else b)
            if edge[0] != edge[1]:
                graph.edges[edge] = graph.edges.get(edge, False) or resized
    del graph.boxes[box]
