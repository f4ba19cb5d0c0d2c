"""Every error message of jaxseg on one page, so that a search for what was said finds it."""

import ast
import re
from pathlib import Path

from docs.make.reference import FUNCTIONS, modules, tree

ERRORS = {"UserError", "Unreadable", "TooLarge", "Damaged", "OutOfMemory"}


def messages(path: Path) -> list[tuple[str, str, int]]:
    """Returns the messages of a module's errors: the function, the text with `…` for values, the line."""
    found = []

    def walk(node: ast.AST, function: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = f"{function}.{child.name}".strip(".") if isinstance(child, (*FUNCTIONS, ast.ClassDef)) else function
            if isinstance(child, ast.Call) and _called(child) in ERRORS and child.args:
                text = re.sub(r"\s+", " ", template(child.args[0])).strip()
                if re.search(r"[A-Za-z]{3}", text):
                    found.append((name, text, child.lineno))
            walk(child, name)

    walk(tree(path), "")
    return sorted(found, key=lambda row: row[2])


def template(node: ast.expr) -> str:
    """Returns the text of a message, with … where a value is put in.

    >>> template(ast.parse("f'expected {a}, got {b!r}.'").body[0].value)
    'expected …, got ….'
    """
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    if isinstance(node, ast.IfExp):
        return f"{template(node.body)} / {template(node.orelse)}"
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.List | ast.Tuple):
        return " ".join(template(part) for part in node.args[0].elts)
    return "…"


def write(path: Path) -> int:
    """Writes the page, and returns the number of messages on it."""
    lines = [
        "# Every error message",
        "",
        "What jaxseg says when something is wrong that its user can mend, by the package that says it. Each"
        " says what was found, what was expected and what to do; … stands for names, numbers and paths of yours. Search"
        " for a few words of the message. [Errors](errors.md) has the usual ones by what one was doing.",
        "",
    ]
    packages: dict[str, list[str]] = {}
    count = 0
    for module, file in modules().items():
        for function, text, _ in messages(file):
            row = f"- `` {text.replace('`', chr(39))} ``<br><small>{_link(module, function)}</small>"
            packages.setdefault(".".join(module.split(".")[:2]), []).append(row)
            count += 1
    for package, rows in packages.items():
        lines += [f"## {package}", "", *rows, ""]
    path.write_text("\n".join(lines))
    return count


def _link(module: str, function: str) -> str:
    """Where a message comes from, as a link to the function or class in the reference, or to its module."""
    package, name = ".".join(module.split(".")[:2]), function.partition(".")[0]
    page = "api/index.md" if package == "jaxseg" else f"api/{package}.md"
    anchor = module if name.startswith("_") or not name else f"{module}.{name}"
    return f"[{module}.{function}]({page}{'' if anchor == package else '#' + anchor})".replace(".](", "](")


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
