"""The course's pages and notebooks, made from its lessons.

    python docs/course/build.py run 02_fcn_unet --steps 500   # runs a lesson, keeps its outputs, writes its pages
    python docs/course/build.py pages                         # writes all pages from what was kept; runs nothing
    python docs/course/build.py notebooks --out notebooks/    # NAME.en.ipynb and NAME.vi.ipynb of every lesson

A lesson is a Python file of cells in jupytext's percent format, so jupytext and editors open it as a notebook too. The
code is there once; a text cell says its language: `# %% [markdown] lang="vi"`. A code cell may have `tags=["exercise"]`
(what the reader completes), `tags=["solution"]` (left out of notebooks, folded in pages) or `tags=["check"]` (fails
until the exercise is solved), and `figure="NAME" en="…" vi="…"`: the name of its picture and what the picture shows.
"""

import argparse
import ast
import contextlib
import datetime
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
LESSONS = ("02_fcn_unet", "03_pspnet", "04_deeplab_crf", "05_fpn", "06_pan", "hust6_segmentation")
LANGUAGES = ("en", "vi")
SAYS = {
    "en": {
        "check": "The check, which fails until the exercise is solved:",
        "solution": "A solution",
        "made": "This page is made from [{file}]({link}). The outputs are those of `{command}`:"
        " {device}, {seconds} s beside other work, {processor} s of processor time, {date}, jaxseg at commit {commit}.",
        "other": "[Tiếng Việt]({link})",
    },
    "vi": {
        "check": "Phần kiểm tra, báo lỗi cho tới khi bài tập được giải đúng:",
        "solution": "Một lời giải",
        "made": "Trang này được tạo từ [{file}]({link}). Kết quả là của lệnh `{command}`: {device}, {seconds} giây khi"
        " máy còn bận việc khác, {processor} giây thời gian xử lý, ngày {date}, jaxseg tại commit {commit}.",
        "other": "[English]({link})",
    },
}
_MARK = re.compile(r"^# %%(?: \[(?P<kind>markdown)\])?(?P<options>.*)$")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_OPTION = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\[[^\]]*\])')


class Cell(NamedTuple):
    """A cell of a lesson."""

    text: str
    markdown: bool
    options: dict[str, Any]  # "lang" of text; "tags", "figure" and its captions by language of code

    def tagged(self, tag: str) -> bool:
        """Whether the cell has this tag."""
        return tag in self.options.get("tags", ())

    @property
    def digest(self) -> str:
        """Of the text; another one means that what was kept of a run is no longer of this code."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Output(NamedTuple):
    """What a code cell printed and drew."""

    text: str
    pictures: list[Any]  # PIL images


def parse(text: str) -> list[Cell]:
    """Returns the cells of a lesson."""
    cells: list[tuple[list[str], bool, dict[str, Any]]] = []
    for line in text.splitlines():
        mark = _MARK.match(line)
        if mark:
            options = {key: ast.literal_eval(value) for key, value in _OPTION.findall(mark["options"])}
            cells.append(([], mark["kind"] is not None, options))
        elif cells:
            lines, markdown, _ = cells[-1]
            lines.append(re.sub("^# ?", "", line) if markdown else line)
        elif line.strip():
            raise ValueError(f"A lesson begins with a cell, '# %%', got {line!r}.")
    return [Cell("\n".join(lines).strip("\n"), markdown, options) for lines, markdown, options in cells]


def lesson(name: str) -> list[Cell]:
    """Returns the cells of the lesson `name`."""
    return parse((HERE / f"{name}.py").read_text(encoding="utf-8"))


def execute(cell: Cell, names: dict[str, Any], file: str = "lesson") -> Output:
    """Runs a code cell as a notebook does: what it prints, the value of its last expression, and the open figures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    body = ast.parse(cell.text, file).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, pictures = io.StringIO(), []
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), file, "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), file, "eval"), names)
        if isinstance(value, Image.Image):
            pictures.append(value.convert("RGB"))
        elif value is not None:
            print(repr(value))
    for number in pyplot.get_fignums():
        drawn = io.BytesIO()
        pyplot.figure(number).savefig(drawn, dpi=100, format="png")
        pictures.append(Image.open(drawn).convert("RGB"))
    pyplot.close("all")
    return Output(printed.getvalue(), pictures)


