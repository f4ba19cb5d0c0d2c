"""Runs the jobs of the GPU check, many at once, each a process of its own with a limit, within a deadline.

Compiling goes on in parallel; who times something has the card alone, see `common.card`. This process never stands still: it
ends who holds the card too long, and wakes the others where a holder has died.
"""
import json, os, signal, subprocess, sys, time, zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = Path(os.environ["OUT"])
TINY = bool(os.environ.get("TINY"))  # CPU rehearsal
BEGAN = time.monotonic() - (time.time() - float(os.environ["CHECK_BEGAN"]))
WORK = Path(f"/tmp/gpu_check_work_{os.getpid()}")
for folder in ("pids", "expected", "compiled", "hlo", "logs"):
    (WORK / folder).mkdir(parents=True)
git = lambda *command: subprocess.run(["git", *command], capture_output=True, text=True).stdout.strip()
os.environ["CHECK_WORK"], os.environ["STAGE_ENDS"] = str(WORK), "inf"
os.environ.setdefault("CHECK_COMMIT", git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else ""))
os.environ.setdefault("CHECK_RUN", "+".join(sys.argv[1:])[:60] or "A")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(WORK / "cache") if TINY else "/tmp/gpu_check_cache")
os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}  # as train.py sets them
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # of the card's memory only what is needed: torch and others share it
sys.path.insert(0, str(HERE))
from common import PIDS, add, alive, signal_others  # after the environment

PAIRS = ["unet_r34", "segformer_b2", "deeplabv3plus_r50", "upernet_convnext_tiny", "fpn_r50", "pspnet_r50"]
MODELS = ["unet", "segformer", "fpn", "deeplabv3plus", "upernet", "segnet", "deconvnet"]
DETERMINISM = ["unet", "segformer", "segnet"]
PLANS = {
    "A": (390, ["device", *(f"pair:{n}" for n in PAIRS), "pair:segformer_b2:level0", "ops", "pair:unet_r34_f32", "loop:0", "loop:8"]),
    "B": (250, ["device", "loop:0", *(f"correct:{n}" for n in ("losses", *MODELS)), *(f"determinism:{n}:default" for n in DETERMINISM), *(f"determinism:{n}:deterministic" for n in DETERMINISM), "loop:8", "shapes"]),
}
LIMITS = {"device": 60, "pair": 1e9, "ops": 330, "loop": 140, "correct": 150, "determinism": 200, "shapes": 120, "pytest": 270}
WEIGHTS = {"device": 0, "pair": 1, "ops": 3, "loop": 1, "correct": 1, "determinism": 2, "shapes": 1, "pytest": 12}
PLACES = 3 if TINY else 16  # of the processor: jobs whose weights are more than this wait
deadline, names = PLANS.get("".join(sys.argv[1:2]) or "A", (530, sys.argv[1:]))
if sys.argv[2:] and sys.argv[1] in PLANS:  # A NAME ...: the limit of A, these jobs
    names = sys.argv[2:]
DEADLINE = float(os.environ.get("DEADLINE", 3000 if TINY else deadline))
running, ended = {}, {}


def now():
    return time.monotonic() - BEGAN


def may_start(name):
    kind = name.split(":")[0]
    if sum(WEIGHTS.get(n.split(":")[0], 0) for n in running) + WEIGHTS.get(kind, 0) > PLACES:
        return False
    if kind in ("loop", "shapes"):  # one after another; in A after the step that they share has been compiled and timed
        earlier = [n for n in names[: names.index(name)] if n.split(":")[0] in ("loop", "shapes") or n == "pair:unet_r34"]
        return all(n in ended for n in earlier)
    if name == "pair:unet_r34_f32" and len(names) > 2:
        return sum(1 for n in ended if n.startswith("pair")) + len(list((WORK / "compiled").iterdir())) >= 3 or now() > 150
    return True


def start(name):
    script, _, rest = name.partition(":")
    limit = min(LIMITS.get(script, 60) if not TINY else 1e9, DEADLINE - 9 - now())
    if limit < (5 if TINY else 25):
        ended[name] = "skipped"
        (WORK / "expected" / name.removeprefix("pair:").replace(":", "")).unlink(missing_ok=True)
        add(stage=name, skipped=True, left=DEADLINE - now())
        return
    log = WORK / "logs" / (name.replace(":", "_") + ".txt")
    own = WORK / f"own_{name.replace(':', '_')}"
    env = {**os.environ, "STAGE": name, "STAGE_ENDS": str(time.monotonic() + limit), "TORCHINDUCTOR_CACHE_DIR": f"{own}/inductor", "TRITON_CACHE_DIR": f"{own}/triton", "TORCHINDUCTOR_COMPILE_THREADS": "6"}
    if rest.endswith(":level0") and not TINY:
        env["XLA_FLAGS"] = env.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    if script == "pytest":
        env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-X", "faulthandler", str(HERE / f"stage_{script}.py"), *filter(None, rest.split(":"))], env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    running[name] = (process, now(), now() + limit, log)
    print(f"{now():6.1f}  {name} starts, {limit:.0f} s", flush=True)


def end(name, code):
    process, began, _, log = running.pop(name)
    ended[name] = code
    (PIDS / str(process.pid)).unlink(missing_ok=True)
    (WORK / "expected" / name.removeprefix("pair:").replace(":", "")).unlink(missing_ok=True)
    text = log.read_text(errors="replace")
    add(stage=name, exit=code, seconds=round(now() - began, 1), started=round(began, 1), tail=text[-1500:] if code else "")
    try:
        report()
    except Exception as error:  # the rows are what counts
        print("report:", repr(error), flush=True)


