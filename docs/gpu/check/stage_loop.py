"""train.py itself on 512² JPEGs it makes here: images/s of the loop by number of workers. `stage_loop.py WORKERS`.

The step is stage_pair.py's unet_r34, so its program comes from the cache that that filled. From the first row of training on, the
card and the processor are train.py's alone; only the rows after that count. When time is up, train.py says where it stands.
"""
import signal, threading
from common import *
from jaxseg.bench.loop import make_folder

N, SIZE = (12, 64) if TINY else (256, 512)
root = Path("/tmp/gpu_check_data")


def utilisation(stop, samples):
    while not stop.is_set() and not TINY:
        out = subprocess.run(["nvidia-smi", "--query-gpu=utilization.gpu,memory.used,power.draw", "--format=csv,noheader,nounits"], capture_output=True, text=True).stdout
        try:
            samples.append([time.monotonic(), *(float(v) for v in out.strip().splitlines()[0].split(","))])
        except (ValueError, IndexError):
            pass
        time.sleep(0.3)


def rows_of(work):
    try:
        return [json.loads(line) for line in (Path(work) / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return []


def follow(command, work, env, most, name):
    """Runs train.py; from its first row on it has the card to itself. Returns a dictionary of what there is to say."""
    log = WORK / f"{name}.txt"
    samples, stop = [], threading.Event()
    watcher = threading.Thread(target=utilisation, args=(stop, samples))
    watcher.start()
    began, phases, before = time.monotonic(), {}, 0
    with log.open("w") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

    def wait_for(happened, until=float("inf")):
        while process.poll() is None and left() > 4 and time.monotonic() < until:
            if happened():
                return True
            time.sleep(0.05)
        return process.poll() is not None

    register(process.pid)
    try:
        for phase, happened in (("announced", lambda: "first step" in log.read_text()), ("first_row", lambda: rows_of(work))):
            if wait_for(happened) and happened():
                phases[phase] = time.monotonic() - began
        if process.poll() is None and left() > 4:
            with card(most, but=(process.pid,)):
                before, phases["alone"] = len(rows_of(work)), time.monotonic() - began
                finished = wait_for(lambda: any(r["kind"] == "eval" for r in rows_of(work)) and name.startswith("loop"), time.monotonic() + most - 2)
                phases["card_given_back"] = time.monotonic() - began
            if finished:
                wait_for(lambda: False)
        code = process.poll()
        if code is None:  # the stacks of all threads, into the log
            code = "time"
            process.send_signal(signal.SIGABRT)
            time.sleep(1)
    finally:
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass
        process.wait()
        (PIDS / str(process.pid)).unlink(missing_ok=True)
        stop.set(), watcher.join()
    busy = [s[1] for s in samples if s[0] - began > phases.get("alone", 0) and s[0] - began < phases.get("card_given_back", 1e9)]
    return dict(exit=code, seconds=time.monotonic() - began, phases=phases, rows=rows_of(work), before=before, tail=log.read_text()[-3000:] if code else log.read_text()[-300:], gpu_percent=statistics.mean(busy) if busy else None,
                gpu_mib=max((s[2] for s in samples), default=None))


if __name__ == "__main__":
    workers = int(sys.argv[1])
    if not (root / "made").exists():
        make_folder(root, N, (SIZE, SIZE))
        (root / "made").touch()
    work = f"/tmp/gpu_check_run_{workers}_{time.monotonic_ns()}"
    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    had = len(list(cache.glob("jit_train_step-*")))
    options = {"data.workers": workers, "log.every": 2 if TINY else 10}
    command = [sys.executable, "-X", "faulthandler", "train.py", "--config", str(Path(__file__).parent / "config_loop.py"), "--workdir", work]
    command += [f"--config.{k}={v}" for k, v in options.items()]
    env = {**os.environ, "LOOP_ROOT": str(root), "LOOP_CACHE": str(cache)}
    found = follow(command, work, env, 60, f"loop{workers}")
    rows, before = found.pop("rows"), found.pop("before")
    speeds = [round(r["images_per_s"], 1) for r in rows if r["kind"] == "train"]
    alone = speeds[before + 1:]  # the row that was under way is left out
    add(kind="loop", workers=workers, images_per_s=statistics.median(alone) if alone else None, rows_alone=len(alone), speeds=speeds, eval_s=[r["seconds"] for r in rows if r["kind"] == "eval"],
        step_from_cache=0 < had == len(list(cache.glob("jit_train_step-*"))), cached_steps_before=had, **found)
