"""Files and states of spectra: the mean, empty coefficients, and every basis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typing_extensions import override

import shortest_path as sp
from tests.worlds import SHAPE, correlated_images


@sp.bases.register
class Shifted(sp.PixelBasis):
    """A user's own basis, with an argument of its own: the last axis, shifted in a ring."""

    argument_names = ("dims", "shift")

    def __init__(self, dims: int = 2, shift: int = 1) -> None:
        super().__init__(dims)
        self.shift = shift

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return x.roll(self.shift, -1)

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return u.roll(-self.shift, -1)


MATRIX = torch.linalg.qr(torch.randn(192, 192, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
BASES = {
    "CosineBasis": sp.CosineBasis(),
    "FourierBasis": sp.FourierBasis(),
    "PixelBasis": sp.PixelBasis(),
    "PrincipalBasis": sp.PrincipalBasis(MATRIX),
    "Shifted": Shifted(shift=3),
}


def both_ways(spectrum: sp.PowerSpectrum, folder: Path) -> list[sp.PowerSpectrum]:
    spectrum.save(folder / "s.npz")
    torch.save(spectrum.state_dict(), folder / "s.pt")
    state = torch.load(folder / "s.pt", weights_only=True)
    return [sp.PowerSpectrum.load(folder / "s.npz"), sp.PowerSpectrum.from_state_dict(state)]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("name", BASES)
def test_a_spectrum_in_any_registered_basis_is_read_again(tmp_path: Path, name: str, center: bool) -> None:
    measured = sp.PowerSpectrum.estimate([correlated_images(32) + 0.2], BASES[name], center=center)
    x = correlated_images(2)
    for again in both_ways(measured, tmp_path):
        assert type(again.basis).__name__ == name
        assert torch.equal(again.power, measured.power)
        assert (again.mean is not None) == center
        for of_again, of_measured in ((again.mean, measured.mean), (again.cross, measured.cross)):
            assert (of_again is None) == (of_measured is None)
            assert of_again is None or torch.equal(of_again, of_measured)
        assert torch.equal(again.basis.analyze(x), measured.basis.analyze(x))
        assert repr(again) == repr(measured)


def test_empty_coefficients_are_read_again(tmp_path: Path) -> None:
    for again in both_ways(sp.PowerSpectrum.band(SHAPE, 1, 3), tmp_path):
        assert torch.equal(again.power, sp.PowerSpectrum.band(SHAPE, 1, 3).power)


def test_a_state_is_the_callers() -> None:
    spectrum = sp.PowerSpectrum.estimate([correlated_images(16)])
    kept = spectrum.power.clone(), spectrum.mean.clone(), spectrum.basis.channel_rotation.clone()
    for value in spectrum.state_dict().values():
        if isinstance(value, Tensor):
            value.zero_()
    for found, before in zip((spectrum.power, spectrum.mean, spectrum.basis.channel_rotation), kept, strict=True):
        assert torch.equal(found, before)


def test_a_basis_that_is_not_registered_cannot_be_saved(tmp_path: Path) -> None:
    class Own(sp.PixelBasis):
        pass

    with pytest.raises(
        ValueError, match=r"cannot save Own: .* decorate its class with @shortest_path\.bases\.register"
    ):
        sp.PowerSpectrum(Own(1), torch.ones(1, 4)).save(tmp_path / "s.npz")
    assert not list(tmp_path.iterdir())


def test_values_of_a_spectrum_are_no_arguments_of_a_basis() -> None:
    saved = {*sp.PowerSpectrum.estimate([correlated_images(8)]).state_dict(), "header"}  # that of the file
    for name in saved - {"dims", "basis", "channel_rotation"}:
        own = type("Own", (sp.PixelBasis,), {"argument_names": (name,), "__init__": _makes(name)})
        with pytest.raises(ValueError, match=f"argument '{name}' of Own has the name of a value that spectra save"):
            sp.bases.register(own)


def _makes(name: str) -> Callable[..., None]:
    names: dict[str, Any] = {}
    exec(f"def __init__(self, {name}=None): pass", names)
    return names["__init__"]


def test_a_state_that_is_none_is_explained() -> None:
    with pytest.raises(TypeError, match=r"state must be what state_dict\(\) returned, got list"):
        sp.PowerSpectrum.from_state_dict([])  # type: ignore[arg-type]
    state = sp.PowerSpectrum.band((1, 4), 0, 2).state_dict()
    for change, message in (
        ({"version": 0}, "an inconsistent power spectrum: version 0, expected a number from 1 on"),
        ({"version": 2}, "has format version 2, this library reads up to 1; update"),
        ({"mean": torch.ones(4)}, "an inconsistent power spectrum: mean must be an image of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            sp.PowerSpectrum.from_state_dict({**state, **change})


def test_what_cannot_be_a_file_of_a_spectrum_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spectrum = sp.PowerSpectrum.band((1, 4), 0, 2)
    for call in (spectrum.save, sp.PowerSpectrum.load):
        for path, error, message in (
            (None, TypeError, "path must be a path, got NoneType"),
            (1, TypeError, "path must be a path, got int"),
            ("", ValueError, r"path is empty; pass a file, e.g. 'spectrum.npz'"),
            (tmp_path, ValueError, r"path must be a file, got the folder .*; name a file in it, e.g. .*spectrum.npz"),
        ):
            with pytest.raises(error, match=message):
                call(path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    spectrum.save("~/spectrum.npz")
    assert torch.equal(sp.PowerSpectrum.load(tmp_path / "spectrum.npz").power, spectrum.power)


def test_a_scale_beyond_float64_is_named() -> None:
    spectrum = sp.PowerSpectrum.power_law((1, 8), amplitude=0.5, offset=0.1, exponent=2.0)
    for scale in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"scale must be a finite number, got {scale}"):
            spectrum.tempered(scale)
    for scale in (1e5, -1e5):
        with pytest.raises(ValueError, match=r"S\^scale is beyond float64 for scale=.* and S from .*; pass a scale"):
            spectrum.tempered(scale)
