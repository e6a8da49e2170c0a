"""Plots: what is drawn is what was measured."""

from __future__ import annotations

import sys
from subprocess import run
from typing import Any

import pytest
import torch

import shortest_path as sp
from tests.worlds import correlated_images, spectrum

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plots = pytest.importorskip("shortest_path.plots")


@pytest.fixture(autouse=True)
def closed():
    """Leave no figure open."""
    yield
    matplotlib.pyplot.close("all")


def lines(axis) -> dict[str, torch.Tensor]:
    return {line.get_label(): torch.as_tensor(line.get_ydata()) for line in axis.get_lines()}


def test_a_spectrum_is_drawn_as_its_rings() -> None:
    measured = spectrum()
    found = lines(plots.spectrum(measured))
    assert list(found)[:3] == ["brightness", "first colour axis", "second colour axis"]
    torch.testing.assert_close(found["brightness"], measured.radial_average()[1][0, 1:])
    law = sp.PowerSpectrum.power_law((1, 16, 16), amplitude=2.0, offset=0.1, exponent=2.0)
    drawn = lines(plots.spectrum(law))["law, exponent 2.00"]
    torch.testing.assert_close(drawn[0], torch.tensor(2.0 / 1.1**2, dtype=torch.float64), rtol=1e-3, atol=0)


def test_power_of_the_data_over_its_own_is_one() -> None:
    measured = spectrum()
    x = correlated_images().double()
    found = lines(plots.power(torch.cat([x, x]), sp.PowerSpectrum.estimate([x])))
    torch.testing.assert_close(found["brightness"], torch.ones_like(found["brightness"]), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match=r"samples must have the shape of the spectrum, \(N, 3, 8, 8\), got \(2, 3, 4"):
        plots.power(torch.zeros(2, 3, 4, 4), measured)


def test_scales_cross_where_half_of_a_frequency_is_gone() -> None:
    measured = spectrum()
    axis = plots.scales(sp.GaussianCorruption("cosine", noise=measured), measured, frequencies=(1, 4))
    signal, noise = (torch.as_tensor(line.get_ydata()) for line in axis.get_lines()[:2])
    torch.testing.assert_close(signal + noise, torch.ones(101, dtype=torch.float64))
    assert abs(signal[50].item() - 0.5) < 0.02  # equal SNR: half of everything is gone in the middle
    with pytest.raises(ValueError, match="frequencies must be whole numbers from 0 to 5, got 40"):
        plots.scales(sp.GaussianCorruption(), measured, frequencies=(40,))


def test_the_path_begins_at_the_data_and_ends_in_white_noise() -> None:
    measured = spectrum()
    found = lines(plots.path(sp.ShortestPathCorruption(measured), measured, times=(0, 1)))
    torch.testing.assert_close(found["0"], measured.radial_average()[1][:, 1:].mean(0))
    torch.testing.assert_close(found["1"], torch.ones_like(found["1"]))


@pytest.mark.parametrize("plot", [plots.scales, plots.path], ids=["scales", "path"])
def test_a_corruption_must_be_diagonal_in_the_basis_of_the_spectrum(plot: Any) -> None:
    data, fourier = spectrum(), spectrum("fourier")
    for corruption, other in (
        (sp.ShortestPathCorruption(fourier), data),
        (sp.ShortestPathCorruption(data), fourier),
        (sp.BlurCorruption(spatial=(8, 8)), fourier),
        (sp.GaussianCorruption(noise=data), fourier),
    ):
        with pytest.raises(ValueError, match="the corruption works in .*Basis.*, the spectrum was measured in .*; est"):
            plot(corruption, other)
    with pytest.raises(ValueError, match=r"has shape \(1, 1, 32, 32\), which does not broadcast against images"):
        plot(sp.BlurCorruption(), data)
    with pytest.raises(TypeError, match="`corruption` does not implement `Corruption`: int has no basis"):
        plot(3, data)
    band = sp.PowerSpectrum.band((1, 8, 8), 1, 3, basis=sp.CosineBasis())
    for corruption, any_basis in ((sp.GaussianCorruption(), fourier), (sp.GaussianCorruption(), band)):
        assert plot(corruption, any_basis).get_lines()  # isotropic noise is diagonal in every basis


