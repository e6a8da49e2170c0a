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
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import shortest_path as sp

ROOT = Path(__file__).parents[2]
API = ROOT / "docs/api"
KATEX = ["assets/katex/katex.min.js", "assets/katex/auto-render.min.js", "javascripts/formulas.js"]
SPACES = [name for name in sp.__all__ if type(getattr(sp, name)) is type(sp)]

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings_handlers")),
    reason='needs mkdocs: pip install -e ".[docs]"',
)


class Page(HTMLParser):
    """What of a page these tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.prose, self.mermaid = text, "", False
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.formulas: list[str] = []
        self._inside: list[str] = []  # elements whose text is not prose
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        classes = values.get("class", "").split()
        self.mermaid |= "mermaid" in classes
        self.ids += [values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a")]
        if "href" in values and tag in ("a", "link"):
            (self.links if tag == "a" else self.loaded).append(values["href"])
        self.loaded += [values[name] for name in ("src", "data", "poster") if name in values]
        self.loaded += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        self.images += [dict(attrs)] if tag == "img" else []
        if "arithmatex" in classes:
            self.formulas.append("")
            self._inside.append(f"formula {tag}")
        elif tag in ("pre", "code", "script", "style"):
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
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
        packed = (folder / "objects.inv").read_bytes().split(b"\n", 4)[4]
        self.names = {line.split()[0] for line in zlib.decompress(packed).decode().splitlines()}

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
    broken = set()
    for path, page in site.pages.items():
        for link in filter(inside, [*page.links, *page.loaded]):
            target, fragment = site.find(path, link), unquote(urlsplit(link).fragment)
            if not target.is_file() or (fragment and target in site.pages and fragment not in site.pages[target].ids):
                broken.add(f"{path.name}: {link}")
    assert not broken, "\n".join(sorted(broken))


def test_no_page_loads_anything_from_elsewhere(site: Site) -> None:
    for path, page in site.pages.items():
        assert [link for link in page.loaded if not inside(link) and not link.startswith("data:")] == [], path
        assert not page.mermaid, f"{path}: the theme would load Mermaid from the network"
    for path in site.folder.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", text), path
        for link in re.findall(r"url\(['\"]?(?!data:|#)([^'\")]+)", text):
            assert (path.parent / urlsplit(link).path).is_file(), f"{path}: {link}"


def test_links_to_other_sites_are_well_formed(site: Site) -> None:
    for path, page in site.pages.items():
        for link in page.links:
            if inside(link) or link.startswith("mailto:"):
                continue
            assert re.fullmatch(r"https?://(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?(/[^\s,;]*)?(?<![.)])", link), path
            if urlsplit(link).netloc == "arxiv.org":
                assert re.fullmatch(r"/(abs|pdf)/(\d{4}\.\d{4,5}|[a-z-]+/\d{7})(v\d+)?", urlsplit(link).path), path


def test_formulas_are_drawn(site: Site) -> None:
    assert any(page.formulas for page in site.pages.values())
    for path, page in site.pages.items():
        assert not re.search(r"(\\[()\[\]]|\\begin|\\frac)", page.prose), f"{path.name}: a formula is left in prose"
        if page.formulas:
            loaded = [site.find(path, link).relative_to(site.folder).as_posix() for link in filter(inside, page.loaded)]
            assert [link for link in loaded if link in KATEX] == KATEX, path
            assert "assets/katex/katex.min.css" in loaded, path


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


def test_images_have_a_text_and_places_have_one_name(site: Site) -> None:
    for path, page in site.pages.items():
        assert [image for image in page.images if len((image.get("alt") or "").split()) < 3] == [], path
        assert [name for name, count in Counter(page.ids).items() if count > 1] == [], path


@pytest.mark.parametrize("path", sorted((ROOT / "examples/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_a_page_and_lies_beside_it(site: Site, path: Path) -> None:
    assert (site.folder / path.name).read_bytes() == path.read_bytes()
    shown = site.pages[site.folder / f"notebook-{path.stem.replace('_', '-')}.html"]
    assert path.name in shown.links
    code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert shown.text.count('<div class="highlight">') >= len(code)


# API ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_a_page_lists_all_public_names_of_a_namespace(site: Site, space: str) -> None:
    module = getattr(sp, space)
    home = {name: str(getattr(value, "__module__", "")) for name, value in vars(module).items() if name[0] != "_"}
    own = {name for name in home if home[name].startswith(module.__name__)}  # others are at home in another namespace
    text = (API / f"{'sampling' if space == 'edits' else space}.md").read_text(encoding="utf-8")
    members = re.search(rf"^::: {module.__name__}\n    options:\n      members: \[(.*)\]", text, re.MULTILINE)
    listed = members[1].split(", ") if members else []
    assert own & set(getattr(module, "__all__", own)) <= set(listed)
    assert [name for name in listed if f"{module.__name__}.{name}" not in site.names] == []


def test_the_overview_lists_the_common_names(site: Site) -> None:
    listed = re.findall(r"^\| \[`sp\.([\w.]+)`\]", (API / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for name in listed if "." not in name} == set(sp.__all__) - set(SPACES)
    known = {name.replace("shortest_path.sampling.edits", "shortest_path.edits") for name in site.names}
    assert [name for name in listed if f"shortest_path.{name}" not in known] == []


def test_sources_and_sections_of_docstrings_are_shown_as_such(site: Site) -> None:
    pages = {path: page.text for path, page in site.pages.items() if path.parent.name == "api"}
    assert sum(text.count('<p class="source"><strong>Source:</strong>') for text in pages.values()) >= 20
    for path, text in pages.items():
        assert text.count("Source:") == text.count('<p class="source"><strong>Source:</strong>'), path
        assert "<details" not in text, f"{path}: a section that is none of Google's"
        assert not re.search(r"<p>(Args|Returns|Raises|Yields|Examples?):", text), path
