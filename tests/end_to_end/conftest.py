"""Runs of the real programs, in processes of their own, the way a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = "tests/end_to_end/tiny_config.py"


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder of compiled programs that the runs of this session share."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def start(cache):
    """start(program, *arguments) -> a running process in the repository's root."""

    def start(*arguments, devices=1, **popen):
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "MPLBACKEND": "Agg"}
        command = [sys.executable, *map(str, arguments)]
        if arguments[0] == "train.py":
            command.append(f"--config.train.compilation_cache={cache}")
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **popen
        )

    return start


@pytest.fixture(scope="session")
def run(start):
    """run(program, *arguments, code=0) -> what it printed; fails with that text on another exit code."""

    def run(*arguments, code=0, **options):
        process = start(*arguments, **options)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, f"exit {process.returncode}, expected {code}:\n{output}"
        return output

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, run):
    """The workdir of an uninterrupted tiny run."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    run("train.py", "--config", TINY, "--workdir", workdir)
    return workdir
