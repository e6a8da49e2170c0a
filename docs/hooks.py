"""Lets pages of the site be files of the repository, and the API reference show sources and the trainer's options."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
INCLUDED = {
    "measurements.md": "benchmarks/README.md",
    "studies.md": "studies/README.md",
    "examples.md": "examples/README.md",
    "notebooks.md": "examples/notebooks/README.md",
    "notebook-your-data.md": "examples/notebooks/your_data.ipynb",
    "notebook-few-steps-guidance-editing.md": "examples/notebooks/few_steps_guidance_editing.ipynb",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
PAGES = {source: page for page, source in INCLUDED.items()} | {"README.md": "index.md"}
LINK = re.compile(r'(\]\(|\b(?:src|srcset|href)=")(?!\w+:|#|/)([^)#"\s]+)')


def on_config(config: Any, **_: Any) -> None:
    """Link the repository in the header, if pyproject.toml has its address."""
    found = re.search(r'^Repository = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    config.repo_url = found and found[1]


def on_files(files: Any, *, config: Any, **_: Any) -> None:
    """Make a page for every included file that has none, and put the notebooks beside their pages."""
    for page, source in INCLUDED.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=""))
        if source.endswith(".ipynb"):
            files.append(File.generated(config, posixpath.basename(source), abs_src_path=str(ROOT / source)))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put a file in place of its page; its links into docs/ become links within the site."""
    source = INCLUDED.get(page.file.src_uri)
    if source is None:
        return markdown

    def within_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        return link[1] + PAGES.get(target, target.removeprefix("docs/"))

    text = (ROOT / source).read_text(encoding="utf-8")
    if source.endswith(".ipynb"):
        name = posixpath.basename(source)
        return f"{LINK.sub(within_site, from_notebook(text))}\n---\n\nThis page is a notebook: [`{name}`]({name}).\n"
    return LINK.sub(within_site, text)


def from_notebook(text: str) -> str:
    """Return a notebook as Markdown: cells of Markdown as they are, cells of code as blocks of Python."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


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
