"""What notebooks show: complete, escaped, and well formed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch

import shortest_path as sp
from shortest_path import _progress
from shortest_path._html import curves, table
from tests.training.networks import layer
from tests.worlds import CORRUPTIONS, correlated_images, spectrum


def parsed(shown: str) -> ElementTree.Element:
    return ElementTree.fromstring(shown)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_every_corruption_shows_its_scales(name: str) -> None:
    corruption = CORRUPTIONS[name]()
    if not hasattr(corruption, "_repr_html_"):
        pytest.skip("a user's own, without the base class")
    found = parsed(corruption._repr_html_())
    assert found.find(".//b").text == type(corruption).__name__
    assert len(found.findall(".//polyline")) == 2


def test_a_comparison_shows_its_table() -> None:
    data = spectrum()
    found = sp.geometry.compare(data, {"<one>": sp.GaussianCorruption()}, steps=[3])
    shown = parsed(found._repr_html_())
    rows = [[cell.text for cell in row] for row in shown.iter("tr")]
    printed = [[cell.strip() for cell in line.split("|")[1:-1]] for line in str(found).splitlines() if line[:1] == "|"]
    assert rows == [printed[0], *printed[2:]]
    assert "KL in nats, exact for Gaussian data" in "".join(shown.itertext())


def test_spectra_samplers_and_trainers_show_facts() -> None:
    measured = spectrum()
    assert len(parsed(measured._repr_html_()).findall(".//polyline")) == 3
    vectors = sp.PowerSpectrum(sp.PixelBasis(0), torch.tensor([1.0, 2.0]))
    assert "<svg" not in vectors._repr_html_()
    for basis in (sp.PixelBasis(2), "principal"):  # without frequencies
        assert "<svg" not in sp.PowerSpectrum.estimate([correlated_images(64)], basis)._repr_html_()
    sampler = sp.Sampler(layer(), sp.ShortestPathCorruption(measured), steps=7)
    text = "".join(parsed(sampler._repr_html_()).itertext())
    assert "7 steps from" in text
    assert "Multistep(order=2" in text
    trainer = sp.DiffusionTrainer(layer(), sp.GaussianCorruption(), prediction="velocity")
    text = "".join(parsed(trainer._repr_html_()).itertext())
    assert "velocity" in text
    assert "0, 0 skipped" in text


def test_names_are_escaped_and_little_is_no_drawing() -> None:
    found = parsed(table("<a>", {"b": "<script>"}))
    assert found.find(".//td").text == "<script>"
    assert curves("nothing", {"one": [(0, 0)]}) == ""
    assert "10.0" not in curves("flat", {"one": [(0, 5), (0, 5)]})


def test_progress_is_shown_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    stream = type("OutStream", (), {"isatty": lambda self: False, "write": lambda self, text: written.append(text),
                                    "flush": lambda self: None, "__module__": "ipykernel.iostream"})()  # fmt: skip
    monkeypatch.setattr(_progress.sys, "stderr", stream)
    with _progress.Progress("work", total=2, patience=0.0) as bar:
        bar.advance()
    assert any("work: 1/2" in text for text in written)
