"""The operations of `jaxseg bench --ops`, several at once. `stage_ops.py CASE [FIRST]`: one of them, from way number FIRST on.

Without arguments: all cases in order of worth, each a process of its own, three at a time; a way that does not come back within
WAY_LIMIT seconds is ended and the case goes on with the next.
"""
import sys
from common import *
WAY_LIMIT = 40
from jaxseg.bench.ops_convolutions import CONVOLUTIONS
from jaxseg.bench.ops_others import OTHERS
OPERATIONS = {**CONVOLUTIONS, **OTHERS}
ORDER = sorted(OPERATIONS, key=lambda name: "atrous" not in name and name not in OTHERS)  # in order of worth

if not sys.argv[1:]:
    chosen = [c for c in ORDER if c in os.environ.get("ONLY", ",".join(ORDER)).split(",")]
    waiting, running = list(chosen), {}
    while waiting or running:
        while waiting and len(running) < (1 if TINY else 3) and left() > 10:
            case = waiting.pop(0)
            case, first = case if isinstance(case, tuple) else (case, 0)
            (WORK / f"op_{case}").write_text(json.dumps([first, "start", time.monotonic()]))
            running[case] = subprocess.Popen([sys.executable, __file__, case, str(first)], start_new_session=True, env={**os.environ, "STAGE": f"ops:{case}"})
        if waiting and left() <= 10:
            add(kind="op", case=",".join(c if isinstance(c, str) else c[0] for c in waiting), way="-", error="not started: out of time")
            waiting = []
        for case, process in list(running.items()):
            number, way, since = json.loads((WORK / f"op_{case}").read_text())
            if process.poll() is not None:
                del running[case]
                if process.returncode:
                    add(kind="op", case=case, way=way, error=f"exit {process.returncode}")
                    if way not in ("start", "end"):
                        waiting.insert(0, (case, number + 1))
            elif left() < 2 or time.monotonic() - since > WAY_LIMIT + 20 * (way == "start"):
                os.killpg(process.pid, 9)
                process.wait()
                del running[case]
                add(kind="op", case=case, way=way, error=f"ended after {time.monotonic() - since:.0f} s")
                if way != "start" and left() > 10:
                    waiting.insert(0, (case, number + 1))
        time.sleep(0.1)
    sys.exit()

name, first = sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 0
register()
from functools import partial
import jax.numpy as jnp
from jaxseg.bench.ways import Scale, compare
done = 0  # ways of the comparisons before


def begin(number, way):
    part = WORK / f"op_{name}.part"
    part.write_text(json.dumps([number, way, time.monotonic()]))
    part.replace(WORK / f"op_{name}")


for comparison in OPERATIONS[name](Scale(1, 8, jnp.float32) if TINY else Scale(16)):
    names = comparison.names()
    skip = min(max(first - done, 0), len(names))
    numbers = iter(range(done + skip, done + len(names)))
    for row in compare(comparison, skip=skip, begin=lambda way: begin(next(numbers), way), hold=partial(card, 25)):
        add(kind="op", **row)
    done += len(names)
begin(99, "end")
