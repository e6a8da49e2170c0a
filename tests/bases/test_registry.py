"""What a basis is saved as, and made again from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typing_extensions import override

import shortest_path as sp
from shortest_path.bases import Basis, SeparableBasis, WaveletBasis, _registry, basis_from_state, basis_state, register
from tests.bases.test_bases import bases

TURN = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(_registry, "_REGISTERED", dict(_registry._REGISTERED))


class Matrix(Basis):
    """A user's own orthonormal matrix along one axis, raised to a power."""

    argument_names = ("matrix", "order")

    def __init__(self, matrix: Tensor, *, order: int = 1, channel_rotation: Tensor | None = None) -> None:
        super().__init__(1, channel_rotation)
        self.register_buffer("matrix", matrix.to(torch.float64))
        self.order = order

    @override
    def spatial_coefficients(self, x: Tensor) -> Tensor:
        return x @ torch.linalg.matrix_power(self.matrix, self.order).to(x).T

    @override
    def spatial_inverse(self, u: Tensor) -> Tensor:
        return u @ torch.linalg.matrix_power(self.matrix, self.order).to(u)


class Stack(Basis):
    """Several bases and tensors in sequences, next to plain values."""

    argument_names = ("bases", "shifts", "first", "note")

    def __init__(self, bases: Any, shifts: Any, first: Basis, note: str | None) -> None:
        super().__init__(1)
        self.parts = torch.nn.ModuleList([first, *bases])
        self.shifts, self.note = shifts, note

    bases = property(lambda self: tuple(self.parts)[1:])
    first = property(lambda self: self.parts[0])


def own() -> Matrix:
    return Matrix(torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q, order=2)