def test_empty_arguments_and_bytes_are_refused_with_the_reason() -> None:
    data, gaussian = spectrum(), sp.GaussianCorruption()
    x = torch.zeros(2, 3, 8, 8)
    raw = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    convert = r"must be a floating-point tensor, got torch.uint8; convert 8-bit images with .*float\(\) / 127.5 - 1"
    for draw, kind, message in (
        (lambda: plots.side_by_side(x, raw), TypeError, f"data {convert}"),
        (lambda: plots.side_by_side(raw, x), TypeError, f"samples {convert}"),
        (lambda: plots.rows({"a": x, "b": raw}), TypeError, f"images of 'b' {convert}"),
        (lambda: plots.images(raw), TypeError, f"images {convert}"),
        (lambda: plots.strip(raw[0], {"a": gaussian}), TypeError, f"image {convert}"),
        (lambda: plots.strip(x, {"a": gaussian}), ValueError, r"image must be one image \(C, H, W\), got \(2"),
        (lambda: plots.side_by_side(x[:0], x), ValueError, r"samples must hold one image or more, got shape \(0, 3, 8"),
        (lambda: plots.side_by_side(x, x[:0]), ValueError, r"data must hold one image or more, got shape \(0, 3, 8, 8"),
        (lambda: plots.images(x[:0]), ValueError, "images must hold one image or more"),
        (lambda: plots.rows({"a": x[:0]}), ValueError, "images must hold one image or more"),
        (lambda: plots.power(x[:0], data), ValueError, "samples must hold one image or more"),
        (lambda: plots.strip(x[0], {"a": gaussian}, times=[]), ValueError, "times must hold one time or mor"),
        (lambda: plots.path(gaussian, data, times=[]), ValueError, "times must hold one time or more, got none; pass"),
        (lambda: plots.path(gaussian, data, times=[2]), ValueError, r"t must lie in \[0, 1\]"),
        (lambda: plots.scales(gaussian, data, frequencies=[]), ValueError, "frequencies must hold one or mor"),
        (lambda: plots.images(x, columns=-2), ValueError, "columns must be 1 or more, got -2"),
        (lambda: plots.images(x, columns=0), ValueError, "columns must be 1 or more, got 0"),
        (lambda: plots.images(x, columns=True), TypeError, "columns must be a whole number of 1 or more, got True"),
        (lambda: plots.side_by_side(x, x, columns=-2), ValueError, "columns must be 1 or more, got -2"),
        (lambda: plots.rows({"a": x}, columns=("a", "b", "c")), ValueError, "columns has 3 names, the longes"),
    ):
        with pytest.raises(kind, match=message):
            draw()
    pixel = sp.PowerSpectrum.estimate([torch.randn(9, 3, 1, 1)])
    for draw in (lambda: plots.scales(gaussian, pixel), lambda: plots.spectrum(pixel)):
        with pytest.raises(ValueError, match="requires sides of 2 pixels or more, got"):
            draw()
    assert not matplotlib.pyplot.get_fignums()  # nothing is opened for what is refused


def test_images_are_tiled_on_nothing() -> None:
    x = torch.rand(3, 1, 16, 16) * 2 - 1
    sheet = plots.images(x, columns=2).get_images()[0].get_array()
    assert sheet.shape == (33, 33, 4)
    torch.testing.assert_close(torch.as_tensor(sheet[:16, 17:, 0]).float(), (x[1, 0] + 1) / 2)
    assert (sheet[17:, 17:, 3] == 0).all()
    assert (sheet[16, :, 3] == 0).all()
    with pytest.raises(
        ValueError, match=r"images must be \(N, C, H, W\) with one or three channels, got \(3, 2, 4, 4\)"
    ):
        plots.images(torch.zeros(3, 2, 4, 4))


def test_a_strip_has_a_row_for_each_corruption() -> None:
    image = correlated_images(1)[0].float().clamp(-1, 1)
    axis = plots.strip(image, {"a": sp.GaussianCorruption(), "b": sp.BlurCorruption(spatial=(8, 8))}, times=(0, 0.5))
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    sheet = torch.as_tensor(axis.get_images()[0].get_array())
    assert sheet.shape == (17, 17, 4)
    torch.testing.assert_close(sheet[:8, :8, :3].permute(2, 0, 1).float(), (image + 1) / 2)


def test_rows_may_have_different_lengths() -> None:
    axis = plots.rows({"a": torch.zeros(2, 1, 16, 16), "b": torch.ones(1, 1, 16, 16)}, columns=("first", "second"))
    sheet = torch.as_tensor(axis.get_images()[0].get_array())
    assert sheet.shape == (33, 33, 4)
    assert (sheet[17:, 17:, 3] == 0).all()
    assert [label.get_text() for label in axis.get_xticklabels()] == ["first", "second"]
    assert axis.get_yticks().tolist() == [8, 25]
    for named, sizes in (({}, "none"), ({"a": torch.zeros(1, 1, 2, 2), "b": torch.zeros(1, 1, 2, 3)}, r"\[\(1, 2, 2")):
        with pytest.raises(ValueError, match=rf"rows must hold images \(N, C, H, W\) of one size, got {sizes}"):
            plots.rows(named)


def test_samples_stand_beside_as_many_data() -> None:
    axis = plots.side_by_side(torch.zeros(3, 3, 8, 8), torch.ones(9, 3, 8, 8), columns=2)
    sheet = torch.as_tensor(axis.get_images()[0].get_array())
    assert sheet.shape == (17, 44, 4)
    assert (sheet[0, 0] == 1).all()
    assert sheet[0, 18, 3] == 0
    assert sheet[0, 27, 0] == 0.5
    with pytest.raises(ValueError, match=r"samples and data must have one size, got \(3, 3, 8, 8\) and \(9, 3, 4, 4\)"):
        plots.side_by_side(torch.zeros(3, 3, 8, 8), torch.ones(9, 3, 4, 4))


def test_the_library_does_not_import_its_extras_and_names_a_missing_one() -> None:
    modules = {"plots": "shortest_path.plots", "diffusers": "shortest_path.integrations.diffusers"}
    code = """
import importlib, sys, shortest_path
for extra, package in ("plots", "matplotlib"), ("diffusers", "diffusers"):
    assert package not in sys.modules
    sys.modules[package] = None
    try:
        importlib.import_module(sys.argv[1 if extra == "plots" else 2])
    except ImportError as error:
        print(error)
"""
    found = run([sys.executable, "-c", code, *modules.values()], check=True, capture_output=True, text=True).stdout
    for line, (extra, module) in zip(found.splitlines(), modules.items(), strict=True):
        assert line.startswith(f"{module} requires the extra `{extra}` (")
        assert line.endswith(f'; from a clone of the repository: pip install -e ".[{extra}]"')
