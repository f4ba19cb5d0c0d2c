"""A graph of ONNX that grows node by node."""

import ast
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Var

OPSET, IR_VERSION = 18, 8  # of 2022: what reads ONNX reads these
Shape = Sequence[Any]  # whole numbers, and JAX's symbols
Value = np.ndarray | str  # a constant, or the name of a result


class Graph:
    """The nodes of an ONNX graph, and the values of a program's variables in it.

    A value may still lack what a broadcast adds: it then has ones where its variable has a longer side, as operations
    element by element take it. `name` makes it whole.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.arrays: dict[str, np.ndarray] = {}  # the initializers
        self.turned: dict[str, tuple[str, tuple[int, ...]]] = {}  # result -> what was transposed, and how
        self._values: dict[Var, Value] = {}
        self._shapes: dict[str, tuple[Any, ...]] = {}  # of the results, as they are in the graph
        self._known: dict[Any, str] = {}  # arrays and nodes that are there already
        self._lengths: dict[str, str] = {}  # symbol -> the name of its value, int64[1]

    def add_input(self, var: Var, name: str) -> None:
        """Makes a variable an input of the graph; the symbols in its shape can then be used."""
        self._values[var], self._shapes[name] = name, var.aval.shape
        for axis, length in enumerate(var.aval.shape):
            if not isinstance(length, int) and str(length) not in self._lengths:
                shape = self.node("Shape", [name], start=axis, end=axis + 1)
                self._lengths[str(length)] = shape

    def bind(self, var: Var, value: Value, shape: Shape | None = None) -> None:
        """Says which value a variable has; `shape` is the one that it has in the graph, if it is to be broadcast."""
        self._values[var] = value
        if isinstance(value, str):
            self._shapes[value] = tuple(var.aval.shape if shape is None else shape)

    def value(self, atom: Var | Literal) -> Value:
        """Returns the value of an operand, which may still be to broadcast."""
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else self._values[atom]

    def shape(self, atom: Var | Literal) -> tuple[Any, ...]:
        """Returns the shape that an operand has in the graph."""
        value = self.value(atom)
        return self._shapes[value] if isinstance(value, str) else value.shape

    def loose(self, atom: Var | Literal) -> str:
        """Returns the name of an operand, which may still be to broadcast."""
        value = self.value(atom)
        return value if isinstance(value, str) else self.array(value)

    def name(self, atom: Var | Literal) -> str:
        """Returns the name of an operand, of its full shape."""
        found, wanted = self.loose(atom), tuple(atom.aval.shape)
        if self.shape(atom) == wanted:
            return found
        whole = self.node("Expand", [found, self.lengths(wanted)])
        if not isinstance(atom, Literal):
            self.bind(atom, whole)
        return whole

    def array(self, value: Any) -> str:
        """Returns the name of a constant."""
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = f"constant_{len(self.arrays)}"
            self.arrays[self._known[key]] = value
        return self._known[key]

    def integers(self, *values: int) -> str:
        """Returns the name of a constant, int64[n]."""
        return self.array(np.array(values, np.int64))

    def node(self, operator: str, inputs: Sequence[str], *, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node and returns the name of its result, or a list of them; one that is there is used again."""
        from onnx import helper

        key = (operator, tuple(inputs), outputs, repr(sorted(attributes.items())))
        if key not in self._known:
            names = [f"{operator.lower()}_{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
            self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
            self._known[key] = names
        names = self._known[key]
        return names if outputs > 1 else names[0]

    def permute(self, name: str, order: Sequence[int]) -> str:
        """Returns the name of values whose axes are in another order; what was turned before is turned once."""
        while name in self.turned:
            name, before = self.turned[name]
            order = [before[axis] for axis in order]
        if list(order) == sorted(order):
            return name
        if name in self.arrays:
            return self.array(np.ascontiguousarray(self.arrays[name].transpose(order)))
        found = self.node("Transpose", [name], perm=list(order))
        self.turned[found] = name, tuple(order)
        return found

    def before_turning(self, names: Sequence[str], shapes: Sequence[Shape]) -> tuple[list[str], tuple[int, ...] | None]:
        """Returns the names of operands as they were before all were transposed alike, and that order of the axes.

        A convolution puts the channels first and its result's last, and what is done element by element is the same
        before the latter: then nothing is transposed between two convolutions. Where operands differ, the names are
        those given, and there is no order.
        """
        orders = {self.turned[name][1] for name in names if name in self.turned}
        if len(orders) != 1:
            return list(names), None
        (order,) = orders
        back, found = np.argsort(order).tolist(), []
        for name, shape in zip(names, shapes, strict=True):
            if name in self.turned:
                found.append(self.turned[name][0])
            elif not shape:
                found.append(name)
            elif len(shape) == len(order) and (name in self.arrays or list(shape[1:-1]) == [1] * (len(shape) - 2)):
                found.append(self.permute(name, back))
            else:
                return list(names), None
        return found, order

    def cast(self, name: str, dtype: Any) -> str:
        """Returns the name of values turned into another type."""
        from onnx import helper

        return self.node("Cast", [name], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, name: str, shape: Shape) -> str:
        """Returns the name of values in another shape, of which one side may be a symbol."""
        return self.node("Reshape", [name, self.lengths(shape, one_unknown=True)], allowzero=1)

    def lengths(self, shape: Shape, *, one_unknown: bool = False) -> str:
        """Returns the name of a shape, int64[n].

        Args:
          shape: of whole numbers and symbols.
          one_unknown: whether -1 may stand for the only symbol.
        """
        symbols = [n for n in shape if not isinstance(n, int)]
        if not symbols:
            return self.integers(*shape)
        if one_unknown and len(symbols) == 1 and 0 not in shape:
            return self.integers(*(n if isinstance(n, int) else -1 for n in shape))
        return self.node("Concat", [self.length(n) for n in shape], axis=0)

    def length(self, expression: Any) -> str:
        """Returns the name of a length, int64[1]: of a number, a symbol, or what JAX has computed of symbols."""
        if isinstance(expression, int):
            return self.integers(expression)
        return self._computed(ast.parse(str(expression), mode="eval").body)

    def _computed(self, tree: ast.AST) -> str:
        if isinstance(tree, ast.Constant):
            return self.integers(tree.value)
        if isinstance(tree, ast.Name):
            return self._lengths[tree.id]
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return self.node("Neg", [self._computed(tree.operand)])
        if isinstance(tree, ast.BinOp):
            operators = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
            return self.node(operators[type(tree.op)], [self._computed(tree.left), self._computed(tree.right)])
        if isinstance(tree, ast.Call):  # whose operands are lengths: not negative
            operators = {"floordiv": "Div", "mod": "Mod", "max": "Max", "min": "Min"}
            return self.node(operators[tree.func.id], list(map(self._computed, tree.args)))
        raise NotImplementedError(f"a length {ast.unparse(tree)}")

    def model(self, image: Var, given: str, result: Var, returned: str) -> Any:
        """Returns the graph as an `onnx.ModelProto`.

        Args:
          image: the input of the program.
          given: its name.
          result: the program's result.
          returned: its name.
        """
        from onnx import helper, numpy_helper

        last = helper.make_node("Identity", [self.name(result)], [returned])
        nodes = _read(self.nodes, last)
        ends = [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(np.dtype(var.aval.dtype)),
                [n if isinstance(n, int) else str(n) for n in var.aval.shape],
            )
            for name, var in ((given, image), (returned, result))
        ]
        arrays = [
            numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in self._used(nodes).items()
        ]
        graph = helper.make_graph(nodes, "jaxseg", ends[:1], ends[1:], arrays)
        return helper.make_model(
            graph, producer_name="jaxseg", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )

    def _used(self, nodes: list[Any]) -> dict[str, np.ndarray]:
        """The constants that some node reads."""
        read = {name for node in nodes for name in node.input}
        return {name: value for name, value in self.arrays.items() if name in read}


def _read(nodes: list[Any], last: Any) -> list[Any]:
    """The nodes, in order, whose results are read on the way to the last one, and that one."""
    read, kept = set(last.input), [last]
    for node in reversed(nodes):
        if read & set(node.output):
            read |= set(node.input)
            kept.append(node)
    return kept[::-1]


def product(shape: Shape) -> Any:
    """Returns the number of elements of a shape, 1 of no sides."""
    return math.prod(shape)


def is_float(dtype: Any) -> bool:
    """Returns whether numbers of a type have fractions."""
    return jnp.issubdtype(dtype, jnp.floating)
