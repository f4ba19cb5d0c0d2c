"""jaxseg export-table: every architecture, small, as an ONNX file; a table."""

import argparse
import gc
import json
from pathlib import Path

from jaxseg.checks import lookup
from jaxseg.files import write_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("--out", required=True, help="folder for export.md and export.json")
    parser.add_argument("--models", metavar="MODEL", nargs="+", help="of `jaxseg list models` (default: all)")


def main(args: argparse.Namespace) -> int:
    """Exports the models one after the other, each at two sizes. Returns 1 if one cannot be exported, else 0."""
    import jax

    from jaxseg.bench.exported import SIZES, measure, table
    from jaxseg.models import MODELS

    names = args.models or list(MODELS)
    for name in names:
        lookup(MODELS, name, "model")
    out, rows = Path(args.out), []
    for name in names:
        for size in SIZES:
            rows.append(measure(name, size))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            write_text(out / "export.md", table(rows))
            write_text(out / "export.json", json.dumps(rows, indent=1) + "\n")
        jax.clear_caches()
        gc.collect()
    return 1 if any("error" in row for row in rows) else 0
