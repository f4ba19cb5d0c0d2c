"""A page of print in the making: columns of text, tables, figures and lines, and what a pen adds to them."""

import functools
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

TITLE, TEXT, FIGURE, TABLE, RULE, INK = range(1, 7)
SUPER = 2  # pixels of the drawing for a pixel of the image, along a side
TYPE = (9, 15)  # size of text, pixels of the image
BODY = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "DejaVuSans-Oblique", "DejaVuSerif-Italic")
HEAD = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol", "DejaVuSans", "DejaVuSerif")
_SYLLABLES = (
    "re gi on ba sed seg men ta tion let us first de ter mine mar kers of the coins and back ground these are pix els"
    " that we can la bel am big ous ly as ei ther ob ject or here found at two ex treme parts his to gram grey val ues"
    " qu wh fy jo zi xe vo hy ck pp"
)
SYLLABLES = tuple(_SYLLABLES.split())
MARKS = ("", "", "", "", "", ",", ".", ":", ")", "=", "-", "?")


class Sheet:
    """A page in the making: how dark the print is, how much the pen covers, and what kind of thing is printed where."""

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        from PIL import Image, ImageDraw

        self.rng, self.side = rng, side
        self.printed, self.penned, self.kinds = (Image.new("L", (side, side)) for _ in range(3))
        self.print, self.pen, self.kind = (ImageDraw.Draw(i) for i in (self.printed, self.penned, self.kinds))
        self.em = SUPER * self.whole(*TYPE)  # size of the text
        self.body, self.head = self.one(BODY), self.one(HEAD)

    def whole(self, low: int, high: int) -> int:
        """A random whole number from `low` to `high`, both included."""
        return low + int((high - low + 1) * self.rng.random())

    def one(self, things: Any) -> Any:
        """A random one of `things`."""
        return things[int(len(things) * self.rng.random())]

    def fill(self) -> None:
        """Draws the columns and what is written on them."""
        em, gap = self.em, self.em
        columns = 2 if self.side > 12 * em and self.rng.random() < 0.35 else 1
        left = self.whole(-em, 2 * em)
        width = (self.side + self.whole(-2 * em, em) - left - gap * (columns - 1)) // columns
        for column in range(columns):
            x, y = left + column * (width + gap), self.whole(-3 * em, em // 2)
            while y < self.side:
                block = self.one((self.title, self.text, self.text, self.table, self.figure, self.rule))
                y = block(x, y, x + width) + self.whole(em // 3, em)
        if columns == 2 and self.rng.random() < 0.5:
            x = left + width + gap // 2
            self.line((x, 0, x, self.side), RULE)
        for _ in range(self.whole(0, 2) + (self.side > 600)):
            self.one((self.writing, self.writing, self.stroke, self.loop))()

    def words(self, count: int) -> str:
        """At least `count` characters of words that nobody has to know."""
        n = count // 2 + 4
        parts = [SYLLABLES[i] for i in (len(SYLLABLES) * self.rng.random(n)).astype(int)]
        draws, out = self.rng.random(n), []
        for part, at in zip(parts, draws, strict=True):
            ends, capital = at < 0.5, at > 0.9
            out.append(part.capitalize() if capital else part)
            if ends:
                out.append(MARKS[int(2 * at * len(MARKS))] + " ")
        return "".join(out).strip()

    def write(self, x: int, baseline: int, right: int, words: str, font: str, em: int) -> int:
        """Prints what fits of `words` and returns where it ends."""
        face = _font(font, em)
        length = face.getlength(words)
        while words and x + length > right:
            words = words[: min(len(words) - 1, int(len(words) * max(right - x, 0) / length))]
            length = face.getlength(words)
        self.print.text((x, baseline), words, fill=255, font=face, anchor="ls")
        return x + int(length)

    def line(self, ends: tuple[int, int, int, int], kind: int) -> None:
        """Draws a straight line, printed, 1 to 2.5 pixels of the image wide."""
        width = self.whole(2, 5)
        self.print.line(ends, fill=255, width=width)
        if kind == RULE:
            self.kind.rectangle((ends[0] - 4, ends[1] - 4, ends[2] + 4, ends[3] + 4), fill=kind)

    def title(self, x: int, y: int, right: int) -> int:
        """One or two lines in a larger face."""
        em = int(self.em * (1.5 + self.rng.random()))
        indent = self.whole(0, max((right - x) // 3, 0)) if self.rng.random() < 0.3 else 0
        for _ in range(self.whole(1, 2)):
            count = int((right - x) / em * (0.5 + self.rng.random()))
            words = self.words(count)[: 2 * count].title()
            self.write(x + indent, y + em, right, words, self.head, em)
            self.kind.rectangle((x - em // 4, y, right + em // 4, y + int(1.3 * em)), fill=TITLE)
            y += int(1.3 * em)
        return y

    def text(self, x: int, y: int, right: int) -> int:
        """A paragraph."""
        em, pitch = self.em, int(self.em * (1.25 + 0.3 * self.rng.random()))
        count = 3 * (right - x) // em + 4
        for i in range(lines := self.whole(1, 5)):
            last = i == lines - 1
            end = x + int((right - x) * (0.3 + 0.7 * self.rng.random())) if last else right
            self.write(x, y + em, end, self.words(count), self.body, em)
            self.kind.rectangle((x - 4, y, right + 4, y + pitch), fill=TEXT)
            y += pitch
        return y

    def table(self, x: int, y: int, right: int) -> int:
        """Rows of numbers and short words between lines."""
        em = max(int(0.85 * self.em), SUPER * TYPE[0])
        pitch, rows, columns = int(1.5 * em), self.whole(2, 5), max(min(self.whole(2, 5), (right - x) // (3 * em)), 1)
        step, bottom = (right - x) // columns, y + rows * int(1.5 * em)
        right = x + columns * step
        self.kind.rectangle((x - 4, y - 4, right + 4, bottom + 4), fill=TABLE)
        grid = self.rng.random() < 0.6
        for row in range(rows + 1):
            if grid or row in (0, 1, rows):
                self.line((x, y + row * pitch, right, y + row * pitch), TABLE)
        for column in range(columns + 1) if grid else ():
            self.line((x + column * step, y, x + column * step, bottom), TABLE)
        for row in range(rows):
            for column in range(columns):
                digits = row and column
                cell = f"{10 ** (4 * self.rng.random() - 1):.4g}" if digits else self.words(5)[:8]
                start = x + column * step + em // 3
                self.write(start, y + row * pitch + int(1.1 * em), start + step - em // 2, cell, self.body, em)
        return bottom

    def figure(self, x: int, y: int, right: int) -> int:
        """A photograph, a chart or a drawing: its rectangle, of any tones."""
        from PIL import Image

        em = self.em
        width = max(int((right - x) * (0.4 + 0.6 * self.rng.random())), 3 * em)
        x, height = x + self.whole(0, max(right - x - width, 0)), self.whole(3 * em, 6 * em)
        box = (x, y, x + width, y + height)
        kind = self.whole(0, 2)
        grid = (255 * self.rng.random((self.whole(3, 7), self.whole(3, 9)))).astype(np.uint8)
        if kind == 0:
            tones = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
            self.printed.paste(tones, (x, y))
        else:
            self.print.rectangle(box, fill=self.whole(0, 90), outline=255, width=3)
        for i, tone in enumerate(grid.ravel()[: 7 if kind else 2].tolist()):
            a, b = sorted((x + width * self.rng.random(2)).tolist())
            c, d = sorted((y + height * self.rng.random(2)).tolist())
            if kind == 1:  # bars
                a = x + width * (i + 0.3) / 7.3
                self.print.rectangle((a, min(c, y + height - 4), a + width / 12, y + height - 4), fill=max(tone, 60))
            else:
                self.one((self.print.ellipse, self.print.rectangle))((a, c, b, d), fill=tone, outline=255)
        self.kind.rectangle(box, fill=FIGURE)
        return y + height

    def rule(self, x: int, y: int, right: int) -> int:
        """A line between blocks, or two."""
        end = right if self.rng.random() < 0.6 else x + int((right - x) * (0.2 + 0.7 * self.rng.random()))
        for _ in range(self.whole(1, 2)):
            self.line((x, y + 4, end, y + 4), RULE)
            y += 12
        return y

    def writing(self) -> None:
        """A word of joined letters: loops of random heights along a line that rises a little."""
        em, letters = self.em * (0.5 + 0.6 * self.rng.random()), self.whole(4, 11)
        t = np.linspace(0, 2 * math.pi * letters, 12 * letters)
        at = np.minimum((t / (2 * math.pi)).astype(int), letters - 1)
        heights = np.where(self.rng.random(letters) < 0.3, 1.1, 0.45) * np.where(self.rng.random(letters) < 0.85, 1, -1)
        lean = 0.3 + 0.5 * self.rng.random()
        up = em * heights[at] * (1 - np.cos(t)) / 2
        along = em * (0.55 * t / (2 * math.pi) + (0.15 + 0.2 * self.rng.random(letters)[at]) * np.sin(t)) + lean * up
        self.trace(along, up + along * 0.2 * (self.rng.random() - 0.5))

    def stroke(self) -> None:
        """An underline or a stroke in the margin, by hand."""
        t, long = np.linspace(0, 1, 12), self.em * (3 + 6 * self.rng.random())
        wave = self.em * 0.15 * np.sin(6 * self.rng.random() * t + 6 * self.rng.random())
        self.trace(*((t * long, wave) if self.rng.random() < 0.7 else (wave, t * long)))

    def loop(self) -> None:
        """A ring around something, not quite closed."""
        t = np.linspace(0, 2 * math.pi * (0.9 + 0.3 * self.rng.random()), 40)
        wide, high = self.em * (1 + 2.5 * self.rng.random()), self.em * (0.8 + self.rng.random())
        self.trace(wide * np.cos(t), (high + 0.3 * self.em * t / 6) * np.sin(t))

    def trace(self, along: np.ndarray, up: np.ndarray) -> None:
        """Draws a path of the pen somewhere on the page."""
        x, y = (0.05 + 0.7 * self.rng.random()) * self.side, (0.1 + 0.8 * self.rng.random()) * self.side
        points = np.stack([x + along, y - up], axis=1).ravel().tolist()
        self.pen.line(points, fill=255, width=self.whole(3, 5), joint="curve")


@functools.lru_cache(maxsize=512)
def _font(name: str, size: int) -> "ImageFont.FreeTypeFont":
    """Returns a font of matplotlib's; the basic layout is the same on every machine."""
    from PIL import ImageFont

    spec = importlib.util.find_spec("matplotlib")  # importing it would take longer than drawing 50 pages
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
