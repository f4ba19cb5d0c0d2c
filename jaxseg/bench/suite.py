"""A suite: a table of cases, each measured in a process of its own, with rows on disk as they come."""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxseg.bench.cases import SUITES, smaller
from jaxseg.bench.program import OWN
from jaxseg.bench.tables import markdown, table
from jaxseg.bench.timing import cores, processor
from jaxseg.checks import UserError, lookup, suggest
from jaxseg.files import write_text

VARIABLES = ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS")
ROWS, PAGE = "rows.jsonl", "table.md"


def run_suite(
    suite: str,
    out: str | Path,
    *,
    steps: int,
    peer: str | None = None,
    only: Sequence[str] = (),
    shrink: tuple[int, int] | None = None,
) -> int:
    """Measures the cases of a suite one after another; those that are in the folder already are not measured again.

    A row is taken as done if it is of the same case, steps, peer, commit and `surroundings`. A case that fails gets
    a row with its error, and is tried again the next time.

    Args:
      suite: a key of `SUITES`.
      out: folder for rows.jsonl, a row a case, and table.md.
      steps: timed turns of each case.
      peer: a key of `jaxseg.bench.peers.PEERS`, or None.
      only: names of cases; () is all.
      shrink: (side in pixels, images) of every case instead of its own, to rehearse.

    Returns:
      The number of cases that failed.
    """
    cases = lookup(SUITES, suite, "suite")
    for name in only:
        if name not in cases:
            raise UserError(
                f"Unknown case '{name}' of the suite '{suite}'. {suggest(name, cases)}Known: {', '.join(cases)}."
            )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    here = {"commit": commit(), "surroundings": surroundings()}
    rows = []
    for name in only or cases:
        with_peer = "monai" if peer and cases[name].model in OWN else peer
        wanted = {"suite": suite, "name": name, "steps": steps, "peer": with_peer, "shrink": shrink, **here}
        row = _done(out / ROWS, wanted)
        if row is None:
            size, batch = shrink or (None, None)
            print(f"{name}: {smaller(cases[name], size=size, batch=batch).title()}", flush=True)
            row = _measure(wanted, out)
        print(f"{name} failed: {row['error']}" if "error" in row else table(row), end="\n\n", flush=True)
        rows.append(row)
        write_text(out / PAGE, markdown(rows))
    print(markdown(rows))
    return sum("error" in row for row in rows)


def commit() -> str:
    """Returns the commit of the checkout that jaxseg is imported from, with a + where files differ, or its version."""
    from jaxseg.experiment.log import version_of

    folder = Path(__file__).parents[2]

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():  # installed below another checkout
            raise FileNotFoundError
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return f"jaxseg {version_of('jaxseg') or 'unknown'}"


def surroundings() -> dict[str, Any]:
    """Returns what makes a figure another one: machine, versions, and variables that choose a device or change XLA.

    It is found without touching a device, which the processes of the cases need for themselves.
    """
    from jaxseg.experiment.log import version_of

    packages = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "torch", "segmentation-models-pytorch")
    versions = {name: found for name in packages if (found := version_of(name))}
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {"machine": platform.node(), "processor": processor(), "cores": cores()} | versions | variables


def _done(path: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the newest row that is what is wanted; a line that was cut off is none."""
    if not path.exists():
        return None
    for line in reversed(path.read_text().splitlines()):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "error" not in row and row.get("wanted") == json.loads(json.dumps(wanted)):
            return row
    return None


def _measure(wanted: dict[str, Any], out: Path) -> dict[str, Any]:
    """Measures one case in a process of its own, and writes its row."""
    words = ["bench", "--case", f"{wanted['suite']}:{wanted['name']}", "--steps", str(wanted["steps"])]
    if wanted["peer"]:
        words += ["--peer", wanted["peer"]]
    if wanted["shrink"]:
        size, batch = wanted["shrink"]
        words += ["--size", str(size), "--batch", str(batch)]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    row = {"command": f"jaxseg {' '.join(words)}", "date": now, "commit": wanted["commit"], "wanted": wanted}
    row |= {"suite": wanted["suite"], "name": wanted["name"]}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, (out / f"{wanted['name']}.log").open("w") as log:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "jaxseg", *words, "--out", str(path)]
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        if status == 0:
            row |= json.loads(path.read_text())
    row["seconds"] = time.perf_counter() - began
    if status:
        said = (out / f"{wanted['name']}.log").read_text(errors="replace").strip().splitlines() or ["no output"]
        row["error"] = f"exit {status}: {said[-1][:500]}"
    with (out / ROWS).open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row
