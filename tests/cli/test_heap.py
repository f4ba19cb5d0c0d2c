"""The memory of one step serves the next."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from jaxseg.cli.heap import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("no mallopt")
import jax, jax.numpy as jnp
step = jax.jit(lambda x: (jax.lax.optimization_barrier(jnp.sin(x)[::-1]) @ x[0]).sum())
x = jnp.ones((1 << 14, 1 << 10))  # 64 MiB, and so much again for the sine
faults = []
for _ in range(40):
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(sum(after - before > 1000 for before, after in zip(faults[-21:], faults[-20:])))
"""


def steps_on_new_memory(how):
    """How many of the last 20 steps touched more than 1000 new pages of 4 KiB; the temporary is 16384 of them."""
    command = [sys.executable, "-c", PROGRAM, how]
    result = subprocess.run(command, capture_output=True, text=True)
    if "no mallopt" in result.stderr:
        pytest.skip("another C library than glibc")
    return int(result.stdout)


def test_steps_touch_no_new_memory():
    # Now and then the heap still grows: a small block sits where the temporary was.
    assert steps_on_new_memory("kept") < 10
    assert steps_on_new_memory("returned") == 20