def run(name: str, steps: int) -> None:
    """Runs a lesson with `steps` training steps, and keeps its outputs and pictures beside it."""
    os.environ["COURSE_STEPS"] = str(steps)
    names: dict[str, Any] = {"__name__": "lesson"}
    rows, began = [], (time.perf_counter(), time.process_time())
    (HERE / "images").mkdir(exist_ok=True)
    for cell in (cell for cell in lesson(name) if not cell.markdown):
        output = execute(cell, names, f"{name}.py")
        row: dict[str, Any] = {"code": cell.digest, "text": output.text}
        if bool(output.pictures) != ("figure" in cell.options) or len(output.pictures) > 1:
            raise ValueError(f"{len(output.pictures)} pictures of a cell with {cell.options}:\n{cell.text}")
        if output.pictures:
            row["image"] = f"{name.partition('_')[0]}_{cell.options['figure']}.png"
            output.pictures[0].quantize(192).save(HERE / "images" / row["image"], optimize=True)
        rows.append(row)
        print(output.text, end="", flush=True)
    kept = {
        "command": f"python docs/course/build.py run {name} --steps {steps}",
        "device": device(),
        "seconds": round(time.perf_counter() - began[0]),
        "processor": round(time.process_time() - began[1]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit(),
        "cells": rows,
    }
    _kept_path(name).parent.mkdir(exist_ok=True)
    _kept_path(name).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _kept_path(name: str) -> Path:
    return HERE / "outputs" / f"{name}.json"


def kept(name: str) -> dict[str, Any]:
    """Returns what the last run of a lesson left."""
    return json.loads(_kept_path(name).read_text(encoding="utf-8"))


def device() -> str:
    """Returns what this ran on, in words."""
    import jax

    from jaxseg.bench.timing import cores, processor

    first = jax.devices()[0]
    return first.device_kind if first.platform != "cpu" else f"{cores()} CPU cores ({processor()})"


def commit() -> str:
    """Returns the last commit that changed the library: later ones, of the lessons, change none of its numbers.

    Where the repository was downloaded without its history, or git is not installed, it is "unknown".
    """
    command = ["git", "log", "-1", "--format=%h", "--", "jaxseg"]
    try:
        done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def page(name: str, language: str) -> str:
    """Returns the Markdown page of a lesson in a language, with the outputs that were kept.

    Raises:
      ValueError: if they are of other code than the lesson's.
    """
    cells, last = lesson(name), kept(name)
    code = [cell for cell in cells if not cell.markdown]
    if [cell.digest for cell in code] != [row["code"] for row in last["cells"]]:
        raise ValueError(f"{name}.py has changed since it was run. Run it again: {last['command']}")
    outputs = {id(cell): row for cell, row in zip(code, last["cells"], strict=True)}
    root = "" if language == "en" else "../"
    parts = []
    for cell in _in_order_of_a_page(cells):
        if cell.markdown:
            if cell.options.get("lang", language) == language:
                parts.append(cell.text.replace("](../", f"](../{root}"))
        else:
            parts += _code(cell, outputs[id(cell)], language, root)
    says, other = SAYS[language], "vi/" if language == "en" else "../"
    made = says["made"].format(file=f"{name}.py", link=f"{root}{name}.py", **{k: last[k] for k in last if k != "cells"})
    head, *rest = parts
    title, _, text = head.partition("\n")
    return "\n\n".join([title, says["other"].format(link=f"{other}{name}.md"), text.strip(), *rest, "---", made]) + "\n"


def _in_order_of_a_page(cells: Sequence[Cell]) -> list[Cell]:
    """The reader meets the check before the solution; a program needs the solution first."""
    ordered = list(cells)
    for i, cell in enumerate(cells[:-1]):
        if cell.tagged("solution") and cells[i + 1].tagged("check"):
            ordered[i : i + 2] = [cells[i + 1], cell]
    return ordered


def _code(cell: Cell, row: dict[str, Any], language: str, root: str) -> Iterator[str]:
    """The parts of a page that a code cell makes: the code, what it printed, and its picture."""
    code = f"```python\n{cell.text}\n```"
    if cell.tagged("solution"):
        title = SAYS[language]["solution"]
        yield f'<details markdown="1">\n<summary>{title}</summary>\n\n{code}\n\n</details>'
        return
    if cell.tagged("check"):
        yield SAYS[language]["check"]
    yield code
    if row["text"].strip():
        yield f"```text\n{row['text'].rstrip()}\n```"
    if "image" in row:
        caption = cell.options[language]
        yield f"![{caption}]({root}images/{row['image']})"
        yield f"*{caption}*"


def write_pages(names: Sequence[str]) -> Iterator[Path]:
    """Writes the pages of lessons in all languages."""
    for name in names:
        for language in LANGUAGES:
            path = page_path(name, language)
            path.parent.mkdir(exist_ok=True)
            path.write_text(page(name, language), encoding="utf-8")
            yield path


def page_path(name: str, language: str) -> Path:
    """Where the page of a lesson lies."""
    return HERE / f"{name}.md" if language == "en" else HERE / language / f"{name}.md"


def notebook(
    cells: Sequence[Cell], language: str, *, solutions: bool = False, folder: Path | None = None
) -> dict[str, Any]:
    """Returns a notebook (nbformat 4.5) without outputs, in one language, by default without the solutions.

    Args:
      cells: of a lesson.
      language: of its text.
      solutions: of the exercises, too.
      folder: where the notebook will lie, for its links; None is anywhere.
    """
    made = []
    for i, cell in enumerate(cells):
        if cell.tagged("solution") and not solutions:
            continue
        if cell.markdown and cell.options.get("lang", language) != language:
            continue
        row = {"cell_type": "markdown" if cell.markdown else "code", "id": f"cell{i}", "metadata": {}}
        text = notebook_text(cell.text, language, folder) if cell.markdown else cell.text
        row["source"] = text.splitlines(keepends=True)
        if not cell.markdown:
            row |= {"outputs": [], "execution_count": None, "metadata": {"tags": cell.options.get("tags", [])}}
        made.append(row)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def notebook_text(text: str, language: str, folder: Path | None) -> str:
    """Returns the text of a lesson's cell with links that hold in a notebook.

    Another lesson is the notebook beside this one. Any other file of the repository is linked to where the notebook
    lies in the repository, and else named, as there is no address of it that holds everywhere.

    Args:
      text: whose links are those of a page in docs/course/.
      language: of the notebook.
      folder: that the notebook will lie in; None is anywhere.

    >>> notebook_text("See [FPN](05_fpn.md) and [Models](../models.md).", "vi", None)
    'See [FPN](05_fpn.vi.ipynb) and Models (docs/models.md).'
    """
    root = HERE.parents[1].resolve()
    inside = folder is not None and folder.resolve().is_relative_to(root)

    def turn(match: re.Match[str]) -> str:
        link, _, anchor = match[2].partition("#")
        file = (HERE / link).resolve()
        if re.match("[a-z]+:", link) or not (link and file.is_file()):
            return match[0]
        if file.parent == HERE.resolve() and file.stem in LESSONS:
            return f"[{match[1]}]({file.stem}.{language}.ipynb)"
        if inside:
            place = Path(os.path.relpath(file, folder.resolve())).as_posix()
            return f"[{match[1]}]({place}{'#' + anchor if anchor else ''})"
        return f"{match[1]} ({file.relative_to(root).as_posix()})"

    return _LINK.sub(turn, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Makes the pages and notebooks of the course.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run lessons, keep their outputs, and write the pages")
    running.add_argument("lessons", nargs="+", choices=LESSONS)
    running.add_argument("--steps", type=int, default=0, help="training steps; 0 (default) trains nothing")
    commands.add_parser("pages", help="write the pages from the outputs that were kept")
    books = commands.add_parser("notebooks", help="write the notebooks")
    books.add_argument("--out", type=Path, required=True, help="folder to write to")
    books.add_argument("--solutions", action="store_true", help="with the solutions of the exercises")
    args = parser.parse_args(arguments)
    if args.command == "notebooks":
        args.out.mkdir(parents=True, exist_ok=True)
        for name in LESSONS:
            for language in LANGUAGES:
                path = args.out / f"{name}.{language}.ipynb"
                made = notebook(lesson(name), language, solutions=args.solutions, folder=args.out)
                path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                print(path)
        return 0
    if args.command == "run":
        for name in args.lessons:
            run(name, args.steps)
    for path in write_pages(args.lessons if args.command == "run" else LESSONS):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
