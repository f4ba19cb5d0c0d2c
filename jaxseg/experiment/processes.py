"""The processes of a run: how they find each other, and that none of them waits for one that is gone.

`jax.distributed` connects them. Besides, each has a thread that says every second that it lives, in the key-value store
of JAX's coordination service, and looks whether the others do: process 0 at all, the others at process 0. A process
that is not heard of for `HEARTBEAT` seconds is taken for dead, and all end with the status `GONE`, whatever their main
threads wait for.
"""

import atexit
import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxseg.checks import Interrupted, UserError

HEARTBEAT = 20.0  # seconds of silence
GONE = 75  # the exit status for "try again" (EX_TEMPFAIL of sysexits.h): a supervisor should start all processes again
_FLAGS = {  # field -> (flag, environment variable)
    "coordinator": ("--coordinator HOST:PORT", "JAX_COORDINATOR_ADDRESS"),
    "processes": ("--processes N", "JAX_NUM_PROCESSES"),
    "process": ("--process I", "JAX_PROCESS_ID"),
}
# What XLA says, with errors of several types, where it can't reach another process.
_CONNECTION = re.compile("gloo|nccl|collective|connection|peer|barrier|unavailable|deadline", re.IGNORECASE)
_LOST = "jaxseg/lost"
_BEAT = "jaxseg/beat/"


@dataclasses.dataclass(frozen=True)
class Group:
    """The processes of a run, seen from one of them.

    Args:
      coordinator: HOST:PORT at which they meet, of the machine of process 0.
      processes: their number.
      process: the number of this one, from 0.
      local_devices: the accelerators of this machine that are this process's; None is all.
    """

    coordinator: str
    processes: int
    process: int
    local_devices: Sequence[int] | None = None


def find_group(
    coordinator: str | None, processes: int | None, process: int | None, environment: Mapping[str, str] = os.environ
) -> Group:
    """Returns the group that flags, environment variables or a cluster describe, each going before the next.

    Args:
      coordinator: of the flag, None if it was not given; so for the others.
      processes: their number.
      process: the number of this one.
      environment: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      UserError: something is missing, and no cluster is found that knows it; or a value is wrong.
    """
    given: dict[str, Any] = {"coordinator": coordinator, "processes": processes, "process": process}
    for name, (_, variable) in _FLAGS.items():
        if given[name] is None and environment.get(variable):
            given[name] = environment[variable] if name == "coordinator" else _whole(environment[variable], variable)
    local_devices = None
    if None in given.values():
        *found, local_devices = _ask_cluster(*given.values())
        given = dict(zip(given, found, strict=True))
    missing = [f"{flag} (or {variable})" for name, (flag, variable) in _FLAGS.items() if given[name] is None]
    if len(missing) == len(given):
        raise UserError(
            "--distributed finds no Slurm, Open MPI, Kubernetes JobSet or Cloud TPU here. On plain machines start each"
            " process with --coordinator HOST:PORT --processes N --process I."
        )
    if missing:
        raise UserError(f"Several processes need all three: {' and '.join(missing)} missing.")
    group = Group(**given, local_devices=local_devices)
    if not re.fullmatch(r"(\S+):(\d{1,5})", group.coordinator) or not 0 < _port(group.coordinator) < 2**16:
        raise UserError(f"--coordinator is HOST:PORT, the machine of process 0, got '{group.coordinator}'.")
    if group.processes < 1 or not 0 <= group.process < group.processes:
        raise UserError(
            f"--process counts from 0 to --processes - 1, got --process {group.process} --processes {group.processes}."
        )
    return group


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _whole(text: str, variable: str) -> int:
    if not text.strip().isdecimal():
        raise UserError(f"{variable} is a whole number, got '{text}'.")
    return int(text)


def _ask_cluster(*given: Any) -> tuple[Any, ...]:
    """What a cluster that JAX knows says of what is None, and the devices of this process."""
    try:
        from jax._src.clusters import ClusterEnv

        return ClusterEnv.auto_detect_unset_distributed_params(*given, None, None, 300)
    except (ImportError, AttributeError, TypeError):  # JAX's own; if it moved, flags and variables remain
        return *given, None
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise UserError(f"The cluster's description of the processes can't be used: {error}") from error


@contextlib.contextmanager
def joined(group: Group, *, heartbeat: float = HEARTBEAT, timeout: int = 300) -> Iterator[None]:
    """Joins the processes of a run while the block runs; must come before anything that JAX computes.

    If another process is lost, or ends with an error, this one ends too: with a sentence, and the status `GONE` or 1.

    Args:
      group: of `find_group`.
      heartbeat: seconds without a word after which a process is taken for dead.
      timeout: seconds that the processes wait for each other at the start.

    Raises:
      UserError: the processes do not find each other.
    """
    service = _start_service(group, heartbeat) if group.process == 0 else None
    _connect(group, timeout, own_service=service is None)
    watch = _Watch(group, heartbeat)
    try:
        yield
    except Interrupted:  # all stop at the same step
        _part(watch, service)
        raise
    except UserError as error:
        time.sleep(heartbeat + 5 if _lacks_peer(error) else 0)
        watch.tell(1, f"Process {group.process} of {group.processes} stopped: {error}")
        atexit.register(_leave, 1)
        raise
    except BaseException as error:
        time.sleep(heartbeat + 5 if _lacks_peer(error) else 0)
        watch.tell(1, f"Process {group.process} of {group.processes} failed: {type(error).__name__}: {error}")
        atexit.register(_leave, 1)
        raise
    _part(watch, service)


