"""A run of two processes of four devices each, whose state is divided over all eight, loses a process and goes on.

python -m tests.end_to_end.machines FOLDER [VICTIM]

What is shown: the process that is left ends within 30 s, with status 75 and a sentence; started again, both stop when
one is asked to; one process of eight devices takes the run up; its last loss is that of a run that nothing happened to,
to 1e-6; one device evaluates and predicts.
Takes a few minutes on two cores; FOLDER keeps the logs and the runs.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from jaxseg.experiment.log import read_rows

ROOT = Path(__file__).parents[2]
STEPS, LIMIT = 24, 30.0  # seconds
SETTINGS = {
    "train.steps": STEPS,
    "train.fsdp": 8,
    "data.batch_size": 8,
    "checkpoint.every": 4,
    "eval.every": STEPS,
    "log.every": 1,
    "log.tensorboard": False,
    # Another layout sums in another order. That is 1e-7 at first; large steps of Adam make it 1e-4 within 20 steps.
    "optim.name": "sgd",
    "optim.lr": 3e-4,
    "optim.clip_norm": 0.0,
    # Of the sizes that the rule divides.
    "model.encoder_options.widths": "16,16,32",
    "model.options.decoder_channels": "32,16,16",
}


def start(folder: Path, name: str, *words: object, devices: int) -> subprocess.Popen:
    """Starts `jaxseg WORDS` on so many virtual devices; FOLDER/NAME.log gets what it says."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "jaxseg", *map(str, words)]
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def train(folder: Path, run: str, *, processes: int) -> list[subprocess.Popen]:
    """Starts the processes of a training, eight devices in all."""
    settings = {**SETTINGS, "train.compilation_cache": folder / "compiled"}
    words = ["train", "tests/end_to_end/tiny_config.py", "--workdir", folder / run]
    words += [f"--config.{key}={value}" for key, value in settings.items()]
    if processes == 1:
        return [start(folder, f"{run}.one", *words, devices=8)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        words += ["--coordinator", f"127.0.0.1:{probe.getsockname()[1]}", "--processes", processes]
    return [start(folder, f"{run}.{i}", *words, "--process", i, devices=8 // processes) for i in range(processes)]


def ended(members: list[subprocess.Popen]) -> list[int]:
    """The exit statuses of processes, when all have ended."""
    return [member.wait(timeout=900) for member in members]


def saved_steps(workdir: Path) -> list[int]:
    """The steps of the whole checkpoints of a run."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal())


def kill_one(folder: Path, victim: int) -> None:
    """Trains with two processes, kills one after the first checkpoints, and checks how the other ends."""
    members = train(folder, "killed", processes=2)
    while not saved_steps(folder / "killed"):
        assert all(member.poll() is None for member in members), "a process ended by itself"
        time.sleep(0.05)
    began = time.monotonic()
    members[victim].kill()
    statuses = ended(members)
    seconds = time.monotonic() - began
    text = (folder / f"killed.{1 - victim}.log").read_text().replace("\r", "\n")
    (sentence,) = re.findall(r"^error: .*", text, re.MULTILINE)
    saved = saved_steps(folder / "killed")
    print(f"process {victim} killed: both ended after {seconds:.1f} s, statuses {statuses}, checkpoints {saved}")
    print(sentence)
    assert seconds <= LIMIT and sorted(statuses) == [-signal.SIGKILL, 75] and "stack trace" not in text


def stop_all(folder: Path) -> None:
    """Goes on with both processes and asks one of them to stop: both must, at the same step, which is saved."""
    last = saved_steps(folder / "killed")[-1]
    members = train(folder, "killed", processes=2)
    log, rows = folder / "killed.0.log", folder / "killed" / "metrics.jsonl"
    while "Going on from checkpoint" not in log.read_text() or max(row["step"] for row in read_rows(rows)) <= last:
        assert all(member.poll() is None for member in members), "a process ended by itself"
        time.sleep(0.05)
    members[1].send_signal(signal.SIGTERM)
    statuses, saved = ended(members), saved_steps(folder / "killed")
    print(f"SIGTERM to process 1: statuses {statuses}, checkpoints {saved}")
    assert statuses == [128 + signal.SIGTERM] * 2 and last < saved[-1] < STEPS


def main(folder: Path, victim: int) -> None:
    """Runs the whole of it, and raises if something is not as it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    kill_one(folder, victim)
    stop_all(folder)
    assert ended(train(folder, "killed", processes=1)) == [0]
    assert "Going on from checkpoint" in (folder / "killed.one.log").read_text()
    assert ended(train(folder, "undisturbed", processes=2)) == [0, 0]
    losses = {
        run: {row["step"]: row["loss"] for row in read_rows(folder / run / "metrics.jsonl") if row["kind"] == "train"}
        for run in ("killed", "undisturbed")
    }
    ours, theirs = losses["killed"][STEPS], losses["undisturbed"][STEPS]
    print(
        f"loss of step {STEPS}: {ours:.9f} after the kill, {theirs:.9f} undisturbed: {abs(ours / theirs - 1):.1e} apart"
    )
    evaluating = start(folder, "eval", "eval", folder / "killed", "--checkpoint", "latest", devices=1)
    assert ended([evaluating]) == [0]
    scores = json.loads((folder / "killed" / "eval" / "val" / "scores.json").read_text())
    images = next((folder / "killed" / "images").glob("*.png"))
    predicting = start(folder, "predict", "predict", folder / "killed", images, "--out", folder / "out", devices=1)
    assert ended([predicting]) == [0] and list((folder / "out").glob("*_label.png"))
    print(f"eval and predict on one device: mIoU {scores['miou']:.4f}, {len(list((folder / 'out').iterdir()))} files")
    assert abs(ours / theirs - 1) <= 1e-6


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
