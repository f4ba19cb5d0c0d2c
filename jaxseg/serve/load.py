"""A load test: many clients send images to a server, and what they waited is told.

python -m jaxseg.serve.load http://127.0.0.1:8000 IMAGE ... --requests 2000 --clients 1 16
"""

import argparse
import http.client
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np


def measure(address: str, bodies: Sequence[bytes], *, requests: int, clients: int, query: str = "") -> dict[str, Any]:
    """Sends images, each client one after the other, and returns statuses, images a second and waiting times.

    Args:
      address: of the server, http://HOST:PORT.
      bodies: files of images, sent in turns.
      requests: in all.
      clients: that send at one time, each over a connection of its own.
      query: of the request, such as "answer=probabilities".
    """
    statuses: Counter[int] = Counter()
    waited: list[float] = []
    numbers = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        connection = _connect(address)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            began = time.perf_counter()
            connection.request("POST", f"/predict?{query}", body=bodies[number % len(bodies)])
            response = connection.getresponse()
            response.read()
            seconds = time.perf_counter() - began
            with lock:
                statuses[response.status] += 1
                waited.append(seconds)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    p50, p99 = np.quantile(waited, (0.5, 0.99)) if waited else (np.nan, np.nan)
    return {"statuses": dict(statuses), "images_per_s": len(waited) / seconds, "p50_s": float(p50), "p99_s": float(p99)}


def resident_mib(address: str) -> float:
    """Returns the memory that the server's process holds, as its metrics say."""
    connection = _connect(address)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)[1]) / 2**20


def _connect(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    return http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=300)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for every number of clients; returns 1 if a request was not answered with 200."""
    parser = argparse.ArgumentParser(prog="python -m jaxseg.serve.load", description="Load test of `jaxseg serve`.")
    parser.add_argument("address", help="of the server, http://HOST:PORT")
    parser.add_argument("images", nargs="+", type=Path, help="files that are sent, in turns")
    parser.add_argument("--requests", type=int, default=200, help="for every number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16], help="that send at one time")
    parser.add_argument("--query", default="", help="of the request, such as answer=probabilities")
    args = parser.parse_args(argv)
    bodies, failed = [path.read_bytes() for path in args.images], 0
    print(f"memory of the server before: {resident_mib(args.address):.0f} MiB")
    for clients in args.clients:
        found = measure(args.address, bodies, requests=args.requests, clients=clients, query=args.query)
        failed += sum(count for status, count in found["statuses"].items() if status != 200)
        print(
            f"{clients} clients: {found['images_per_s']:.1f} images/s, p50 {1e3 * found['p50_s']:.1f} ms,"
            f" p99 {1e3 * found['p99_s']:.1f} ms, statuses {found['statuses']},"
            f" memory {resident_mib(args.address):.0f} MiB",
            flush=True,
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