def written_and_read(state: dict[str, Any]) -> dict[str, Any]:
    """Put a state into an archive without pickles, as a spectrum is saved, and read it."""
    arrays = {name: value.numpy() for name, value in state.items() if isinstance(value, Tensor)}
    header = json.dumps({name: value for name, value in state.items() if name not in arrays})
    file = io.BytesIO()
    np.savez(file, header=np.array(header), **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as archive:
        tensors = {name: torch.from_numpy(archive[name]) for name in archive.files if name != "header"}
        return {**json.loads(str(archive["header"])), **tensors}


def check_round_trip(basis: Basis, x: Tensor) -> None:
    state = basis_state(basis)
    again = basis_from_state({**written_and_read(state), "power": None, "count": 3})
    assert type(again) is type(basis)
    assert again.shares_transform(basis)
    assert torch.equal(again.analyze(x), basis.analyze(x))
    assert basis_state(again).keys() == state.keys()


@pytest.mark.parametrize("name", bases((2, 4, 8)))
def test_every_basis_of_the_library_is_read_as_it_was_written(name: str) -> None:
    check_round_trip(bases((2, 4, 8))[name], torch.randn(3, 2, 4, 8, dtype=torch.float64))


def test_the_library_registers_every_basis_it_exports() -> None:
    exported = {name for name in sp.bases.__all__ if name.endswith("Basis")} - {"Basis"}
    assert set(_registry._REGISTERED) >= exported


def test_a_basis_of_ones_own_is_read_as_it_was_written() -> None:
    assert register(Matrix) is Matrix
    x = torch.randn(3, 2, 8, dtype=torch.float64)
    check_round_trip(own(), x)
    check_round_trip(own().with_channel_rotation(TURN), x)
    check_round_trip(
        SeparableBasis((own(), "cosine", WaveletBasis("db2", 1, 1)), TURN), x[..., None, None].expand(3, 2, 8, 3, 4)
    )
    inner = SeparableBasis((own(),))
    check_round_trip(SeparableBasis(("pixel", inner)), x)


def test_a_nested_basis_is_written_under_the_name_of_its_axis() -> None:
    register(Matrix)
    matrix = own()
    state = basis_state(SeparableBasis(("fourier", matrix), TURN))
    assert {name: value for name, value in state.items() if not isinstance(value, Tensor)} == {
        "basis": "SeparableBasis",
        "axes.0.basis": "FourierBasis",
        "axes.0.dims": 1,
        "axes.1.basis": "Matrix",
        "axes.1.order": 2,
    }
    assert torch.equal(state["axes.1.matrix"], matrix.matrix)
    assert torch.equal(state["channel_rotation"], TURN)


def test_sequences_of_bases_and_tensors_are_read_in_their_order() -> None:
    register(Stack)
    parts = [sp.CosineBasis(size) for size in range(12)]  # more than ten: "10" sorts before "2"
    shifts = [torch.arange(3), torch.eye(2), 5]
    again = basis_from_state(written_and_read(basis_state(Stack(parts, shifts, WaveletBasis("db3"), None))))
    assert isinstance(again, Stack)
    assert [part.dims for part in again.bases] == list(range(12))
    assert again.first.shares_transform(WaveletBasis("db3"))
    assert again.note is None
    assert again.shifts[2] == 5
    assert torch.equal(again.shifts[0], torch.arange(3))


def test_what_is_handed_out_is_a_copy() -> None:
    register(Matrix)
    basis = own().with_channel_rotation(TURN)
    before = basis.matrix.clone()
    for value in basis_state(basis).values():
        if isinstance(value, Tensor):
            value.zero_()
    assert torch.equal(basis.matrix, before)
    assert torch.equal(basis.channel_rotation, TURN)


def test_a_parameter_is_saved_without_its_gradient() -> None:
    register(Matrix)
    basis = own()
    matrix = basis.matrix
    del basis.matrix
    basis.matrix = torch.nn.Parameter(matrix)
    assert torch.equal(written_and_read(basis_state(basis))["matrix"], matrix)


def test_a_cell_may_be_run_twice() -> None:
    cell = """
class Again(Basis):
    def spatial_coefficients(self, x):
        return {0}
    def spatial_inverse(self, u):
        return {0}
register(Again)
"""
    names: dict[str, Any] = {"Basis": Basis, "register": register, "__name__": "__main__"}
    exec(cell.format("x"), names)
    old = names["Again"](1)
    exec(cell.format("-x"), names)
    again = basis_from_state(basis_state(old))  # made before the cell was run again
    assert type(again) is names["Again"]
    assert float(again.analyze(torch.ones(1, 1))) == -1


def test_another_class_cannot_take_a_name() -> None:
    class CosineBasis(Basis):
        pass

    with pytest.raises(ValueError, match="CosineBasis is already registered, from shortest_path.bases._cosine; rename"):
        register(CosineBasis)
    assert type(basis_from_state({"basis": "CosineBasis", "dims": 1})) is sp.CosineBasis


class Missing(Basis):
    argument_names = ("dims", "order")

    def __init__(self, dims: int, order: int) -> None:
        super().__init__(dims)


class Odd(Basis):
    argument_names = ("value",)

    def __init__(self, value: object) -> None:
        super().__init__(1)
        self.value = value


class Unlisted(Basis):
    def __init__(self, matrix: Tensor, dims: int = 1) -> None:
        super().__init__(dims)


class Unknown(Basis):
    argument_names = ("dims", "size")


class Power(Basis):
    argument_names = ("power",)

    def __init__(self, power: float) -> None:
        super().__init__(1)


class Flexible(Odd):
    def __init__(self, **options: object) -> None:
        super().__init__(options["value"])


def saved(basis: Basis) -> object:
    register(type(basis))
    return basis_state(basis)


def test_a_constructor_of_any_keywords_is_taken() -> None:
    register(Flexible)
    assert basis_from_state(basis_state(Flexible(value=[1, None, "a"]))).value == [1, None, "a"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: register(int), TypeError, "requires a subclass of Basis, got <class 'int'>"),
        (lambda: register(sp.CosineBasis()), TypeError, r"requires a subclass of Basis, got CosineBasis\(dims=2\)"),
        (lambda: register(Unlisted), TypeError, r"\['dims', 'matrix'\], got \('dims',\); set argument_names"),
        (lambda: register(Unknown), TypeError, r"argument_names of Unknown must list .* got \('dims', 'size'\)"),
        (lambda: register(Power), ValueError, "argument 'power' of Power has the name of a value that spectra save"),
        (lambda: basis_state(Matrix(torch.eye(2))), ValueError, "cannot save Matrix: it is not a registered basis"),
        (
            lambda: basis_state(SeparableBasis(("pixel", Matrix(torch.eye(2))))),
            ValueError,
            "cannot save Matrix: .* decorate its class with @shortest_path.bases.register",
        ),
        (lambda: saved(Missing(1, 2)), ValueError, "Missing has no attribute 'order', .* set it in the constructor"),
        (lambda: saved(Odd({"a": 1})), TypeError, "cannot save Odd: its argument value is a dict; arguments must be"),
        (lambda: saved(Odd([1, object()])), TypeError, "cannot save Odd: its argument value is a list"),
        (lambda: saved(Odd((np.zeros(2), torch.zeros(2)))), TypeError, "argument value.0 is a ndarray"),
        (lambda: saved(Matrix(torch.eye(2)).to("meta")), ValueError, "Matrix.matrix is on the meta device"),
        (lambda: basis_from_state({"basis": "Nowhere"}), ValueError, "'Nowhere' is not registered .*import the module"),
        (lambda: basis_from_state({"basis": "CosineBasis"}), KeyError, "dims"),
        (lambda: basis_from_state({"dims": 1}), KeyError, "basis"),
        (lambda: basis_from_state({"basis": "SeparableBasis", "axes.1.basis": "CosineBasis"}), KeyError, "0"),
        (lambda: basis_from_state({"basis": "SeparableBasis", "axes.0.dims": 1}), KeyError, "0"),
    ],
)
def test_wrong_arguments_are_explained(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
