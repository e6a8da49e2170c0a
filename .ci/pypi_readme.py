"""README.md as PyPI shows it, made while a distribution is built: relative links lead nowhere there.

With `[project.urls] Repository` in pyproject.toml they lead to the files of this version in the repository; without it,
links become their text, and images are left out with their captions. hatchling calls `Readme`; the rest needs no
package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ImportError:  # where nothing is built
    MetadataHookInterface = object  # type: ignore[assignment, misc]

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^][]*)\]\((?P<target>(?!\w+:|#|/)[^()\s]+)\)")
# An image alone in its paragraph, and the paragraph in italics below it, its caption.
CAPTIONED = re.compile(r"^!\[[^][]*\]\((?!\w+:|#|/)[^()\s]+\)\n\n\*(?![*\s])[^\n]+(?:\n[^\n]+)*\*\n", re.MULTILINE)
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def readme(text: str, address: str | None, version: str) -> str:
    """Return a README without relative links.

    Args:
        text: The README, in Markdown.
        address: Address of the repository, or None.
        version: Version of the distribution, whose tag has the files.
    """

    def absolute(link: re.Match[str]) -> str:
        if address is None:
            return "" if link["image"] else link["text"]
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({address.rstrip('/')}/{kind}/v{version}/{link['target']})"

    parts = FENCE.split(text)  # code is left alone
    if address is None:
        parts[::2] = [CAPTIONED.sub("", part) for part in parts[::2]]
    parts[::2] = [LINK.sub(absolute, part) for part in parts[::2]]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts))


def relative_links(text: str) -> list[str]:
    """Return the relative links in a text of Markdown, code aside."""
    return [link["target"] for part in FENCE.split(text)[::2] for link in LINK.finditer(part)]


class Readme(MetadataHookInterface):
    """Gives hatchling the README, which pyproject.toml lists under `dynamic`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README to the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        address = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme(text, address, metadata["version"])}
