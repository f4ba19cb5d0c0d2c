"""The meeting point of a run's processes: JAX's coordination service, in a process of its own.

`jax.distributed.initialize` runs the service inside process 0. If that process dies, its socket closes, and the C++
client in every other process aborts on the spot, with a stack trace and no word of what to do. So process 0 starts this
file as a program, which outlives it long enough for the others to learn of its death from `processes.py` and to leave.

    python coordinator.py ADDRESS COUNT SECONDS

It says "ready" or what is wrong on stdout, and ends when it reads a line from stdin, or SECONDS after stdin closed.
Nothing of jaxseg is imported, so that it starts at once.
"""

import sys
import time


def serve(address: str, count: int, seconds: float) -> None:
    """Runs the service at `address` for `count` processes until stdin says so, or for `seconds` after it closed."""
    from jaxlib import _jax

    service = _jax.get_distributed_runtime_service(address, count, heartbeat_timeout=100, shutdown_timeout=60)
    print("ready", flush=True)
    if not sys.stdin.readline():
        time.sleep(seconds)
    service.shutdown()


if __name__ == "__main__":
    try:
        serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    except Exception as error:  # of jaxlib, which says why
        print(f"{type(error).__name__}: {error}", flush=True)
        raise SystemExit(1) from None
