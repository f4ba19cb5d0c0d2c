"""Parts of HTML pages: no other file, no script; light or dark as the reader's system is."""

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import UInt8

WIDTH = 480  # largest width of an image on a page, pixels

STYLE = """
:root { color-scheme: light dark; --line: rgba(128, 128, 128, .35); --bar: #4f8fd0; --bad: #de4b40; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p, .note { max-width: 60rem; opacity: .8 } .legend { opacity: 1 }
table { border-collapse: collapse; margin: .6rem 0 }
td, th { padding: .2rem .7rem .2rem 0; text-align: right; font-weight: 400 }
th { opacity: .7; border-bottom: 1px solid var(--line); vertical-align: bottom }
td:first-child, th:first-child, .left { text-align: left }
.bar { width: 16rem; min-width: 6rem; padding-right: 1rem }
.bar div { height: .8rem; border-radius: 2px; background: var(--bar) }
.bar.bad div { background: var(--bad) }
.swatch { display: inline-block; width: .8em; height: .8em; border: 1px solid var(--line); margin-right: .4em }
.legend span { white-space: nowrap; margin-right: 1rem; display: inline-block }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; margin: .3rem 0 1.4rem }
.row.three { grid-template-columns: repeat(3, 1fr) }
.small img { image-rendering: pixelated }
.row.two { grid-template-columns: repeat(2, 1fr); max-width: 30rem; margin: .3rem 0 }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { width: 100%; display: block } figcaption { font-size: .8rem; opacity: .7 }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Returns a page of its parts; `title` is text, the parts are HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table, without a head if all titles are empty; a cell that begins with <td is one, others are HTML."""
    cells = "".join(f"<th>{title}</th>" for title in head) if any(head) else ""
    lines = []
    for row in rows:
        lines.append("<tr>" + "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row) + "</tr>")
    return f"<table>{f'<tr>{cells}</tr>' * bool(cells)}{''.join(lines)}</table>"


def bar(share: float, *, bad: bool = False) -> str:
    """Returns a cell with a bar of this share, 0 to 1, of its width."""
    width = 0 if np.isnan(share) else 100 * share
    return f'<td class="bar{" bad" if bad else ""}"><div style="width:{width:.1f}%"></div></td>'


def swatch(color: tuple[int, int, int]) -> str:
    """Returns a square of an RGB color."""
    return f'<i class="swatch" style="background:rgb{tuple(map(int, color))}"></i>'


def percent(share: float) -> str:
    """Returns a share, 0 to 1, in percent; a dash for nan."""
    return "–" if np.isnan(share) else f"{100 * share:.1f}&nbsp;%"


def figure(data: str, caption: str) -> str:
    """Returns an image, by its URL, and the HTML beneath it."""
    return f'<figure><img src="{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def image_url(sample: UInt8[np.ndarray, "h w 3"], *, photo: bool = False) -> str:
    """Returns an image as the text of a URL: PNG, or JPEG for photographs; made smaller if it is wider than `WIDTH`."""
    from PIL import Image

    image, how = Image.fromarray(sample), Image.Resampling.LANCZOS if photo else Image.Resampling.NEAREST
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), how)
    kind, buffer = ("jpeg", io.BytesIO()) if photo else ("png", io.BytesIO())
    image.save(buffer, kind, **({"quality": 85} if photo else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
