"""The documentation's site: built strictly, its links lead somewhere, and it reads without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import shortest_path as sp

ROOT = Path(__file__).parents[1]
NEEDED = ("mkdocs", "material", "mkdocstrings_handlers")
KATEX = ["assets/katex/katex.min.js", "assets/katex/auto-render.min.js", "javascripts/formulas.js"]
VERBATIM = {"pre", "code", "script", "style"}

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason='needs mkdocs: pip install -e ".[docs]"'
)


class Page(HTMLParser):
    """What of a page these tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.formulas: list[str] = []
        self.prose = ""
        self.mermaid = False
        self._inside: list[str] = []  # elements whose text is not prose
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        self.mermaid |= "mermaid" in classes
        self.ids += [value for name in ("id", "name") if (value := values.get(name)) and (name == "id" or tag == "a")]
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        if tag == "link" and values.get("href"):
            self.loaded.append(values["href"] or "")
        self.loaded += [value for name in ("src", "data", "poster") if (value := values.get(name))]
        self.loaded += [part.split()[0] for part in (values.get("srcset") or "").split(",") if part.strip()]
        if tag == "img":
            self.images.append(values)
        if "arithmatex" in classes:
            self.formulas.append("")
            self._inside.append(f"formula {tag}")
        elif tag in VERBATIM:
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1].split()[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.prose += data
        elif self._inside[-1].startswith("formula"):
            self.formulas[-1] += data


class Site:
    """A built site and its parsed pages, by path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
        self.pages = {path: Page(text) for path, text in self.texts.items()}

    def find(self, page: Path, link: str) -> Path:
        """Return the file that a link on a page leads to; an absolute one starts at the site's root."""
        path = unquote(urlsplit(link).path)
        target = self.folder / path.lstrip("/") if path.startswith("/") else page.parent / path
        target = page if not path else Path(os.path.normpath(target))
        return target / "index.html" if target.is_dir() else target


def inside(link: str) -> bool:
    """Whether a link stays on the site."""
    return not urlsplit(link).scheme and not link.startswith("//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    # A proxy that does not answer: the build must need no network either.
    offline = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, **offline}, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return Site(folder)


def test_links_within_the_site_lead_to_a_file_and_a_place_in_it(site: Site) -> None:
    broken = []
    for path, page in site.pages.items():
        for link in filter(inside, [*page.links, *page.loaded]):
            target, fragment = site.find(path, link), unquote(urlsplit(link).fragment)
            if not target.is_file():
                broken.append(f"{path.name}: {link}: no such file")
            elif fragment and target in site.pages and fragment not in site.pages[target].ids:
                broken.append(f"{path.name}: {link}: no such place")
    assert not broken, "\n".join(sorted(set(broken)))


def test_style_sheets_name_files_that_exist(site: Site) -> None:
    for path in site.folder.rglob("*.css"):
        for link in re.findall(r"url\(['\"]?([^'\")]+)", path.read_text(encoding="utf-8")):
            assert link.startswith(("data:", "#")) or (path.parent / urlsplit(link).path).is_file(), f"{path}: {link}"


def test_no_page_loads_anything_from_elsewhere(site: Site) -> None:
    for path, page in site.pages.items():
        assert [link for link in page.loaded if not inside(link) and not link.startswith("data:")] == [], path
        assert not page.mermaid, f"{path}: the theme would load Mermaid from the network"
    for path in site.folder.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_links_to_other_sites_are_well_formed(site: Site) -> None:
    for path, page in site.pages.items():
        for link in page.links:
            if inside(link) or link.startswith("mailto:"):
                continue
            parts = urlsplit(link)
            assert parts.scheme in ("https", "http"), f"{path.name}: {link}"
            assert re.fullmatch(r"localhost(:\d+)?|[\w-]+(\.[\w-]+)+(:\d+)?", parts.netloc), f"{path.name}: {link}"
            assert not re.search(r"[\s,;]|[.)]$", link), f"{path.name}: {link}"
            if parts.netloc == "arxiv.org":
                assert re.fullmatch(r"/(abs|pdf)/(\d{4}\.\d{4,5}|[a-z-]+/\d{7})(v\d+)?", parts.path), link


def test_pages_with_formulas_load_what_draws_them(site: Site) -> None:
    assert any(page.formulas for page in site.pages.values())
    for path, page in site.pages.items():
        if not page.formulas:
            continue
        loaded = [site.find(path, link).relative_to(site.folder).as_posix() for link in filter(inside, page.loaded)]
        assert [link for link in loaded if link in KATEX] == KATEX, path
        assert "assets/katex/katex.min.css" in loaded, path


def test_no_formula_is_left_in_prose(site: Site) -> None:
    for path, page in site.pages.items():
        found = re.search(r".{0,40}(\\[()\[\]]|\\begin|\\frac).{0,40}", page.prose)
        assert not found, f"{path.name}: {found[0]}"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_katex_understands_every_formula(site: Site) -> None:
    formulas = [
        {"page": path.name, "text": text.strip()[2:-2], "display": text.strip().startswith(r"\[")}
        for path, page in site.pages.items()
        for text in page.formulas
    ]
    script = f"""
        const katex = require({json.dumps(str(ROOT / "docs" / KATEX[0]))});
        for (const {{page, text, display}} of JSON.parse(require("fs").readFileSync(0, "utf8")))
            try {{ katex.renderToString(text, {{displayMode: display, strict: "error"}}); }}
            catch (error) {{ console.log(page + ": " + text + ": " + error.message); }}
    """
    ran = subprocess.run(["node", "-e", script], input=json.dumps(formulas), capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stdout + ran.stderr


def test_images_have_a_text_in_their_place(site: Site) -> None:
    assert any(page.images for page in site.pages.values())
    for path, page in site.pages.items():
        for image in page.images:
            assert len((image.get("alt") or "").split()) >= 3, f"{path.name}: {image.get('src')}"


def test_places_have_one_name_each(site: Site) -> None:
    for path, page in site.pages.items():
        assert [name for name, count in Counter(page.ids).items() if count > 1] == [], path


# API ------------------------------------------------------------------------------------------------------------------


def inventory(site: Site) -> Iterator[str]:
    """Yield the names that objects.inv, the site's index for other sites, knows."""
    packed = (site.folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
    for line in zlib.decompress(packed).decode().splitlines():
        yield line.split()[0]


def test_every_public_name_is_documented_and_on_the_overview(site: Site) -> None:
    known = set(inventory(site))
    assert [name for name in sp.__all__ if f"shortest_path.{name}" not in known] == []
    listed = re.findall(r"^\| \[`(\w+)`\]", (ROOT / "docs/api/index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(sp.__all__)


def test_members_that_the_reference_lists_exist(site: Site) -> None:
    """mkdocstrings says nothing of a listed member that is not there."""
    known = set(inventory(site))
    listed = re.compile(r"^::: (\S+)\n    options:\n(?: {6}.*\n)*? {6}members: \[(.*)\]", re.MULTILINE)
    for path in (ROOT / "docs/api").glob("*.md"):
        for module, members in listed.findall(path.read_text(encoding="utf-8")):
            for name in members.split(", "):
                assert f"{module}.{name}" in known, f"{path.name}: {module}.{name}"


def test_sources_and_sections_of_docstrings_are_shown_as_such(site: Site) -> None:
    texts = [text for path, text in site.texts.items() if path.parent.name == "api"]
    assert sum(text.count('<p class="source"><strong>Source:</strong>') for text in texts) >= 20
    for path, text in site.texts.items():
        if path.parent.name == "api":
            assert text.count("Source:") == text.count('<p class="source"><strong>Source:</strong>'), path
            assert "<details" not in text, f"{path}: a section that is none of Google's"
            assert not re.search(r"<p>(Args|Returns|Raises|Yields|Examples?):", text), path
