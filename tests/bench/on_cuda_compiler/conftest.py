"""What needs XLA's compiler for GPUs is collected where it is, of the jax that the figures were recorded with."""

import json
from pathlib import Path

import jax

from jaxseg.bench.compile_for import missing

RECORDED = json.loads(Path(__file__).with_name("recorded_programs.json").read_text())["jax"]

collect_ignore = ["test_compiled_programs.py"] if missing() or jax.__version__ != RECORDED else []
