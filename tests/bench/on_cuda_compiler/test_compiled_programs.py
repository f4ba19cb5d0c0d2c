"""What XLA's compiler for GPUs makes of the programs of training: no more kernels and bytes than were recorded.

No GPU is needed, but the packages of `jaxseg.bench.compile_for.PACKAGES` are.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

RECORDED = Path(__file__).with_name("recorded_programs.json")  # made by this file as a program, see its end
NAMES = ["unet_r34", "segformer_b0", "deeplabv3plus_r50"]
FIGURES = ("kernels", "bytes", "temporary_bytes")
MORE = 1.05  # times the recorded bytes are still as recorded


def read_programs(folder):
    """What is in the compiled programs, by the program and in its own process: JAX looks for compilers but once."""
    names = ["--only", *NAMES, "--size", "256", "--batch", "8"]  # any size takes as long to compile
    command = [sys.executable, "-m", "jaxseg", "bench", "--compile-for", "h100", *names, "--out", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in (Path(folder) / "programs.jsonl").read_text().splitlines()]
    return {row["name"]: row for row in rows}


def test_a_program_touches_no_more_than_was_recorded(tmp_path):
    recorded = json.loads(RECORDED.read_text())
    del recorded["jax"]
    found = read_programs(tmp_path)
    assert found.keys() == recorded.keys()
    for name, row in found.items():
        assert {description.split()[1] for description in row["convolutions"]} == {"bf16"}
        assert {description.split()[2] for description in row["convolutions"]} == {"b01f_o01i->b01f"}
        more = {figure: row[figure] / recorded[name][figure] for figure in FIGURES}
        assert max(more.values()) <= MORE, f"{name}: {more} of what was recorded"


if __name__ == "__main__":  # python tests/bench/on_cuda_compiler/test_compiled_programs.py records today's programs
    with tempfile.TemporaryDirectory() as scratch:
        read = read_programs(scratch)
    kept = {name: {figure: row[figure] for figure in FIGURES} for name, row in read.items()}
    RECORDED.write_text(json.dumps({"jax": jax.__version__, **kept}, indent=1) + "\n")
