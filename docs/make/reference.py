"""The API reference: a page for each package, with every public function and class, read off the source.

Nothing is imported, so that the pages do not depend on what is installed. Public is what has no underscore in its name,
nor in the names around it, as in tests/test_signatures.py.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docs.make.contents import ROOT

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Fields):$", re.MULTILINE)
WIDTH = 88  # of a signature, in characters


@dataclass(frozen=True)
class Entry:
    """A public function or class.

    Args:
      module: dotted.
      name: of the function or class.
      node: its definition.
      path: of its file, relative to the repository's root.
    """

    module: str
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    path: str

    @property
    def full(self) -> str:
        """The dotted name, which is the anchor of the entry too."""
        return f"{self.module}.{self.name}"


@cache
def modules() -> dict[str, Path]:
    """Returns the dotted names of jaxseg's modules and their files."""
    found = {}
    for path in sorted((ROOT / "jaxseg").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """Returns a file, parsed."""
    return ast.parse(path.read_text())


def entries(module: str, path: Path) -> Iterator[Entry]:
    """Yields the public functions and classes that a module defines, in the order of the file."""
    for node in tree(path).body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield Entry(module, node.name, node, str(path.relative_to(ROOT)))


def write(folder: Path) -> list[str]:
    """Writes the pages to a folder, and returns the dotted names of all entries."""
    folder.mkdir(parents=True, exist_ok=True)
    packages: dict[str, list[str]] = {}
    for module in modules():
        packages.setdefault(".".join(module.split(".")[:2]), []).append(module)
    written = []
    for package, names in packages.items():
        page, found = _page(package, names)
        (folder / f"{'index' if package == 'jaxseg' else package}.md").write_text(page)
        written += [entry.full for entry in found]
    return written


def _page(package: str, names: list[str]) -> tuple[str, list[Entry]]:
    known, found = modules(), []
    lines = [f"# {package}" if package != "jaxseg" else "# API reference", ""]
    for name in names:
        here = list(entries(name, known[name]))
        if name != package:
            lines += [f"## {name.removeprefix(package + '.')} {{#{name}}}", ""]
        lines += [prose(ast.get_docstring(tree(known[name])) or ""), ""]
        if name == package:
            lines += _offered(name, tree(known[name]))
        for entry in here:
            lines += _entry(entry)
        found += here
    return "\n".join(lines), found


def _offered(package: str, source: ast.Module) -> list[str]:
    """The names that a package offers (`__all__`), each with a link to where it is defined and its first line."""
    names = _all(source)
    if not names:
        return []
    rows = ["| name | what |", "|---|---|"]
    for name in names:
        found = _definition(package, name)
        if isinstance(found, Entry):
            link = f"[`{name}`]({_page_of(found.module)}#{found.full})"
            rows.append(f"| {link} | {_cell(ast.get_docstring(found.node))} |")
        elif found:
            doc = ast.get_docstring(tree(modules()[found]))
            rows.append(f"| [`{name}`]({_page_of(found)}) | {_cell(doc)} |")
        else:
            rows.append(f"| `{name}` | {_comment(package, name)} |")
    return [f"{len(names)} names are offered by `import {package}`:", "", *rows, ""]


def _definition(module: str, name: str) -> "Entry | str | None":
    """Where a name of a module comes from: its entry, the name of the module that it is, or None for a value."""
    known = modules()
    for entry in entries(module, known[module]):
        if entry.name == name:
            return entry
    for node in ast.walk(tree(known[module])):
        if isinstance(node, ast.ImportFrom) and node.module in known and node.module != module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(node.module, alias.name)
    return f"{module}.{name}" if f"{module}.{name}" in known else None


def _comment(package: str, name: str) -> str:
    """What stands behind a value where it is assigned, in the module of the package that does."""
    for module, path in modules().items():
        found = re.search(rf"^{name}\b.*?= .*?(?:  # (.*))?$", path.read_text(), re.MULTILINE)
        if found and module.startswith(package):
            return _escape(found[1] or f"a table of {module}").replace("|", "\\|")
    return "a table"


def _page_of(module: str) -> str:
    package = ".".join(module.split(".")[:2])
    return "index.md" if package == "jaxseg" else f"{package}.md"


def _all(source: ast.Module) -> list[str]:
    for node in source.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _cell(doc: str | None) -> str:
    return _escape((doc or "").split("\n\n")[0].replace("\n", " ")).replace("|", "\\|")


def _entry(entry: Entry) -> list[str]:
    node = entry.node
    lines = [f"### `{entry.name}` {{#{entry.full}}}", "", "```python", signature(node), "```", ""]
    lines += [prose(ast.get_docstring(node) or ""), ""]
    if isinstance(node, ast.ClassDef):
        lines += _members(node)
    source = f"`{entry.path}`, line {node.lineno}"
    return [*lines, f"<small>{source.replace('`', '')}</small>", ""]


def _members(node: ast.ClassDef) -> list[str]:
    lines = []
    for child in node.body:
        if isinstance(child, FUNCTIONS) and (not child.name.startswith("_") or child.name == "__call__"):
            doc = (ast.get_docstring(child) or "").split("\n\n")[0].replace("\n", " ")
            kind = {ast.unparse(d) for d in child.decorator_list} & {"property", "classmethod", "staticmethod"}
            text = "" if "property" in kind else f"({ast.unparse(child.args)})"
            lines.append(f"- `{child.name}{text}`{': ' if doc else ''}{_escape(doc)}")
    return ["", *lines, ""] if lines else []


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """Returns how a function is called, or a class with its fields, as code."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        head = f"class {node.name}({bases})" if bases else f"class {node.name}"
        fields = [f"    {ast.unparse(child)}" for child in node.body if _is_field(child)]
        for child in node.body:
            if isinstance(child, FUNCTIONS) and child.name == "__init__":
                return f"{head}\n\n{signature(child).replace('__init__', node.name, 1)}"
        return head + (":\n" + "\n".join(fields) if fields else "")
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    short = f"{node.name}({ast.unparse(node.args)}){result}"
    if len(short) <= WIDTH:
        return short
    return f"{node.name}(\n" + "".join(f"    {part},\n" for part in _parameters(node.args)) + f"){result}"


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_")


def _parameters(arguments: ast.arguments) -> list[str]:
    """Each parameter as it is written, with `/` and `*` where they stand."""
    depth, parts, start, text = 0, [], 0, ast.unparse(arguments)
    quote = ""
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def prose(doc: str) -> str:
    """Returns a docstring as Markdown: examples as code, `Args:` as a list, other text as it is."""
    lines: list[str] = []
    listed = False
    for block in re.split(r"\n\n+", doc):
        if block.startswith(">>>"):
            lines += ["```pycon", block, "```", ""]
        elif match := SECTION.match(block):
            listed = match[1] == "Args"
            lines += [f"**{match[1]}**", "", *_items(block.split("\n", 1)[1] if "\n" in block else ""), ""]
        elif block.startswith("    "):
            lines += ["```python", re.sub("^ {4}", "", block, flags=re.MULTILINE), "```", ""]
        elif listed and block.startswith("  "):
            lines += [*_items(block), ""]
        elif block.startswith(("- ", "| ")):
            lines += [_escape(block), ""]
        else:
            lines += [_escape(block), ""]
    return "\n".join(lines).rstrip()


def _items(text: str) -> list[str]:
    """`  name: what it is`, over one or more lines, as items of a list."""
    items: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"^ {2}(\*{0,2}[\w, *]+): (.*)$", line):
            items.append(f"- `{match[1]}`: {_escape(match[2])}")
        else:
            items.append(f"  {_escape(line.strip())}" if items else _escape(line.strip()))
    return items


def _escape(text: str) -> str:
    """Keeps Markdown from reading what stands outside of code as markup."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if i % 2 else re.sub(r"([*_<\[\]])", r"\\\1", part) for i, part in enumerate(parts))
