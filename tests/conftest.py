"""What makes the tests quick: nearly all of their time goes into tracing and compiling small programs."""

import gc
import os

# Tracing makes many small objects that live on; looking for garbage among them takes a fifth of the time.
gc.collect()
gc.freeze()
gc.set_threshold(200_000, 20, 100)
# One thread compiles a program: the processes of pytest-xdist have the other cores.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_parallel_codegen_split_count=1".strip()
