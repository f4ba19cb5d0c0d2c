"""Looks over the built pages: every link leads somewhere, and nothing is fetched from elsewhere."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHES = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page links to, what it fetches, and the places in it that a link may name."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Notes a tag's links and names."""
        values = {name: value for name, value in attributes if value}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        address = values.get(FETCHES.get(tag, ""))
        if address and values.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(address)


def problems(site: Path) -> list[str]:
    """Returns a sentence for each link that leads nowhere, and for each address elsewhere that a page fetches."""
    pages = {path.resolve(): Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        if name.name == "404.html":  # its links are of a server's root
            continue
        for address in page.fetched:
            if urlsplit(address).scheme in ("http", "https") or address.startswith("//"):
                found.append(f"{name} fetches {address}")
        for address in [*page.links, *page.fetched]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            file = file / "index.html" if file.is_dir() else file
            if not file.exists():
                found.append(f"{name} links to {address}, which is not there")
            elif parts.fragment and file in pages and unquote(parts.fragment) not in {*pages[file].places, "__top"}:
                found.append(f"{name} links to {address}, and there is no such place in that page")
    return found
