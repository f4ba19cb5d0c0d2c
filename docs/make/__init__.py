"""The site: `python -m docs.make` builds it from docs/*.md, the README and the source, into site/."""
