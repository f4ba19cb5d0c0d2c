"""Draws every architecture again, and writes the pages that show them and the encoders.

    python -m docs.make.figure              # all: docs/pictures/models/*.svg, docs/architectures.md, docs/encoders.md
    python -m docs.make.figure unet pan     # these pictures only

Models are traced, so it takes a minute or two and little memory.
"""

import argparse
import datetime
import sys
from typing import Any

import jax
import jax.numpy as jnp

import jaxseg
from docs.make.contents import DOCS
from docs.make.figure.layout import lay_out
from docs.make.figure.opening import open_parts
from docs.make.figure.svg import draw
from docs.make.figure.trace import SIZE, trace
from jaxseg.bench.suite import commit

CLASSES = 19
WIDE = 1700  # of a picture, in pixels: parts of one name are put together
# What is drawn of models that repeat a part, and what the page says of it.
OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "bifpn": ({"repeats": 2}, "The first of its layers, and the last, which only goes to the finest level."),
    "cunet": ({"units": 2}, "Two of its eight U-Nets."),
}
OPENED = {"bifpn": {"most": 60, "few": 60}, "image_pyramid": {"most": 30}}
PICTURES = DOCS / "pictures" / "models"

ARCHITECTURES = f"""# Pictures of the models

Each picture is drawn from the model itself: the model is traced for an image of {SIZE} × {SIZE} pixels and {CLASSES}
classes, with its default encoder, and what it computes decides where things are. `python -m docs.make.figure` draws
them again; these are of {{date}}, commit {{commit}}. [Models](models.md) has the papers, the parameters and what
differs from them.

- **Rows are sizes** of the feature maps, full size at the top; columns are the order of computing.
- **Blue** boxes are the levels of the encoder, **green** ones modules with parameters, by their names in the
  parameters, and **yellow** ones what goes in and comes out.
- The second line of a box says its convolutions and, behind the arrow, how many channels leave it. `3×3/2` has
  stride 2.
- **+** adds, **×** multiplies, **‖** puts side by side (concatenates), **•** is another way to meet: unpooling at the
  places of maxima. Where the sign sits on a box, the box looks at the result.
- A **dashed** line is resized, pooled or cropped on its way.
"""
ENCODERS = """# Encoders

Any of the {count} encoders goes under any model that takes one:

```python
import jaxseg

model = jaxseg.create_model("fpn", encoder="convnext_tiny", num_classes=19)
```

An encoder returns levels: `c1` has half the height and width of the image, `c2` a quarter, and so on to `c5`; below are
their channels. `output_stride=16` or `8` dilates the deepest stages of any of them instead of halving. Parameters are
those of the features, without a classifier. [Pretrained weights](pretrained.md) says where weights come from, and
`jaxseg show fpn --encoder convnext_tiny` prints the layers of a model.

Written by `python -m docs.make.figure` on {date}, commit {commit}.

| name | c1 | c2 | c3 | c4 | c5 | parameters |
|---|---|---|---|---|---|---|
"""


def picture(name: str) -> str:
    """Returns the picture of a model, as SVG."""
    options, _ = OPTIONS.get(name, ({}, ""))
    traced = trace(jaxseg.create_model(name, num_classes=CLASSES, **options))
    graph = open_parts(traced, **OPENED.get(name, {}))
    if lay_out(graph).width > WIDE:
        graph = open_parts(traced, together=True)
    return draw(graph, f"{name}: what it computes")


def architectures(stamp: dict[str, str]) -> str:
    """Returns the page of all pictures."""
    parts = [ARCHITECTURES.format(**stamp)]
    for name, model in jaxseg.MODELS.items():
        first = (model.__doc__ or "").strip().partition("\n")[0]
        _, note = OPTIONS.get(name, ({}, ""))
        parts.append(f"## {name}\n\n{' '.join([first, note]).strip()}\n\n![{name}](pictures/models/{name}.svg)\n")
    return "\n".join(parts)


def encoders(stamp: dict[str, str]) -> str:
    """Returns the page of the encoders."""
    rows = []
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    for name in jaxseg.ENCODERS:
        encoder = jaxseg.create_encoder(name)
        levels, variables = jax.eval_shape(
            lambda key, x, encoder=encoder: encoder.init_with_output(key, x, train=False), jax.random.key(0), image
        )
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        channels = [str(levels[f"c{i}"].shape[-1]) if f"c{i}" in levels else "–" for i in range(1, 6)]
        rows.append(f"| `{name}` | {' | '.join(channels)} | {count:,} |")
    return ENCODERS.format(count=len(rows), **stamp) + "\n".join(rows) + "\n"


def main() -> int:
    """Draws and writes."""
    parser = argparse.ArgumentParser(prog="python -m docs.make.figure", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models (default: all, and the pages)")
    names = parser.parse_args().names
    stamp = {"date": datetime.date.today().isoformat(), "commit": commit()}
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names or jaxseg.MODELS:
        (PICTURES / f"{name}.svg").write_text(picture(name))
        print(name)
    if not names:
        (DOCS / "architectures.md").write_text(architectures(stamp))
        (DOCS / "encoders.md").write_text(encoders(stamp))
    return 0


if __name__ == "__main__":
    sys.exit(main())
