"""What a compiled GPU program does, read from the text of its optimized HLO: kernels, bytes, convolutions.

Bytes are those of every kernel's operands and results, once each. A slice counts its whole operand, so that gradients
of concatenations are overstated; a loop counts once. No figure here is a time.
"""

import collections
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SMALL = 2_000_000  # bytes; a kernel that touches fewer takes as long as its launch
BYTES = {"pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
NO_KERNEL = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"}
SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")
LINE = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")


@dataclass(frozen=True)
class Kernel:
    """A kernel of a program, or a call of a library."""

    name: str
    op: str  # of HLO, e.g. "fusion"
    target: str  # of a call of a library, e.g. "__cudnn$convForward"; else ""
    source: str  # the operation of JAX that it comes from, with the module's path
    result: str  # shapes
    operands: tuple[str, ...]  # shapes
    attributes: str  # what follows the operands

    @property
    def bytes(self) -> int:
        return count_bytes(self.result) + sum(map(count_bytes, self.operands))

    @property
    def convolution(self) -> str:
        """What convolves: "Forward", "BackwardInput", "BackwardFilter" or ""; a fused one is "Forward"."""
        found = re.search(r"conv(?:BiasActivation)?(Forward|BackwardInput|BackwardFilter)", self.target)
        return found[1] if found else ""


@dataclass(frozen=True)
class Reading:
    """What a program is."""

    kernels: tuple[Kernel, ...]
    transposed: tuple[str, ...]  # activations that are transposed, as "shape <- shape"

    @property
    def bytes(self) -> int:
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def small(self) -> int:
        return sum(kernel.bytes < SMALL for kernel in self.kernels)

    @property
    def convolution_flops(self) -> int:
        return sum(map(flops, self.kernels))

    def convolutions(self) -> dict[str, int]:
        """Returns how many convolutions are of each kind, dtype and layout ("Forward bf16 b01f_o01i->b01f")."""
        found: collections.Counter[str] = collections.Counter()
        for kernel in self.kernels:
            if kernel.convolution:
                layout = re.search(r"dim_labels=([^\s,]+)", kernel.attributes)
                dtype = SHAPE.findall(kernel.operands[0])[0][0]
                found[f"{kernel.convolution} {dtype} {layout[1] if layout else '?'}"] += 1
        return dict(found)

    def by_target(self) -> dict[str, tuple[int, int]]:
        """Returns, of each kind of kernel, how many there are and the bytes that they touch, largest first."""
        found: dict[str, tuple[int, int]] = {}
        for kernel in self.kernels:
            name = kernel.target or kernel.op
            count, size = found.get(name, (0, 0))
            found[name] = count + 1, size + kernel.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def count_bytes(shapes: str) -> int:
    """Returns the bytes of all arrays of a shape, or of a tuple of shapes.

    >>> count_bytes("(bf16[16,4,4,64]{3,2,1,0}, u8[0]{0})"), count_bytes("f32[]")
    (32768, 4)
    """
    return sum(BYTES.get(dtype, 4) * math.prod(_numbers(dims)) for dtype, dims in SHAPE.findall(shapes))


def read(text: str, batch: int) -> Reading:
    """Reads the text of an optimized program, as `compiled.as_text()` returns it.

    Args:
      text: of the HLO.
      batch: the number of images, which tells activations from kernels.
    """
    body = text[text.index("\nENTRY ") :].splitlines()[2:]
    shapes: dict[str, str] = {}
    kernels = []
    for line in body:
        if line.startswith("}"):
            break
        found = LINE.match(line)
        if not found:
            continue
        name, result, op, rest = found.groups()
        shapes[name] = result
        inside, attributes = _split(rest)
        if op in NO_KERNEL:
            continue
        target = re.search(r'custom_call_target="([^"]+)"', attributes)
        source = re.search(r'op_name="([^"]+)"', attributes)
        operands = dict.fromkeys(re.findall(r"%([\w.\-]+)", inside))
        kernels.append(
            Kernel(
                name,
                op,
                target[1] if target else "",
                source[1] if source else "",
                result,
                tuple(shapes[operand] for operand in operands if operand in shapes),
                attributes,
            )
        )
    return Reading(tuple(kernels), tuple(_transposed(text, batch)))


def _split(rest: str) -> tuple[str, str]:
    """Splits what follows the name of an operation into its operands and its attributes."""
    depth = 1
    for i, letter in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return rest[:i], rest[i:]
    return rest, ""


def _transposed(text: str, batch: int) -> list[str]:
    """The activations of `SMALL` bytes and more whose axes a kernel puts into another order."""
    shapes, found = {}, []
    for line in text.splitlines():
        match = LINE.match(line)
        if not match:
            continue
        name, result, op, rest = match.groups()
        shapes[name] = result
        if op != "transpose" or count_bytes(result) < SMALL:
            continue
        order = re.search(r"dimensions=\{([\d,]+)\}", rest)
        dims = _numbers(SHAPE.findall(result)[0][1])
        moved = order is not None and [i for i in _numbers(order[1]) if dims[_numbers(order[1]).index(i)] > 1]
        operand = re.search(r"%([\w.\-]+)", rest)
        if batch in dims and moved and moved != sorted(moved):
            found.append(f"{result.partition('{')[0]} <- {shapes.get(operand[1], '?').partition('{')[0]}")
    return found


def flops(kernel: Kernel) -> int:
    """Returns the multiplications and additions of a convolution, 0 for any other kernel."""
    if not kernel.convolution:
        return 0
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", kernel.attributes)
    window = re.search(r"window=\{[^}]*size=([\dx]+)", kernel.attributes)
    if labels is None:
        return 0
    taps = math.prod(int(n) for n in window[1].split("x")) if window else 1
    groups = int((re.search(r"feature_group_count=(\d+)", kernel.attributes) or [0, 1])[1])
    result = _first_dims(kernel.result)
    first, second = (_first_dims(operand) for operand in (*kernel.operands, kernel.operands[0])[:2])
    features = labels[1].index("f")
    if kernel.convolution == "Forward":
        pairs = math.prod(result) * first[features]
    elif kernel.convolution == "BackwardInput":
        pairs = math.prod(first) * result[features]
    else:
        pairs = math.prod(second) * first[features]
    return 2 * pairs * taps // groups


def _first_dims(shapes: str) -> Sequence[int]:
    found: Any = SHAPE.search(shapes)
    return _numbers(found[2]) if found else []


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]
