"""Several processes on loopback, started as the launch files in docs/launch start them."""

import os
import shlex
import socket
import subprocess

import numpy as np
import pytest
import yaml

from jaxseg.experiment.log import read_rows
from tests.end_to_end.conftest import ROOT

SETTINGS = {
    "data.options.size": 32,
    "data.options.train": 26,
    "data.options.val": 7,
    "data.canvas": "32,32",
    "data.crop": "32,32",
    "data.batch_size": 4,
    "model.encoder_options.widths": "8,12,16",
    "model.options.decoder_channels": "16,12,8",
    "train.epochs": 0,
    "train.steps": 6,
    "optim.warmup_steps": 0,
    "log.every": 3,
    "eval.every": 6,
}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _command(words, workdir, cache):
    """The command of a launch file, on a run of seconds."""
    assert words[0] == "jaxseg" and words[3] == "--workdir"
    settings = [f"--config.{key}={value}" for key, value in SETTINGS.items()]
    settings.append(f"--config.train.compilation_cache={cache}")
    return ["-m", *words[:4], workdir, *words[5:], *settings]


def _slurm(process):
    """The command of the batch file, and what srun sets for one of two tasks on this machine."""
    text = (ROOT / "docs" / "launch" / "jaxseg.sbatch").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("srun ")]
    words = shlex.split(line)
    while words[0] != "jaxseg":
        words.pop(0)
    values = {"JOB_ID": os.getpid(), "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": process, "LOCALID": process}
    return words, {f"SLURM_{name}": str(value) for name, value in values.items()}


def _jobset(process, port):
    """The command of the JobSet's container, and its variables in the pod of this index, with the name looked up."""
    text = (ROOT / "docs" / "launch" / "jobset.yaml").read_text()
    jobset = yaml.safe_load(text)
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {}
    for variable in container["env"]:
        index = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        assert index in (None, "metadata.annotations['batch.kubernetes.io/job-completion-index']")
        variables[variable["name"]] = str(process) if index else variable["value"]
    name = jobset["metadata"]["name"]
    assert variables["JAX_COORDINATOR_ADDRESS"].startswith(f"{name}-{job['name']}-0-0.{name}:")
    assert variables["JAX_NUM_PROCESSES"] == str(spec["completions"]) == str(spec["parallelism"]) == "2"
    return container["command"], {**variables, "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}


def _ended(processes):
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def test_the_launch_files_start_what_one_process_does(start, cache, tmp_path):
    """Each reads its half of the batch and evaluates its half of the split; one workdir comes of it."""
    words, _ = _slurm(0)
    _ended([start(*_command(words[:-1], tmp_path / "one", cache))])
    launched = []
    with pytest.MonkeyPatch.context() as patch:
        for process in range(2):
            words, variables = _slurm(process)
            for name, value in variables.items():
                patch.setenv(name, value)
            launched.append(start(*_command(words, tmp_path / "two", cache)))
    _ended(launched)
    one, two = (read_rows(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [(r["kind"], r["step"]) for r in two] == [(r["kind"], r["step"]) for r in one]
    np.testing.assert_allclose(*[[row["loss"] for row in rows] for rows in (two, one)], rtol=1e-4)

    launched, port = [], _free_port()  # two others look at the run that is done
    with pytest.MonkeyPatch.context() as patch:
        for process in range(2):
            words, variables = _jobset(process, port)
            for name, value in variables.items():
                patch.setenv(name, value)
            launched.append(start(*_command(words, tmp_path / "two", cache)))
    assert "Done: 6 steps" in _ended(launched)[0]
    assert read_rows(tmp_path / "two" / "metrics.jsonl") == two


def test_a_launch_file_is_a_program(tmp_path):
    """bash reads the batch file; a status that is worth it is tried again."""
    for name, code in (("srun", "exit ${STATUS}"), ("scontrol", "echo scontrol $*")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    for status, expected in ((0, ""), (1, ""), (75, "scontrol requeue 7\n"), (137, "scontrol requeue 7\n")):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "STATUS": str(status)}
        command = ["bash", str(ROOT / "docs" / "launch" / "jaxseg.sbatch")]
        done = subprocess.run(command, env={**environment, "SLURM_JOB_ID": "7"}, capture_output=True, text=True)
        assert done.stdout == expected
        assert done.returncode == (status if status in (0, 1) else 0)
