"""A drill: runs that are killed, stopped, damaged and moved, round after round, and must all come to the same end.

    python -m tests.drill --rounds 200 --seed 0

In every round the run under way is started with the same command, and something happens to it. When it has made its
last step it is compared with a run that was left in peace: to the bit if it was on one device all the time, within
TOLERANCE (relative, of all parameters) if it was on several in between, as sums are then made in another order. A line
a round says what was done and what came of it. The exit status is 1 if anything ended in another way than it must:
a traceback, a sentence that does not belong there, a run that can't go on, or other numbers.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

STEPS = 60
TOLERANCE = 1e-3
LATE = re.compile(
    r"Traceback \(most recent call last\):\n(  .*\n|\n)+RuntimeError: Event loop is closed"
)  # TensorStore's
ASKING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGQUIT")


def config(cache: Path, workers: int):
    """Returns the config of all runs: a network of some thousand parameters."""
    from jaxseg.config import default_config

    c = default_config()
    c.data.update(name="shapes", canvas=(16, 16), crop=(16, 16), batch_size=4, workers=workers, threads=1)
    c.data.options = {"size": 16, "train": 26, "val": 3}
    c.model.update(name="unet", encoder="plain")
    c.model.encoder_options = {"widths": (4, 6), "convs": 1}
    c.model.options = {"decoder_channels": (6, 4)}
    c.optim.update(lr=2e-3, ema=0.9)
    c.train.update(steps=STEPS, compilation_cache=str(cache))
    c.log.update(every=1, tensorboard=False, images=0)
    c.checkpoint.update(every=3, keep=2)
    c.eval.update(every=25, batch_size=3)
    return c


# Processes. What takes long, the imports, is done once; a fork has its own devices.


def fork(function: Callable[[], int | None], log: Path, *, devices: int = 1, file_limit: int | None = None) -> int:
    """Returns the process id of a child that runs `function` as a program does, with its output in `log`."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        if file_limit:
            import resource
            import subprocess

            # What is printed must not count: another process, without a limit, writes it.
            writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out)
            os.dup2(writer.stdin.fileno(), 1)
            os.dup2(writer.stdin.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        # The parent's may be files, and know where they stand in them.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        code = function() or 0
    except BaseException:
        traceback.print_exc()
        code = 77
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(pid: int, seconds: float = 180) -> int | str:
    """Returns the exit status of a child, negative for a signal, "hang" if it had to be killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"


def alive(pid: int) -> bool:
    """Says whether a child has not ended; it is left to `finish` to ask how."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def wait_until(pid: int, happened: Callable[[], bool]) -> None:
    """Waits until something happened, or the child ended."""
    end = time.monotonic() + 120
    while time.monotonic() < end and alive(pid) and not happened():
        time.sleep(0.002)


class Run:
    """A workdir, and what is known of it.

    Args:
      workdir: of the run.
      cache: of compiled programs, which all runs share.
      rng: of the drill.
    """

    def __init__(self, workdir: Path, cache: Path, rng: random.Random):
        self.workdir, self.cache, self.rng = workdir, cache, rng
        self.log = workdir.with_suffix(".log")
        self.exact = True  # until it was on several devices

    def start(self, *, workers: int = 0, devices: int = 1, **options) -> int:
        """Starts or resumes the training in a child."""
        from jaxseg.cli import launch
        from jaxseg.training.loop import train

        def program() -> int:
            launch.quieten()
            return launch.guard(lambda: train(config(self.cache, workers), self.workdir) and 0)

        self.exact &= devices == 1
        self.before = self.rows()
        return fork(program, self.log, devices=devices, **options)

    def text(self) -> str:
        """What the last start printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def rows(self) -> int:
        """The last step of which metrics.jsonl tells."""
        file = self.workdir / "metrics.jsonl"
        found = re.findall(r'"kind": "train", "step": (\d+)', file.read_text(errors="replace")) if file.exists() else []
        return max(map(int, found), default=0)

    def steps(self) -> list[int]:
        """The checkpoints."""
        return sorted(int(p.name) for p in (self.workdir / "checkpoints").glob("*") if p.name.isdecimal())

    def ended(self) -> bool:
        """Whether the run has made all its steps."""
        return "Done: " in self.text()

    def some_steps(self) -> Callable[[], bool]:
        """Returns what says whether the run has made a few steps since its start, or is within a save."""
        target = self.before + self.rng.randrange(1, 15)
        in_save = self.rng.random() < 0.5
        folder = self.workdir / "checkpoints"

        def happened() -> bool:
            if self.rows() < target:
                return False
            return not in_save or any(folder.glob("*.orbax-checkpoint-tmp*")) or self.rows() >= STEPS

        return happened


# What happens in a round. Each returns (what was done, the exit statuses that may follow, words that must be said).

Outcome = tuple[str, tuple[int, ...], str]


def killed(run: Run) -> Outcome:
    """Kill -9, mostly in or near a save."""
    pid = run.start()
    wait_until(pid, run.some_steps())
    time.sleep(run.rng.random() * 0.03)
    return _signal(run, pid, signal.SIGKILL), (0, -9), ""


def asked(run: Run) -> Outcome:
    """One of the signals after which a run saves."""
    number = getattr(signal, run.rng.choice(ASKING))
    pid = run.start()
    wait_until(pid, run.some_steps())
    return _signal(run, pid, number), (0, 128 + number), ""


def killed_at_the_start(run: Run) -> Outcome:
    """Kill -9 before the first step, while the checkpoint is read or the program compiled."""
    pid = run.start()
    time.sleep(run.rng.random() * 2)
    return _signal(run, pid, signal.SIGKILL), (0, -9), ""


def _signal(run: Run, pid: int, number: int) -> str:
    if alive(pid):
        os.kill(pid, number)
    run.code = finish(pid)
    return signal.Signals(number).name


def full_disk(run: Run) -> Outcome:
    """No file may become larger than a limit, which a checkpoint's files are."""
    limit = run.rng.randrange(30_000, 60_000)
    run.code = finish(run.start(file_limit=limit))
    return f"files of at most {limit} bytes", (0, 1), "same command again" if run.code else ""


def dead_reader(run: Run) -> Outcome:
    """The processes that read images are killed."""
    pid = run.start(workers=1)
    wait_until(pid, run.some_steps())
    children = _children(pid)
    for child in children:
        os.kill(child, signal.SIGKILL)
    run.code = finish(pid)
    return f"{len(children)} readers killed", (0,), ""


def _children(pid: int) -> list[int]:
    """The worker processes of a child, without the one that watches over what they leave behind."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in thread.read_text().split()]
    return [c for c in found if b"resource_tracker" not in Path(f"/proc/{c}/cmdline").read_bytes()]


def other_devices(run: Run) -> Outcome:
    """Two or four devices, and a kill."""
    devices = run.rng.choice((2, 4))
    pid = run.start(devices=devices)
    wait_until(pid, run.some_steps())
    return f"{devices} devices, {_signal(run, pid, signal.SIGKILL)}", (0, -9), ""


def damaged(run: Run) -> Outcome:
    """A file of the newest checkpoint is deleted, emptied, cut or changed in one bit."""
    if len(run.steps()) < 2:
        return killed(run)
    folder = run.workdir / "checkpoints" / str(run.steps()[-1])
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if run.rng.random() < 0.7:  # what each process wrote is gathered in one place, and read from there
        files = [path for path in files if "ocdbt.process" not in str(path) and path.stat().st_size]
    file = run.rng.choice(files)
    how = run.rng.choice(("delete", "empty", "half", "flip", "flip", "flip"))
    content = file.read_bytes()
    if how == "delete":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "half":
        file.write_bytes(content[: len(content) // 2])
    elif content:
        place = run.rng.randrange(len(content))
        flipped = bytes([content[place] ^ 1 << run.rng.randrange(8)])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
    pid = run.start()
    wait_until(pid, run.some_steps())
    done = f"{how} {file.relative_to(folder.parent)}, {_signal(run, pid, signal.SIGTERM)}"
    aside = re.search(r"renamed to (\S+):", run.text())
    return f"{done}{', set aside as ' + aside[1] if aside else ', not needed'}", (0, 128 + 15), ""


def torn_rows(run: Run) -> Outcome:
    """The last row of metrics.jsonl is cut short."""
    file = run.workdir / "metrics.jsonl"
    if file.exists():
        content = file.read_bytes()
        file.write_bytes(content[: len(content) - run.rng.randrange(1, 60)])
    what, codes, words = asked(run)
    return f"torn row, {what}", codes, words


def broken_cache(run: Run) -> Outcome:
    """Half of every compiled program is gone."""
    for file in run.cache.glob("*-cache"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    what, codes, words = asked(run)
    return f"broken compiled programs, {what}", codes, words


def looked_at(run: Run) -> Outcome:
    """Somebody loads the model again and again while it is trained."""
    from jaxseg.trained import load

    def look() -> int:
        import warnings

        warnings.simplefilter("ignore")
        for which in ("latest", "best") * 4:
            load(run.workdir, which)
        return 0

    pid = run.start()
    wait_until(pid, lambda: bool(run.steps()) and run.rows() > run.before)
    looking = fork(look, run.log.with_suffix(".look"))
    read = finish(looking)
    done = f"looked at (status {read}), {_signal(run, pid, signal.SIGTERM)}"
    if read:
        run.code = f"reader: {run.log.with_suffix('.look').read_text().strip().splitlines()[-1:]}"
    return done, (0, 128 + 15), ""


FAULTS = {killed: 4, asked: 3, killed_at_the_start: 1, full_disk: 2, dead_reader: 1, other_devices: 2, damaged: 5}
FAULTS |= {torn_rows: 1, broken_cache: 1, looked_at: 1}


def final(workdir: Path, out: Path) -> int:
    """Writes the parameters after the last step to a file, from the training's own state."""
    import jax
    import numpy as np

    from jaxseg.experiment.checkpoint import Checkpoints

    variables = Checkpoints(workdir).restore_variables(STEPS)
    np.savez(out, **{str(i): leaf for i, leaf in enumerate(jax.tree.leaves(variables))})
    return 0


def difference(ours: Path, theirs: Path) -> float:
    """Returns the distance of two sets of parameters, relative to their size; 0 if they are equal to the bit."""
    import numpy as np

    with np.load(ours) as a, np.load(theirs) as b:
        if all(a[key].tobytes() == b[key].tobytes() for key in b.files):
            return 0.0
        apart = sum(float(((a[key] - b[key]).astype(np.float64) ** 2).sum()) for key in b.files)
        size = sum(float((b[key].astype(np.float64) ** 2).sum()) for key in b.files)
    return max((apart / size) ** 0.5, 1e-300)


def prepare() -> None:
    """Imports what a run needs, so that every fork has it."""
    import importlib

    from absl import flags

    for name in ("flax", "grain", "matplotlib.backends.backend_agg", "optax", "orbax.checkpoint", "tqdm"):
        importlib.import_module(name)
    for name in ("cli.launch", "training.loop", "evaluation.evaluator", "visualize", "trained", "data.shapes"):
        importlib.import_module(f"jaxseg.{name}")
    flags.FLAGS.mark_as_parsed()


def main(arguments: list[str] | None = None) -> int:
    """Runs the drill and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="of the runs; a temporary one is removed at the end")
    args = parser.parse_args(arguments)
    os.environ.update(JAX_PLATFORMS="cpu", MPLBACKEND="Agg")
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="drill")) if args.folder is None else args.folder.absolute()
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    rng, began = random.Random(args.seed), time.monotonic()
    cache, whole, truth = folder / "cache", folder / "runs" / "whole", folder / "whole.npz"
    peace = Run(whole, cache, rng)
    if finish(peace.start()) or finish(fork(lambda: final(whole, truth), truth.with_suffix(".log"))):
        print(f"The run without faults failed:\n{peace.text()}")
        return 1
    counts, faults, wrong = collections.Counter(), collections.Counter(), []
    names, weights = list(FAULTS), list(FAULTS.values())
    run, number = Run(folder / "runs" / "run1", cache, rng), 1
    for index in range(1, args.rounds + 1):
        since, fault = time.monotonic(), rng.choices(names, weights)[0]
        what, codes, words = fault(run)
        text, problems = run.text(), []
        if run.rows() >= STEPS:  # a signal may come when all is done
            codes += tuple(128 - code for code in codes if code > 128)
        if run.code not in codes:
            problems.append(f"exit {run.code}, expected {codes}")
        if "Traceback" in LATE.sub("", text):
            problems.append("a traceback")
        if words and words not in text:
            problems.append(f"not said: {words}")
        end, ended = "", run.ended()
        if ended:
            out = folder / f"run{number}.npz"
            apart = (
                "no end" if finish(fork(lambda w=run.workdir, o=out: final(w, o), run.log)) else difference(out, truth)
            )
            kind = "same bits" if apart == 0 else f"{apart:.1e} apart" if isinstance(apart, float) else apart
            if apart == "no end" or apart > (0 if run.exact else TOLERANCE):
                problems.append(f"run {number} ended with other numbers: {kind}")
            counts["same bits" if apart == 0 else "within the tolerance"] += 1
            end = f"; run {number} ended, {kind}"
        faults[fault.__name__] += 1
        state = f"run {number}, steps {run.before}-{run.rows()}, checkpoints {run.steps()}"
        verdict = f" WRONG: {'; '.join(problems)}" if problems else ""
        print(f"{index:4} {time.monotonic() - since:4.1f} s  {what}; {state}{end}{verdict}", flush=True)
        if problems:
            wrong.append(index)
            if run.workdir.exists():
                shutil.copytree(run.workdir, folder / f"wrong{index}", dirs_exist_ok=True)
            (folder / f"wrong{index}.log").write_text(text)
        if ended or problems:
            number += 1
            run = Run(folder / "runs" / f"run{number}", cache, rng)
    summary = {"rounds": args.rounds, "seed": args.seed, "seconds": round(time.monotonic() - began), **counts}
    print(json.dumps({**summary, "runs": number - 1, "wrong": wrong, "faults": faults}))
    if args.folder is None and not wrong:
        shutil.rmtree(folder)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
