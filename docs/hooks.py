"""Lets pages of the site be files of the repository, and the API reference show sources and the trainer's options."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
INCLUDED = {
    "index.md": "README.md",
    "measurements.md": "benchmarks/README.md",
    "studies.md": "studies/README.md",
    "examples.md": "examples/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
PAGES = {source: page for page, source in INCLUDED.items()}
LINK = re.compile(r'(\]\(|\b(?:src|srcset|href)=")(?!\w+:|#|/)([^)#"\s]+)')


def on_config(config: Any, **_: Any) -> None:
    """Link the repository in the header, if pyproject.toml has its address."""
    found = re.search(r'^Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    config.repo_url = found and found[1]


def on_files(files: Any, *, config: Any, **_: Any) -> None:
    """Make a page for every included file that has none."""
    for page in INCLUDED:
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=""))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put a file in place of its page; its links into docs/ become links within the site."""
    source = INCLUDED.get(page.file.src_uri)
    if source is None:
        return markdown

    def within_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        return link[1] + PAGES.get(target, target.removeprefix("docs/"))

    text = LINK.sub(within_site, (ROOT / source).read_text(encoding="utf-8"))
    return text.replace("](CITATION.cff)", "](#citation)")


class Options(griffe.Extension):
    """Shows the options of the trainer, which it takes as `**options`, in its signature, as `help` does."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Put the fields of the options in place of `**options`, once the package is read."""
        parameters = pkg["training._base.TrainerBase.__init__"].parameters
        del parameters["options"]
        for name, field in pkg["training._options.TrainingOptions"].attributes.items():
            kind = griffe.ParameterKind.keyword_only
            parameters.add(griffe.Parameter(name, annotation=field.annotation, kind=kind, default=field.value))


class Sources(griffe.Extension):
    """Shows "Source: ..." of a docstring as a paragraph of its own, with its papers linked; "Example:" as examples."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object before it is parsed."""
        if obj.docstring is None:
            return
        text = re.sub(r"^Source: *((?:.+\n?)+)", self._paragraph, obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)

    @staticmethod
    def _paragraph(found: re.Match[str]) -> str:
        text = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", " ".join(found[1].split()))
        return f"**Source:** {text}\n{{: .source }}\n"
