"""The memory of one step serves the next."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from jaxseg.heap import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("no mallopt")
import jax, jax.numpy as jnp
step = jax.jit(lambda x: (jax.lax.optimization_barrier(jnp.sin(x)[::-1]) @ x[0]).sum())
x = jnp.ones((1 << 14, 1 << 10))  # 64 MiB, and so much again for the sine
faults = [0]
for _ in range(20):
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[-3])
"""


def page_faults(how):
    command = [sys.executable, "-c", PROGRAM, how]
    result = subprocess.run(command, capture_output=True, text=True)
    if "no mallopt" in result.stderr:
        pytest.skip("another C library than glibc")
    return int(result.stdout)


def test_a_step_touches_no_new_memory():
    kept, returned = page_faults("kept"), page_faults("returned")
    assert kept < 1000 < returned  # of 4 KiB, in two steps: the temporary is 16384 of them
