"""What the bench says of processes; tests/parity/test_bench.py has a peer in one of its own."""

import subprocess
import sys

import numpy as np

PROGRAM = "from jaxseg.bench.peer_process import peak_bytes; print(peak_bytes())"


def test_a_process_does_not_count_the_memory_of_the_one_that_started_it():
    kept = np.ones(1 << 27)  # 1 GiB
    peak = int(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout)
    assert 2**24 < peak < kept.nbytes
