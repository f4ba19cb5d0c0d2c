"""Program exit: an error that the user can mend is one screen of text instead of a traceback."""

import errno
import os
import sys
import threading
import warnings
from collections.abc import Callable
from logging import CRITICAL, getLogger
from types import TracebackType
from typing import Any

from absl import logging

from jaxseg.checks import Interrupted, UserError, printable
from jaxseg.experiment.compile_cache import drop_broken

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HINTS = {
    None: "Check the path and its permissions.",
    errno.EROFS: "Nothing may be written there: name a folder elsewhere, with --out or --workdir.",
    errno.EIO: "The disk, or the connection to it, has failed. Nothing that was written before is touched.",
    errno.ESTALE: "The file system has lost the file, as NFS does when another machine replaces it. Try again.",
}


def guard(function: Callable[..., int | None], *args: Any) -> int:
    """Calls `function(*args)` and returns the exit status; user errors are printed, others go through.

    >>> guard(lambda: 0)
    0
    """
    try:
        return function(*args) or 0
    except UserError as error:
        return fail(str(error))
    except Interrupted as stop:
        print(printable(str(stop)), file=sys.stderr, flush=True)
        return stop.code
    except KeyboardInterrupt:
        return fail("Interrupted.", 130)
    except OSError as error:
        if error.errno in FULL:
            return fail(f"The disk is full, or a quota: {error}. Free some space and run the same command again.")
        if error.errno in (errno.EEXIST, errno.ENOTDIR) and error.filename:
            return fail(f"{error.filename} is a file, or a broken link, where a folder is needed. Name another path.")
        if error.errno is None or isinstance(error, BrokenPipeError):  # a library's own, or a reader that went away
            raise
        return fail(f"{error.filename or 'A file'}: {error.strerror}. {HINTS.get(error.errno, HINTS[None])}")


def open_streams() -> None:
    """Opens the standard streams that whoever started the program has closed, on nothing.

    Else the first file that is opened takes the place of one, and what a library prints goes into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 -- to the end of the program


def quieten() -> None:
    """Leaves to `guard` what libraries would print besides: their own log, and the traces of orbax's threads.

    What fails in such a thread is raised again in the main one. A warning becomes one line of text.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8, nor terminals
    logging.set_verbosity(logging.FATAL)
    getLogger("asyncio").setLevel(CRITICAL)
    sys.excepthook, sys.unraisablehook = _show_uncaught, _show_unraisable
    warnings.showwarning = _show_warning
    threading.excepthook = _show_thread_error


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Prints the text of a warning, without the line of code that gave it."""
    yellow, end = ("\033[33m", "\033[0m") if _colored() else ("", "")
    message = drop_broken(str(message)) or message
    print(f"{yellow}warning:{end} {printable(str(message))}", file=sys.stderr, flush=True)


def _colored() -> bool:
    """Whether messages have colors: on a terminal, unless NO_COLOR (no-color.org) is set."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Shows what ends the program, and not what TensorStore says when a disk is full, dozens of times."""
    if threading.current_thread() is threading.main_thread() and str(error) != "Event loop is closed":
        sys.__excepthook__(kind, error, trace)


def _show_thread_error(args: threading.ExceptHookArgs) -> None:
    if not type(args.thread).__module__.startswith(("orbax.", "tensorboardX.")):
        threading.__excepthook__(args)


def _show_unraisable(args: "sys.UnraisableHookArgs") -> None:
    if "tensorboardX" in getattr(args.object, "__module__", ""):  # it closes files at the end, a full disk's too
        return
    if str(args.exc_value) != "Event loop is closed":  # what TensorStore's threads say when a write has failed
        sys.__unraisablehook__(args)


def fail(message: str, code: int = 1) -> int:
    """Prints an error to stderr, red on a terminal, and returns `code`; of an endless line the middle is left out."""
    lines = [line if len(line) <= 4000 else f"{line[:2000]} … {line[-500:]}" for line in message.split("\n")]
    message = "\n".join(lines)
    red, end = ("\033[31m", "\033[0m") if _colored() else ("", "")
    print(f"\n{red}error:{end} {printable(message)}", file=sys.stderr, flush=True)
    return code
