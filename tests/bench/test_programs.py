"""What the programs of training hold on a GPU, of models of every kind: StableHLO lowered for CUDA, where no GPU is.

What XLA's compiler for GPUs makes of it is read in tests/bench/on_cuda_compiler.
"""

import re
from functools import cache

import jax
import pytest

from jaxseg.bench.cases import SUITES, smaller
from jaxseg.bench.program import make_program
from jaxseg.ops.conv import conv2d

SIZE, BATCH = 64, 4
NAMES = ["unet_r34", "segformer_b0", "deeplabv3plus_r50", "upernet_convnext_tiny", "unet_mobilenet_v2"]
ATROUS = ("deeplabv3plus_r50",)  # whose kernels' gradients are made tap by tap on GPUs, see jaxseg.ops.atrous

CONVOLUTION = re.compile(r"stablehlo\.convolution\(.*: \(tensor<([\dx]+)x(\w+)>, tensor<[\dx]+x(\w+)>\)")
TRANSPOSE = re.compile(r"stablehlo\.transpose .*dims = \[([\d, ]+)\].*: \(tensor<([\dx]+)x\w+>\)")


@cache
def lowered(name):
    """The text of the step's program for CUDA, before the compiler sees it."""
    program = make_program(smaller(SUITES["gpu"][name], size=SIZE, batch=BATCH))
    return program.step.trace(*program.shapes()).lower(lowering_platforms=("cuda",)).as_text()


def without_convolution(text):
    """The results of those functions of `jaxseg.ops.platform` that compute a convolution by something else."""
    found = []
    for body in text.split("func.func private @")[1:]:
        if body.startswith("_choose") and "stablehlo.convolution" not in body:
            found.append(re.search(r"-> tensor<([\dx]+)x\w+>", body)[1])
    return found


def convolutions(text):
    return [found.groups() for found in CONVOLUTION.finditer(text)]


def transposed_activations(text):
    """Shapes of images of the batch whose height and width change places with other axes, of more than one pixel."""
    found = []
    for order, shape in TRANSPOSE.findall(text):
        order, shape = [int(n) for n in order.split(",")], [int(n) for n in shape.split("x")]
        if len(shape) == 4 and shape[0] == BATCH and shape[1] == shape[2] and order != [0, 1, 2, 3]:
            found.append((tuple(shape), tuple(order)))
    return found


@pytest.mark.parametrize("name", NAMES[1:])  # whose layers have those of the first among them
def test_a_program_for_gpus_is_one(name):
    text = lowered(name)
    found = convolutions(text)
    assert len(found) > 5
    assert {(a, b) for _, a, b in found} == {("bf16", "bf16")}, "a convolution in float32 misses the tensor cores"
    assert transposed_activations(text) == []
    others = [shape for shape in without_convolution(text) if not (name in ATROUS and shape.startswith("3x3x"))]
    assert others == [], "a way of CPUs is in the program of a GPU"


def test_the_checks_see_what_they_are_for():
    """A float32 convolution, a transposed activation and a way of CPUs, each in a program that has it."""
    x = jax.ShapeDtypeStruct((BATCH, 8, 8, 16), jax.numpy.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 1, 16), jax.numpy.float32)
    trace = jax.jit(lambda x, k: conv2d(x, k, padding=1, groups=16).transpose(0, 3, 1, 2)).trace(x, kernel)
    both = [trace.lower(lowering_platforms=(platform,)) for platform in ("cuda", "cpu")]
    on_gpu, on_cpu = (found.as_text() for found in both)
    assert [without_convolution(text) for text in (on_gpu, on_cpu)] == [[], [f"{BATCH}x8x8x16"]]
    assert [(a, b) for _, a, b in convolutions(on_gpu)] == [("f32", "f32")]
    assert convolutions(on_cpu) == []  # shifted products
    assert transposed_activations(on_gpu) == [((BATCH, 8, 8, 16), (0, 3, 1, 2))]
