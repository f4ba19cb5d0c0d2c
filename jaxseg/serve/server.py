"""The server's process: its socket, its signals, and an end at which nothing that was accepted is lost."""

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from jaxseg.checks import UserError
from jaxseg.serve.app import check_installed, make_app, with_log
from jaxseg.serve.service import Service

if TYPE_CHECKING:
    import uvicorn

LAST_BYTES = 0.2  # seconds in which requests that are on their way may still arrive when the server stops
KEEP_ALIVE = 15  # seconds that a connection without a request stays open


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    page: bool = False,
    log: bool = True,
    stop: threading.Event | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Answers requests until SIGTERM or Ctrl-C; what was accepted is answered first. A second Ctrl-C ends at once.

    Args:
      service: of the model; it is closed at the end.
      host: name or address to listen at; "127.0.0.1" is heard by this machine alone.
      port: 0 takes one that is free.
      page: whether to serve the page on which images are dropped.
      log: whether to say every request on stderr.
      stop: when it is set, the server ends as after SIGTERM; for a server in a thread, which gets no signals.
      started: called with the address, http://HOST:PORT, when it answers.

    Raises:
      UserError: the packages are missing, or the address can't be listened at.
    """
    check_installed()
    import uvicorn

    app = make_app(service, page=page)
    config = uvicorn.Config(
        with_log(app) if log else app,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        loop="asyncio",
        http="h11",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(service.limits.seconds) + 10,
    )
    listening = _listen(host, port)
    try:
        _make_server(config, service, stop, started).run(sockets=[listening])
    finally:
        listening.close()
        service.close()


def _make_server(
    config: "uvicorn.Config", service: Service, stop: threading.Event | None, started: Callable[[str], None]
) -> "uvicorn.Server":
    """uvicorn's server, but for how it starts, ends, and what it waits for; the arguments are those of `serve`."""
    import uvicorn

    waiting: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    class Server(uvicorn.Server):
        """uvicorn's, which ends with the status 0 when it was asked to, and waits for what is on its way."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started(_address(sockets[0]))

        async def on_tick(self, counter: int) -> bool:  # ten times a second
            _close_half_requests(self.server_state.connections, waiting, min(service.limits.seconds, KEEP_ALIVE))
            return await super().on_tick(counter) or (stop is not None and stop.is_set())

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            numbers = (signal.SIGINT, signal.SIGTERM)
            before = {number: signal.signal(number, self.handle_exit) for number in numbers}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            service.stopping = True
            for server in self.servers:
                server.close()
            await asyncio.sleep(LAST_BYTES)
            await super().shutdown(sockets)

    return Server(config)


def _close_half_requests(connections: Iterable[Any], waiting: MutableMapping[Any, float], seconds: float) -> None:
    """Closes the connections whose client has not sent the whole head of a request for so long; uvicorn waits for ever.

    Args:
      connections: of uvicorn's HTTP protocol. Between requests of one connection, uvicorn has a timer of its own.
      waiting: since when each is waited for, by the monotonic clock; it is kept up to date.
      seconds: that a client has.
    """
    now = time.monotonic()
    for connection in list(connections):
        cycle = connection.cycle  # of the last request whose head came
        if cycle is None or (cycle.response_complete and connection.timeout_keep_alive_task is None):
            if now - waiting.setdefault(connection, now) > seconds:
                connection.transport.close()
        else:
            waiting.pop(connection, None)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UserError(f"--port must be from 0 to 65535, got {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)  # of TCP by name: or asyncio lets answers wait 40 ms (Nagle)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(512)
        except OSError:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise UserError(
            f"{host}:{port} can't be listened at: {error.strerror or error}. Choose another --port (0 takes a free"
            " one), or an address of this machine as --host."
        ) from None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
