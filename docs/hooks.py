"""Lets pages of the site be files of the repository, instead of copies of them."""

from __future__ import annotations

from typing import Any

INCLUDED = {
    "index.md": "README.md",
    "measurements.md": "benchmarks/README.md",
    "examples.md": "examples/README.md",
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put a file in place of its page; its links into docs/ become links within the site."""
    source = INCLUDED.get(page.file.src_uri)
    if source is None:
        return markdown
    with open(source, encoding="utf-8") as file:
        text = file.read().replace("](docs/", "](").replace("](../docs/", "](")
    text = text.replace("](benchmarks/README.md)", "](measurements.md)").replace(
        "](examples/README.md)", "](examples.md)"
    )
    return text.replace("](CITATION.cff)", "](#citation)")
