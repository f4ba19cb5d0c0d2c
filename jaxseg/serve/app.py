"""The routes of a server, as an ASGI application of Starlette."""

import importlib.util
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from jaxseg.checks import UserError, printable
from jaxseg.serve import answers
from jaxseg.serve.service import Service

if TYPE_CHECKING:
    import starlette.applications
    import starlette.requests
    import starlette.responses

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
ROUTES = "POST /predict, GET /classes, GET /health, GET /metrics"


def make_app(service: Service, *, page: bool = False) -> "starlette.applications.Starlette":
    """Returns the application: POST /predict, GET /classes, /health and /metrics; with `page` also the page at /.

    Args:
      service: of the model.
      page: whether to serve the page on which images are dropped.
    """
    check_installed()
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
    from starlette.routing import Route

    described = answers.describe(service.trained, choices=service.choices)
    html = resources.files("jaxseg.serve").joinpath("page.html").read_text(encoding="utf-8") if page else ""

    async def health(request: "starlette.requests.Request") -> "starlette.responses.Response":
        if service.stopping:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    async def metrics(request: "starlette.requests.Request") -> "starlette.responses.Response":
        return PlainTextResponse(service.counters.text(), media_type="text/plain; version=0.0.4")

    async def classes(request: "starlette.requests.Request") -> "starlette.responses.Response":
        return JSONResponse(described)

    async def index(request: "starlette.requests.Request") -> "starlette.responses.Response":
        return HTMLResponse(html, headers={"Content-Security-Policy": POLICY})

    async def unknown(request: "starlette.requests.Request", error: HTTPException) -> "starlette.responses.Response":
        return JSONResponse({"error": f"{error.detail}. This server knows {ROUTES}."}, error.status_code, error.headers)

    routes = [
        Route("/predict", service.predict, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/classes", classes),
    ]
    routes += [Route("/", index)] if page else []
    return Starlette(routes=routes, exception_handlers={HTTPException: unknown})


# The page talks to its own server alone, and shows images that it made itself.
POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:"
)


def with_log(app: App) -> App:
    """Returns an application that says every request in a line: client, request, status and milliseconds.

    What a client chose is escaped, so that it steers no terminal and starts no line of its own.
    """

    async def logged(scope: Message, receive: Receive, send: Send) -> None:
        began, statuses = time.perf_counter(), []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            if scope["type"] == "http":
                seconds = time.perf_counter() - began
                print(_line(scope, statuses, seconds), file=sys.stderr, flush=True)

    return logged


def _line(scope: Message, statuses: list[int], seconds: float) -> str:
    client = (scope.get("client") or ("-",))[0]
    path = printable(scope["path"].replace("\n", "\\n").replace("\t", "\\t"))
    return (
        f"{client} {printable(scope['method'])} {path[:200]} {statuses[0] if statuses else '-'} {1e3 * seconds:.1f} ms"
    )


def check_installed() -> None:
    """Raises a `UserError` where the packages of the extra are missing."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"The server needs {' and '.join(missing)}, which is not installed: pip install 'jaxseg[serve]'"
        )
