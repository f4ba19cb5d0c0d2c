"""Runs the notebooks, keeps what they print and draw in them, and makes pages of them.

    python -m docs.make.notebooks clouds ocr          # by their names in docs/notebooks
    python -m docs.make.notebooks driving --link CamVid=DIR

A notebook is run by Jupyter in an empty folder, from top to bottom, all but its first cell, which installs. It needs
`pip install nbclient ipykernel` and the packages of that first cell; `--link` puts a folder of yours into the empty
one. Its last cell says when, where and how long it ran. Its metadata has the digest of the code, so that a test sees
outputs of other code than the notebook's.
"""

import argparse
import base64
import datetime
import hashlib
import io
import json
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from docs.course import build
from docs.make.contents import DOCS

FOLDER = DOCS / "notebooks"
LAST = "run"  # the id of the cell that says when it ran
Cell = dict[str, Any]


def source(cell: Cell) -> str:
    """Returns the text of a cell."""
    return "".join(cell["source"])


def codes(book: dict[str, Any]) -> list[Cell]:
    """Returns the code cells of a notebook."""
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def digest(book: dict[str, Any]) -> str:
    """Returns the digest of a notebook's code: outputs that were kept are of the digest that was kept with them."""
    return hashlib.sha256("\0".join(source(cell) for cell in codes(book)[1:]).encode()).hexdigest()[:16]


def run(path: Path, links: dict[str, Path]) -> None:
    """Runs a notebook and writes it with its outputs.

    Args:
      path: of the notebook.
      links: names in the empty folder that it runs in -> folders that are linked there.
    """
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, 4)
    book.cells = [cell for cell in book.cells if cell.id != LAST]
    commit, began, before = build.commit(), time.perf_counter(), _processor()
    with tempfile.TemporaryDirectory() as folder:
        for name, target in links.items():
            (Path(folder) / name).symlink_to(target.resolve())
        client = NotebookClient(book, timeout=None, kernel_name="python3", resources={"metadata": {"path": folder}})
        with client.setup_kernel():
            for i, cell in enumerate(book.cells):
                if cell.cell_type == "code" and cell is not codes(book)[0]:
                    client.execute_cell(cell, i)
    seconds, processor = time.perf_counter() - began, _processor() - before
    for number, cell in enumerate(codes(book)):
        kept = cell.metadata.get("kept", True)
        cell.outputs = [nbformat.from_dict(row) for row in outputs(cell.outputs)] if kept else []
        cell.execution_count = number or None
        cell.metadata.pop("execution", None)
    book.metadata["code"] = digest(book)
    said = _said(" ".join([path.stem, *(f"--link {name}=DIR" for name in links)]), commit, seconds, processor)
    book.cells.append(nbformat.from_dict({"cell_type": "markdown", "id": LAST, "metadata": {}, "source": said}))
    path.write_text(nbformat.writes(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def outputs(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what is kept of a cell's outputs: what it printed, in one piece, and its pictures, made small."""
    kept: list[dict[str, Any]] = []
    printed = []
    for output in found:
        data = output.get("data", {})
        if output["output_type"] == "stream":
            printed.append("".join(output["text"]))
        elif "image/png" in data:
            picture = {"image/png": _small(data["image/png"])}
            kept.append({"output_type": "display_data", "metadata": {}, "data": picture})
        elif "text/plain" in data:
            value = "".join(data["text/plain"])
            printed += [] if re.match(r"[\[(]?<(matplotlib|Figure)", value) else [value, "\n"]
        elif output["output_type"] == "error":
            raise ValueError(output["evalue"])
    text = as_a_screen_shows("".join(printed))
    return [{"output_type": "stream", "name": "stdout", "text": text}, *kept] if text else kept


def as_a_screen_shows(text: str) -> str:
    r"""Returns text without colors, and of lines that were written over, and of a bar's, the last.

    >>> as_a_screen_shows("\x1b[1m 1 of 2\r 2 of 2\r\neval:  10%|#\neval: 100%|##########\n")
    ' 2 of 2\neval: 100%|##########\n'
    """
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    text = re.sub(r"[^\n]*\r", "", text)
    return re.sub(r"(?m)^(\w[\w ]*:) +\d+%.*\n(?=\1 +\d+%)", "", text)


def _small(png: str) -> str:
    """The picture in 128 colors."""
    from PIL import Image

    written = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(written, "png", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def _processor() -> float:
    """Seconds of the processor that programs which this one started have taken, once they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _said(words: str, commit: str, seconds: float, processor: float) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"*Outputs of {today}, commit {commit}: `python -m docs.make.notebooks {words}`, {round(seconds)} s, "
        f"{round(processor)} s of processor time, on {build.device()}.*"
    )


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Returns a notebook as Markdown, and the pictures that it shows, by their names.

    Args:
      path: of the notebook.
    """
    parts, pictures = [], {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = source(cell)
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            else:
                picture = f"{path.stem}_{len(pictures)}.png"
                pictures[picture] = base64.b64decode("".join(output["data"]["image/png"]))
                parts.append(f"![{cell['metadata']['alt']}]({picture})")
    title, _, text = parts[0].partition("\n")
    parts[0] = f"{title}\n\n[The notebook, to download]({path.name})\n\n{text.strip()}"
    return "\n\n".join(parts) + "\n", pictures


def write_page(path: Path, folder: Path) -> None:
    """Writes the page of a notebook and its pictures.

    Args:
      path: of the notebook.
      folder: to write them to.
    """
    text, pictures = page(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{path.stem}.md").write_text(text, encoding="utf-8")
    for name, picture in pictures.items():
        (folder / name).write_bytes(picture)


def main() -> int:
    """Runs notebooks."""
    parser = argparse.ArgumentParser(prog="python -m docs.make.notebooks", description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    parser.add_argument("notebooks", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--link", metavar="NAME=DIR", action="append", default=[], help="a folder that it reads")
    args = parser.parse_args()
    links = {name: Path(folder) for name, _, folder in (link.partition("=") for link in args.link)}
    for name in args.notebooks:
        run(FOLDER / f"{name}.ipynb", links)
        print(FOLDER / f"{name}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