def _lacks_peer(error: BaseException | None) -> bool:
    """Whether an error may be what a process sees of another's death: a sum over both fails, in a save too.

    Whoever asks waits until the watch has found out who it was, and has ended this process.
    """
    while error is not None:
        if not isinstance(error, UserError) and _CONNECTION.search(str(error)):
            return True
        error = error.__cause__
    return False


def _part(watch: "_Watch", service: "subprocess.Popen[str] | None") -> None:
    """Waits until all processes have come so far, and ends what `joined` has started."""
    watch.close()
    jax.distributed.shutdown()
    if service is not None:
        service.communicate("done\n", timeout=60)


def _connect(group: Group, timeout: int, *, own_service: bool) -> None:
    before = signal.getsignal(signal.SIGTERM)
    elsewhere = {} if own_service else {"coordinator_bind_address": f"localhost:{_free_port()}"}  # nobody goes there
    try:
        jax.distributed.initialize(
            group.coordinator,
            group.processes,
            group.process,
            local_device_ids=group.local_devices,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=100,
            **elsewhere,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:300]
        raise UserError(
            f"Process {group.process} of {group.processes} did not meet the others at {group.coordinator} within"
            f" {timeout} s: {reason}. Start all of them, with the same --coordinator and --processes."
        ) from error
    signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # JAX has taken it; training handles it itself


def _start_service(group: Group, heartbeat: float) -> "subprocess.Popen[str] | None":
    """Starts the coordination service in a process of its own; None if it must run in this one."""
    host, _, port = group.coordinator.rpartition(":")
    deadline = time.monotonic() + heartbeat + 40
    while _answers(host, int(port)):  # of a run that ended badly the service lives on for a while
        if time.monotonic() > deadline:
            raise UserError(f"--coordinator {group.coordinator}: another program listens there. Choose another port.")
        time.sleep(1)
    address = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", f"[::]:{port}")
    program = [sys.executable, "-P", str(Path(__file__).with_name("coordinator.py"))]
    service = subprocess.Popen(
        [*program, address, str(group.processes), str(heartbeat + 10)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # whoever reads the run's would wait for this process, too
        text=True,
        start_new_session=True,  # Ctrl-C is for the run
    )
    said = service.stdout.readline().strip()
    if said == "ready":
        return service
    if "ImportError" in said or "AttributeError" in said or "TypeError" in said:  # another jaxlib
        return None
    raise UserError(f"--coordinator {group.coordinator}: no service can be started there: {said}")


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


class _Watch:
    """The thread that says that this process lives, and ends it when another is lost."""

    def __init__(self, group: Group, heartbeat: float):
        from jax._src.distributed import global_state

        self._client, self._group, self._heartbeat = global_state.client, group, heartbeat
        self._others = range(1, group.processes) if group.process == 0 else range(1)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jaxseg-processes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; the others no longer wait for a sign of life."""
        self._closed.set()
        self._thread.join(5)
        with contextlib.suppress(Exception):  # the service is gone: so is whoever would read it
            self._set(f"{_BEAT}{self._group.process}", "done")

    def tell(self, code: int, sentence: str) -> None:
        """Ends the thread, and all other processes with a status and a sentence. The first that tells is believed."""
        self._closed.set()
        with contextlib.suppress(Exception):
            self._client.key_value_set(_LOST, f"{code} {sentence}")

    def _run(self) -> None:
        beats, count, answered = {}, 0, time.monotonic()
        period = min(1.0, self._heartbeat / 5)
        while not self._closed.wait(period):
            count += 1
            try:
                self._set(f"{_BEAT}{self._group.process}", str(count))
                lost, heard = self._get(_LOST), {i: self._get(f"{_BEAT}{i}") for i in self._others}
                answered = time.monotonic()
            except Exception as error:  # of jaxlib: the service does not answer
                if time.monotonic() - answered < self._heartbeat:
                    continue
                lost = f"{GONE} {self._gone(f'The coordination service at {self._group.coordinator}', error)}"
                heard = {}
            for i, beat in heard.items():
                if beats.get(i, ("", 0.0))[0] != beat or i not in beats:
                    beats[i] = (beat, time.monotonic())
                elif beat != "done" and time.monotonic() - beats[i][1] > self._heartbeat and not lost:
                    lost = f"{GONE} {self._gone(f'Process {i} of {self._group.processes}')}"
                    with contextlib.suppress(Exception):
                        self._client.key_value_set(_LOST, lost)
            if lost and not self._closed.is_set():
                code, _, sentence = lost.partition(" ")
                print(f"\nerror: {sentence}", file=sys.stderr, flush=True)
                _leave(int(code))

    def _gone(self, who: str, error: Exception | None = None) -> str:
        why = f" ({str(error).splitlines()[0][:120]})" if error else ""
        return (
            f"{who} has not been heard of for {self._heartbeat:.0f} s{why}: it died, or its machine did. All processes"
            f" end with status {GONE}. Start all of them again with the same command, or fewer or more of them: the run"
            " goes on from its last checkpoint."
        )

    def _set(self, key: str, value: str) -> None:
        self._client.key_value_set(key, value, allow_overwrite=True)

    def _get(self, key: str) -> str:
        try:
            return self._client.key_value_try_get(key)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return ""
            raise


def _leave(code: int) -> None:
    """Ends the process at once: its other threads, JAX's among them, may wait for a process that is gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
