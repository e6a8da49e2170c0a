"""Plots: what is drawn is what was measured."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from subprocess import run
from typing import Any

import pytest
import torch

import shortest_path as sp
from tests.worlds import correlated_images, spectrum

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plots = pytest.importorskip("shortest_path.plots")

LAW = sp.PowerSpectrum.power_law((1, 16, 16), amplitude=2.0, offset=0.1, exponent=2.0)


@pytest.fixture(autouse=True)
def closed():
    """Leave no figure open."""
    yield
    matplotlib.pyplot.close("all")


def lines(axis) -> dict[str, torch.Tensor]:
    return {line.get_label(): torch.as_tensor(line.get_ydata()) for line in axis.get_lines()}


def test_the_scales_of_a_learned_corruption_are_drawn() -> None:
    measured = spectrum()

    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.power = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            angle = torch.pi / 2 * t**self.power
            return angle.cos(), angle.sin()

    learned, fixed = (
        sp.GaussianCorruption(schedule, noise=measured)
        for schedule in (Learned(), lambda t: (torch.cos(torch.pi / 2 * t), torch.sin(torch.pi / 2 * t)))
    )
    for draw in (plots.scales, plots.path):
        ours, theirs = (lines(draw(corruption, measured)) for corruption in (learned, fixed))
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            torch.testing.assert_close(values, theirs[name])


def test_a_spectrum_is_drawn_as_its_rings() -> None:
    measured = spectrum()
    found = lines(plots.spectrum(measured))
    assert list(found)[:3] == ["brightness", "first colour axis", "second colour axis"]
    torch.testing.assert_close(found["brightness"], measured.radial_average()[1][0, 1:])
    drawn = lines(plots.spectrum(LAW))["law, exponent 2.00"]
    torch.testing.assert_close(drawn[0], torch.tensor(2.0 / 1.1**2, dtype=torch.float64), rtol=1e-3, atol=0)


def test_the_law_is_drawn_where_it_can_be_fitted() -> None:
    two_pixels = sp.PowerSpectrum(sp.CosineBasis(1), torch.rand(1, 2) + 1)
    band = sp.PowerSpectrum.band((3, 8, 8), 1.0, 3.0)
    for data, drawn in ((spectrum(), True), (band, False), (LAW, True), (two_pixels, False)):
        assert any(name.startswith("law") for name in lines(plots.spectrum(data))) == drawn
    with pytest.raises(ValueError, match="at least three different frequencies"):
        plots.spectrum(two_pixels, law=True)
    with pytest.raises(TypeError, match="law must be True, False or None, got 1"):
        plots.spectrum(band, law=1)


@pytest.mark.parametrize("basis", [None, "principal"])
def test_vectors_have_no_frequencies_and_what_works_is_told(basis: str | None) -> None:
    table = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    own = sp.CosineBasis(0) if basis is None else sp.PrincipalBasis(torch.eye(5), dims=0)
    data = sp.PowerSpectrum.estimate([table], own)
    message = (
        r"requires spatial axes, got a spectrum of vectors of 5 values; draw their power .* sp.path_length and sp.g"
    )
    gaussian = sp.GaussianCorruption(dims=0)
    for draw in (
        lambda: plots.spectrum(data),
        lambda: plots.power(table, data),
        lambda: plots.scales(gaussian, data),
        lambda: plots.path(gaussian, data),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
    matplotlib.pyplot.bar(range(len(data.power)), data.power.tolist())
    assert sp.path_length(gaussian, data) > 0


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
    with pytest.raises(ValueError, match="whole numbers from 0 to 5 at which the data have power, got 40"):
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
        (lambda: plots.strip(x, {"a": gaussian}), ValueError, r"image must be one image \(C, H, W\) .*\[0\]"),
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
        with pytest.raises(ValueError, match="requires sides of 2 pixels or more"):
            draw()
    assert not matplotlib.pyplot.get_fignums()  # nothing is opened for what is refused


@pytest.mark.parametrize(
    ("shape", "layout", "several", "one"),
    [
        ((2, 8, 6, 3), "(N, H, W, C)", "x.permute(0, 3, 1, 2)", "x[0].permute(2, 0, 1)"),
        ((2, 8, 6, 1), "(N, H, W, C)", "x.permute(0, 3, 1, 2)", "x[0].permute(2, 0, 1)"),
        ((2, 3, 8, 6), "(N, C, H, W)", None, "x[0]"),
        ((3, 8, 6), "(C, H, W)", "x[None]", None),
        ((8, 6, 3), "(H, W, C)", "x.permute(2, 0, 1)[None]", "x.permute(2, 0, 1)"),
        ((9, 8, 6), "(N, H, W)", "x[:, None]", "x[:1]"),
        ((8, 6), "(H, W)", "x[None, None]", "x[None]"),
        ((2, 4, 8, 6), "", "", ""),
        ((2, 5, 3, 8, 6), "", "", ""),
        ((6,), "", "", ""),
    ],
)
def test_images_of_another_layout_are_told_how_to_be_mended(
    shape: tuple[int, ...], layout: str, several: str | None, one: str | None
) -> None:
    x, data = torch.zeros(shape), torch.zeros(2, 3, 8, 6)
    for name, form, mend, draw in (
        ("images", "(N, C, H, W)", several, plots.images),
        ("images of 'a'", "(N, C, H, W)", several, lambda x: plots.rows({"a": x})),
        ("samples", "(N, C, H, W)", several, lambda x: plots.side_by_side(x, data)),
        ("data", "(N, C, H, W)", several, lambda x: plots.side_by_side(data, x)),
        ("image", "one image (C, H, W)", one, lambda x: plots.strip(x, {"a": sp.GaussianCorruption()})),
    ):
        if mend is None:
            draw(x)
            continue
        with pytest.raises(ValueError, match="must be") as error:
            draw(x)
        hint = f"; if that is {layout}, pass {mend}" if mend else ""
        if len(shape) < 4 and "C" not in layout:
            hint += "; this plot shows images: draw signals with matplotlib's plot"
        assert str(error.value) == f"{name} must be {form} with one or three channels, got {shape}{hint}"
        if mend:
            mended = eval(mend, {"x": x})
            plots.images(mended if form.startswith("(N") else mended[None])


def test_samples_of_another_layout_are_told_how_to_be_mended() -> None:
    data = sp.PowerSpectrum.power_law((3, 8, 6), amplitude=1.0, offset=0.1, exponent=2.0)
    for shape, mend in (((2, 8, 6, 3), "samples.movedim(-1, 1)"), ((3, 8, 6), "samples[None]"), ((2, 3), "")):
        samples = torch.randn(shape)
        with pytest.raises(ValueError, match="must have") as error:
            plots.power(samples, data)
        hint = f"; pass {mend}" if mend else ""
        assert str(error.value) == f"samples must have the shape of the spectrum, (N, 3, 8, 6), got {shape}{hint}"
        if mend:
            plots.power(eval(mend, {"samples": samples}), data)


X, DATA, GAUSSIAN = torch.zeros(2, 3, 8, 8), spectrum(), sp.GaussianCorruption()
EVERY_PLOT: dict[str, Callable[..., Any]] = {
    "spectrum": partial(plots.spectrum, DATA),
    "power": partial(plots.power, X, DATA),
    "scales": partial(plots.scales, GAUSSIAN, DATA),
    "path": partial(plots.path, GAUSSIAN, DATA),
    "strip": partial(plots.strip, X[0], {"a": GAUSSIAN}),
    "rows": partial(plots.rows, {"a": X}),
    "images": partial(plots.images, X),
    "side_by_side": partial(plots.side_by_side, X, X),
}


@pytest.mark.parametrize("name", EVERY_PLOT)
def test_an_axis_is_an_axes(name: str) -> None:
    figure = matplotlib.figure.Figure()
    for axis, kind in ((figure, "Figure"), (figure.subplots(1, 2), "ndarray"), (type(figure.gca()), "the class Axes")):
        with pytest.raises(TypeError, match=f"axis must be a matplotlib Axes or None, got {kind}; pass figure.add_sub"):
            EVERY_PLOT[name](axis)


@pytest.mark.parametrize("name", EVERY_PLOT)
def test_an_error_in_the_middle_leaves_no_figure_open(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    for method in ("legend", "imshow"):
        monkeypatch.setattr(matplotlib.axes.Axes, method, fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        EVERY_PLOT[name]()
    assert not matplotlib.pyplot.get_fignums()


@pytest.mark.parametrize(
    "wrong", [None, DATA.power, "a.npz", sp.PowerSpectrum], ids=["None", "tensor", "path", "class"]
)
def test_a_spectrum_is_a_power_spectrum(wrong: Any) -> None:
    for draw in (
        lambda: plots.spectrum(wrong),
        lambda: plots.power(X, wrong),
        lambda: plots.scales(GAUSSIAN, wrong),
        lambda: plots.path(GAUSSIAN, wrong),
    ):
        with pytest.raises(
            TypeError, match=r"(spectrum|data) must be a PowerSpectrum, got .*; see PowerSpectrum.estim"
        ):
            draw()


def test_arguments_of_a_wrong_type_are_named() -> None:
    strip = partial(plots.strip, X[0], {"a": GAUSSIAN})
    meta = torch.zeros(2, 3, 8, 8, device="meta")
    for draw, kind, message in (
        (
            lambda: strip(times=0.5),
            TypeError,
            r"times must be a sequence of numbers in \[0, 1\], got 0.5; pass e.g. ti",
        ),
        (lambda: strip(times=None), TypeError, "times must be a sequence of numbers .*, got None"),
        (lambda: strip(times="01"), TypeError, "times must be a sequence of numbers .*, got '01'"),
        (lambda: strip(times=[None]), TypeError, r"times must be a sequence of numbers .*, got \[None\]"),
        (lambda: strip(times=torch.tensor(0.5)), TypeError, "times must be a sequence of numbers .*, got tensor"),
        (lambda: plots.path(GAUSSIAN, DATA, times=0.5), TypeError, "times must be a sequence of numbers"),
        (lambda: strip(seed=None), TypeError, "seed must be a whole number of 0 or more, got None"),
        (lambda: strip(seed=-1), ValueError, "seed must be 0 or more, got -1"),
        (lambda: strip(seed=2**63), ValueError, r"seed must be less than 2\*\*63, got 9223372036854775808"),
        (
            lambda: plots.strip(X[0], GAUSSIAN),
            TypeError,
            "corruptions must be a mapping of .*, got GaussianCorruption; ",
        ),
        (
            lambda: plots.strip(X[0], None),
            TypeError,
            "corruptions must be a mapping of .*, got NoneType; pass e.g. corr",
        ),
        (lambda: plots.strip(X[0], {}), ValueError, "corruptions must hold one corruption or more, got none"),
        (
            lambda: plots.rows(X),
            TypeError,
            r"named must be a mapping of names .* pairs of both, got Tensor; pass e.g. {",
        ),
        (lambda: plots.rows([X, X]), TypeError, "named must be a mapping of names .* pairs of both, got list"),
        (lambda: plots.rows(None), TypeError, "named must be a mapping of names .*, got NoneType"),
        (lambda: plots.rows({"a": X[0]}), ValueError, r"images of 'a' must be .*, got \(3, 8, 8\); if th"),
        (
            lambda: plots.rows({"a": X}, columns=2),
            TypeError,
            "columns must be a sequence of names, one .*, got 2; pass",
        ),
        (lambda: plots.rows({"a": meta}), ValueError, "images of 'a' is on the meta device, without values"),
        (lambda: plots.images(meta), ValueError, "images is on the meta device, without values"),
        (
            lambda: plots.scales(GAUSSIAN, DATA, frequencies=3),
            TypeError,
            "frequencies must be a seq.*, got 3; pass e.g",
        ),
        (lambda: plots.scales(GAUSSIAN, DATA, frequencies="12"), TypeError, "frequencies must be a seq.*, got '12'"),
        (lambda: plots.scales(GAUSSIAN, DATA, frequencies=[1.5]), TypeError, r"frequencies must be .*, got \[1.5\]"),
    ):
        with pytest.raises(kind, match=message):
            draw()
    times = (each / 2 for each in range(3))
    assert list(lines(plots.path(GAUSSIAN, DATA, times=times))) == ["0", "0.5", "1"]


def test_samples_that_are_not_finite_are_counted() -> None:
    samples = torch.randn(4, 3, 8, 8)
    samples[1, 0, 0, 0], samples[2, 0, 0, 0] = float("nan"), float("inf")
    with pytest.raises(ValueError, match="2 of 4 samples hold NaN or infinite values; plot the others with samples"):
        plots.power(samples, DATA)


def test_power_of_samples_in_the_fourier_basis() -> None:
    samples = torch.randn(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = sp.PowerSpectrum.estimate([samples], "fourier")
    drawn = lines(plots.power(samples, data))
    for channel in ("brightness", "first colour axis", "second colour axis"):
        torch.testing.assert_close(drawn[channel], torch.ones_like(drawn[channel]))


def test_what_the_data_have_no_power_in_is_left_out() -> None:
    """No warning of a division by 0, or of an axis without values."""
    one_empty = sp.PowerSpectrum(sp.CosineBasis(2), DATA.power * torch.tensor([1.0, 1.0, 0.0])[:, None, None])
    band = sp.PowerSpectrum.band((1, 8, 8), 2, 4, basis=sp.CosineBasis())
    for axis in (plots.power(torch.randn(4, 3, 8, 8), one_empty), plots.spectrum(one_empty, law=False)):
        assert [name for name in lines(axis) if name.startswith("channel")] == ["channel 1", "channel 2"]
        axis.figure.canvas.draw()
    for axis in (plots.power(torch.randn(4, 1, 8, 8), band), plots.spectrum(band, law=False)):
        drawn = lines(axis)["power"]
        assert drawn.isfinite().tolist() == (band.radial_average()[1][0, 1:] > 0).tolist()
        assert not drawn.isfinite().all()
    message = (
        "law=True requires power in every coefficient, .* got 64 of 192 empty; pass law=False, or use spectrum.rai"
    )
    with pytest.raises(ValueError, match=message):
        plots.spectrum(one_empty, law=True)
    power = torch.zeros(1, 8, 8)
    power[0, 0, 0] = 1.0
    constant = sp.PowerSpectrum(sp.CosineBasis(2), power)
    with pytest.raises(ValueError, match="a plot against frequency requires power beyond frequency 0, got PowerSpec"):
        plots.spectrum(constant)


def test_scales_are_of_the_coefficients_in_which_the_data_have_power() -> None:
    power = DATA.power.clone()
    power[:, 0, 3] = 0  # some of frequency 2, and all of frequency 3 of one channel
    some = sp.PowerSpectrum(sp.CosineBasis(2), power)
    found = [torch.as_tensor(line.get_ydata()) for line in plots.scales(sp.GaussianCorruption(), some).get_lines()]
    assert all(bool(line.isfinite().all()) for line in found)
    assert all(line[0] == 1 for line in found[::2])
    band = sp.PowerSpectrum.band((1, 8, 8), 2, 4, basis=sp.CosineBasis())
    axis = plots.scales(sp.GaussianCorruption(), band)
    shown = {line.get_label() for line in axis.get_lines() if not line.get_label().startswith("_")}
    assert shown <= {"2", "3", "4"}
    assert shown
    assert all(torch.as_tensor(line.get_ydata()).isfinite().all() for line in axis.get_lines())
    with pytest.raises(ValueError, match="whole numbers from 0 to [34] at which the data have power, got 1"):
        plots.scales(sp.GaussianCorruption(), band, frequencies=(1,))
    power = torch.zeros(1, 8, 8)
    power[0, 0, 0] = 1.0
    with pytest.raises(ValueError, match="requires sides of 2 pixels or more, and power beyond frequency 0"):
        plots.scales(sp.GaussianCorruption(), sp.PowerSpectrum(sp.CosineBasis(2), power))


def test_logarithmic_axes_are_made_straight_where_a_plot_needs_them() -> None:
    for draw in (
        lambda axis: plots.scales(sp.GaussianCorruption(), DATA, axis),
        lambda axis: plots.images(torch.zeros(2, 3, 4, 4), axis),
    ):
        axis = matplotlib.pyplot.figure().add_subplot()
        axis.set(xscale="log", yscale="log")
        draw(axis)
        assert (axis.get_xscale(), axis.get_yscale()) == ("linear", "linear")


def test_a_legend_stands_beside_the_lines_where_the_figure_makes_room() -> None:
    own = plots.scales(GAUSSIAN, DATA)
    own.figure.canvas.draw()
    assert own.get_legend().get_window_extent().x0 >= own.get_window_extent().x1
    fixed = matplotlib.figure.Figure().subplots()
    plots.scales(GAUSSIAN, DATA, fixed).figure.canvas.draw()
    assert fixed.get_legend().get_window_extent().x1 <= fixed.get_window_extent().x1


def test_half_and_twice_the_power_are_as_far_from_one() -> None:
    axis = plots.power(torch.randn(64, 3, 8, 8), DATA)
    assert axis.get_yscale() == "log"
    low, high = axis.get_ylim()
    assert low <= 0.5 < 2 <= high


def test_images_are_tiled_on_nothing() -> None:
    x = torch.rand(3, 1, 16, 16) * 2 - 1
    sheet = plots.images(x, columns=2).get_images()[0].get_array()
    assert sheet.shape == (33, 33, 4)
    torch.testing.assert_close(torch.as_tensor(sheet[:16, 17:, 0]).float(), (x[1, 0] + 1) / 2)
    assert (sheet[17:, 17:, 3] == 0).all()
    assert (sheet[16, :, 3] == 0).all()
    with pytest.raises(
        ValueError, match=r"images must be \(N, C, H, W\) with one or three channels, got \(3, 2, 4, 4\)$"
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
    with pytest.raises(
        ValueError, match=r"samples and data must be \(N, C, H, W\) of one size, got \(3, 3, 8, 8\) and \(9, 3, 4, 4\)"
    ):
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


def test_errors_give_code_that_runs_and_refuse_axes_that_are_not_straight() -> None:
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(
        TypeError, match=r"images of 'a' must be .*; convert 8-bit images with x\.float\(\) / 127\.5 - 1"
    ):
        plots.rows({"a": x.byte()})
    with pytest.raises(ValueError, match=r"images is sparse; pass images\.to_dense\(\)"):
        plots.images(x.to_sparse())
    for projection in ("polar", "3d"):
        axis = matplotlib.pyplot.figure().add_subplot(projection=projection)
        for draw in (lambda on: plots.images(x, on), lambda on: plots.spectrum(spectrum(), on)):
            with pytest.raises(ValueError, match=f"two straight axes, got the projection '{projection}'"):
                draw(axis)


def test_power_of_two_sets_of_samples_is_in_view_on_one_axis() -> None:
    law = sp.PowerSpectrum.power_law((1, 16, 16), amplitude=1.0, offset=0.01, exponent=2.0)
    samples = law.basis.synthesize(law.power.sqrt() * torch.randn(64, 1, 16, 16, dtype=torch.float64))
    axis = plots.power(samples, law)
    low, high = axis.get_ylim()
    assert low <= 0.5 < 2 <= high
    plots.power(samples / 4, law, axis)
    low, high = axis.get_ylim()
    for line in axis.get_lines():
        values = [float(value) for value in line.get_ydata()]
        assert low <= min(values) <= max(values) <= high