def stop(name):
    """Lets it say where it stands, then ends it."""
    process = running[name][0]
    for number, wait in ((signal.SIGCONT, 0.05), (signal.SIGABRT, 0.6)):
        process.send_signal(number)
        time.sleep(wait)
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()
    end(name, "time")


def watch_holder():
    try:
        holder = json.loads((WORK / "holder").read_text())
    except (OSError, ValueError):
        return
    if alive(holder["pid"]) and time.monotonic() > holder["until"] and (not TINY or os.environ.get("TINY_HOLD")):
        add(stage="card", exit="held too long", seconds=0, pid=holder["pid"])
        os.kill(holder["pid"], signal.SIGABRT)
        time.sleep(0.5)
        try:
            os.kill(holder["pid"], 9)
        except ProcessLookupError:
            pass
    elif not alive(holder["pid"]):
        time.sleep(0.1)
        try:
            if json.loads((WORK / "holder").read_text())["pid"] == holder["pid"]:
                (WORK / "holder").unlink()
        except (OSError, ValueError):
            pass
        signal_others(signal.SIGCONT)


def main():
    for old in ("rows.jsonl", "hlo.zip", "logs.zip", "report.md"):
        (OUT / old).unlink(missing_ok=True)
    for name in names:
        if name.startswith("pair:"):
            (WORK / "expected" / name.removeprefix("pair:").replace(":", "")).touch()
    waiting = list(names)
    while waiting or running:
        for name in list(waiting):
            if may_start(name):
                waiting.remove(name)
                start(name)
        for name, (process, _, limit, _) in list(running.items()):
            if process.poll() is not None:
                print(f"{now():6.1f}  {name} ends, exit {process.returncode}", flush=True)
                end(name, process.returncode)
            elif now() > limit:
                print(f"{now():6.1f}  {name}: time is up", flush=True)
                stop(name)
        watch_holder()
        time.sleep(0.1)
    for path in PIDS.iterdir():  # what a job that was ended had started
        if alive(int(path.name)):
            os.kill(int(path.name), 9)
    report()
    for file, folder in (("logs.zip", "logs"), ("hlo.zip", "hlo")):
        with zipfile.ZipFile(OUT / file, "w", zipfile.ZIP_DEFLATED if folder == "logs" else zipfile.ZIP_STORED) as archive:
            for path in sorted((WORK / folder).iterdir()) + ([*WORK.glob("*.txt"), *WORK.glob("held.jsonl")] if folder == "logs" else []):
                archive.write(path, path.name)
    print((OUT / "report.md").read_text()[-9500:], flush=True)
    print(f"{now():.0f} s in all")


def report():
    rows = [json.loads(line) for line in (OUT / "rows.jsonl").read_text().splitlines()]
    show = lambda v, d=1: "-" if not isinstance(v, (int, float)) else f"{v:.{d}f}"
    text = ["# GPU check", ""]
    for r in rows:
        if r.get("kind") == "device":
            text += [f"{r['name']}, jax {r['jax']}, torch {r.get('torch')}, {r['cpus']} cores, commit {r['commit']}, run {r['run']}", ""]
    final = {}
    for r in rows:
        if r.get("kind") == "pair":
            final.setdefault((r["name"], r["variant"]), {}).update(r)
    if final:
        text += ["## Training steps beside smp (channels_last, autocast, torch.compile)", "", "| model | jaxseg ms | compiled ms | ratio | eager ms | jaxseg/eager | jaxseg alone ms (spread) | predict ms | step GiB | smp GiB | init, trace, compile, predict s | torch.compile s |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
        for (name, variant), r in final.items():
            eager = r.get("eager_ms")
            text.append(f"| {name} {variant} {r['batch']}x{r['size']}² {r['dtype']} | {show(r.get('jaxseg_ms'), 2)} | {show(r.get('compiled_ms'), 2)} | {show(r.get('ratio'), 3)} | {show(eager, 2)} | {show(r['jaxseg_beside_eager_ms'] / eager if eager else None, 3)} |"
                        f" {show(r.get('jaxseg_alone_ms'), 2)} ({show(r.get('jaxseg_spread'), 3)}) | {show(r.get('jaxseg_predict_ms'), 2)} | {show(r.get('jaxseg_step_gib'), 2)} | {show(r.get('torch_gib', r.get('eager_gib')), 2)} |"
                        f" {', '.join(show(r.get(f'jaxseg_{k}_s')) for k in ('init', 'trace', 'compile', 'predict_compile'))} | {show(r.get('torch_compile_s'))} |")
        text.append("")
    ops = [r for r in rows if r.get("kind") == "op"]
    if ops:
        text += ["## Operations, ways side by side", "", "| case | way | ms | agrees | temp MiB | compile s |", "|---|---|---|---|---|---|"]
        text += [f"| {r['case']} | {r['way']} | {show(r.get('ms'), 3)} | {r.get('error') or (show(r['agrees'], 6) if r.get('agrees') is not None else '')} | {show(r.get('temp_mib'), 0)} | {show(r.get('compile_s'))} |" for r in ops] + [""]
    rest = [r for r in rows if r.get("kind") in ("loop", "correct", "determinism", "shapes", "pytest")]
    if rest:
        skip = ("tail", "tails", "commit", "run", "worst_leaves", "xla_flags")
        text += ["## The rest", ""] + ["- " + json.dumps({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in r.items() if k not in skip}) for r in rest] + [""]
    text += ["## Jobs", ""] + [f"- {r['stage']}: " + ("skipped" if r.get("skipped") else f"exit {r.get('exit')}, {r.get('seconds')} s from {r.get('started')}") for r in rows if "stage" in r]
    (OUT / "report.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
