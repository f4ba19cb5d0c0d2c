"""Rows, the clock, and who may use the card: `card` for what is timed, `slots` for what takes much of its memory."""
import atexit, contextlib, fcntl, json, os, signal, statistics, subprocess, sys, time
from pathlib import Path

OUT = Path(os.environ["OUT"])
WORK = Path(os.environ["CHECK_WORK"])  # of this call: locks, marks, logs
TINY = bool(os.environ.get("TINY"))
ENDS = float(os.environ["STAGE_ENDS"])  # time.monotonic(), which all processes of a machine share
PIDS = WORK / "pids"


def add(**row):
    row |= {"commit": os.environ.get("CHECK_COMMIT"), "run": os.environ.get("CHECK_RUN"), "at": round(time.time() - float(os.environ["CHECK_BEGAN"]), 1)}
    with (OUT / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row, default=float) + "\n")
    print(json.dumps(row, default=float)[:1500], flush=True)


def left():
    return ENDS - time.monotonic()


def median_ms(times):
    return 1e3 * statistics.median(times)


def state_of(pid):
    """R, S, T (stopped), Z (dead, not yet reaped) ... or "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid):
    return state_of(pid) not in ("", "Z", "X")


def register(pid=None):
    """Says that the process uses the card: it stands still while another has the card to itself."""
    while pid is None and (WORK / "holder").exists():
        time.sleep(0.1)
    path = PIDS / str(pid or os.getpid())
    path.touch()
    if pid is None:
        atexit.register(path.unlink, missing_ok=True)


def signal_others(number, but=()):
    for path in PIDS.iterdir():
        pid = int(path.name)
        if pid != os.getpid() and pid not in but:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def card(most=60.0, but=()):
    """The card, alone: every other registered process is stopped meanwhile. The orchestrator ends who holds it longer.

    Args:
      most: seconds.
      but: processes that go on.
    """
    asked = time.monotonic()
    with (WORK / "card.lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        holder, part = WORK / "holder", WORK / f"holder.{os.getpid()}"
        began = time.monotonic()
        part.write_text(json.dumps({"pid": os.getpid(), "until": began + most}))
        part.replace(holder)
        try:
            signal_others(signal.SIGSTOP, but)
            time.sleep(0.05 if TINY else 0.35)  # what they had queued on the card
            yield
        finally:
            holder.unlink(missing_ok=True)
            signal_others(signal.SIGCONT, but)
            with (WORK / "held.jsonl").open("a") as log:
                log.write(json.dumps({"pid": os.getpid(), "stage": os.environ.get("STAGE"), "waited": began - asked, "held": time.monotonic() - began}) + "\n")


@contextlib.contextmanager
def slots(wanted, total=4):
    """`wanted` of `total` places for what takes much of the card's memory."""
    while True:
        files = []
        with (WORK / "slots.lock").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            for i in range(total):
                file = (WORK / f"slot{i}.lock").open("a")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    files.append(file)
                except BlockingIOError:
                    file.close()
                if len(files) == wanted:
                    break
            else:
                for file in files:
                    file.close()
                files = []
        if files:
            break
        time.sleep(0.3)
    try:
        yield
    finally:
        for file in files:
            file.close()
