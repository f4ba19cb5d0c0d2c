"""What makes the tests quick: nearly all of their time goes into tracing and compiling small programs."""

import gc
import itertools
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax
import jaxtyping
import pytest

# Tracing makes many small objects that live on; looking for garbage among them takes a fifth of the time.
gc.collect()
gc.freeze()
gc.set_threshold(200_000, 20, 100)
FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]  # the processes of pytest-xdist have the other cores
# Hardly a program runs twice here: XLA leaves out what makes it fast, and compiles it in a quarter of the time.
# JAXSEG_OPTIMIZE=1 runs the programs that users have.
if os.environ.get("JAXSEG_OPTIMIZE") != "1":
    FLAGS += ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    if jax.__version_info__ < (0, 11):  # which ends at a flag that it does not know
        FLAGS += ["--xla_cpu_use_fusion_emitters=false"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS]).strip()

# JAXSEG_CHECK_TYPES=1 checks annotations, shapes and dtypes included. JAXSEG_CHECK_PROMOTION=1 refuses to promote ranks
# and dtypes without a word, in the folders `STRICT`.
CHECK_TYPES = os.environ.get("JAXSEG_CHECK_TYPES") == "1"
CHECK_PROMOTION = os.environ.get("JAXSEG_CHECK_PROMOTION") == "1"
STRICT = ["bench", "blocks", "cli", "contracts", "encoders", "losses", "metrics", "ops", "visualize"]
FINISHED = itertools.count(1)  # modules


class _Unchecked:
    """`pytest.raises` where types are checked: what is wrong on purpose the code refuses in its own words."""

    raises = staticmethod(pytest.raises)

    def __init__(self, *args: Any, **options: Any):
        self.context = _Unchecked.raises(*args, **options)

    def __enter__(self) -> pytest.ExceptionInfo:
        jaxtyping.config.update("jaxtyping_disable", True)
        return self.context.__enter__()

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> bool | None:
        jaxtyping.config.update("jaxtyping_disable", False)
        return self.context.__exit__(kind, error, traceback)


if CHECK_TYPES:
    # An int may be given where an annotation says float, as type checkers have it.
    jaxtyping.install_import_hook("jaxseg", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
    pytest.raises = _Unchecked


@pytest.fixture(scope="module", autouse=True)
def _promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuses promotion in the folders `STRICT`."""
    checks = {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"}
    if not CHECK_PROMOTION or request.path.parent.name not in STRICT:
        checks = {}
    before = {name: getattr(jax.config, name) for name in checks}
    for name, value in checks.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """Forgets compiled programs now and then: those of all tests take 7 GB a process."""
    yield
    if next(FINISHED) % 20 == 0:
        jax.clear_caches()
        gc.collect()
