"""The flags of a run of several processes, which several commands may share."""

import argparse
import contextlib

from jaxseg.checks import UserError
from jaxseg.experiment.processes import HEARTBEAT, find_group, joined


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="join the run's other processes, as Slurm, Open MPI, a Kubernetes JobSet or Cloud TPU tells",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where the processes meet: process 0's machine")
    parser.add_argument("--processes", metavar="N", type=int, help="number of processes")
    parser.add_argument("--process", metavar="I", type=int, help="number of this process, from 0")
    parser.add_argument(
        "--heartbeat",
        metavar="SECONDS",
        type=float,
        default=HEARTBEAT,
        help="of silence: then one is dead",
    )


def joining(args: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Returns a context in which this process is one of those that the flags name; without flags, nothing changes."""
    flags = (args.coordinator, args.processes, args.process)
    if not args.distributed and flags == (None, None, None):
        return contextlib.nullcontext()
    if not 1 <= args.heartbeat <= 3600:
        raise UserError(f"--heartbeat is a number of seconds, from 1 to 3600, got {args.heartbeat:g}.")
    return joined(find_group(*flags), heartbeat=args.heartbeat)
