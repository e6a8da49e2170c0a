"""Laws of the orthonormal bases, against torch.fft and scipy."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import shortest_path as sp
from shortest_path.bases import _cosine, _dct
from tests.fake_gpu import FakeGPU, exists
from tests.strategies import fuzz
from tests.training.processes import together

SHAPES = {
    "signal": (2, 17),
    "signal-one-sample": (1, 1),
    "image": (3, 8, 8),
    "odd-image": (3, 7, 5),
    "wide-image": (1, 6, 11),
    "volume": (2, 4, 3, 5),
    "even-signal": (2, 12),
    "long-signal": (1, 160),
    "even-image": (3, 2, 20),
    "even-volume": (2, 4, 2, 6),
}


def rotation(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64)).Q


def bases(shape: tuple[int, ...]) -> dict[str, sp.bases.Basis]:
    dims = len(shape) - 1
    turn = rotation(shape[0])
    names = ("fourier", "cosine", "pixel")[:dims]
    wavelets: dict[str, sp.bases.Basis] = {
        "haar": sp.bases.WaveletBasis("haar", dims=dims),
        "db2-rotated": sp.bases.WaveletBasis("db2", 1, dims, turn),
        "db10": sp.bases.WaveletBasis("db10", dims=dims),
    }
    return {
        "pixel": sp.PixelBasis(dims),
        "cosine": sp.CosineBasis(dims),
        "cosine-rotated": sp.CosineBasis(dims, turn),
        "fourier": sp.FourierBasis(dims),
        "fourier-rotated": sp.FourierBasis(dims, turn),
        "principal": sp.PrincipalBasis(rotation(int(np.prod(shape))), dims),
        "separable": sp.bases.SeparableBasis(names),
        "separable-rotated": sp.bases.SeparableBasis(names[::-1], turn),
        **(wavelets if all(n % 2 == 0 for n in shape[1:]) else {}),
    }


ALL = [(shape, name) for shape in SHAPES for name in bases(SHAPES[shape])]


@pytest.mark.parametrize(("shape", "name"), ALL)
def test_basis_is_orthonormal(shape: str, name: str) -> None:
    size = SHAPES[shape]
    basis = bases(size)[name]
    count = int(np.prod(size))
    matrix = basis.analyze(torch.eye(count, dtype=torch.float64).reshape(count, *size)).reshape(count, count)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(count, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("shape", "name"), ALL)
def test_synthesize_inverts_analyze_for_any_batch(shape: str, name: str) -> None:
    basis = bases(SHAPES[shape])[name]
    x = torch.randn(2, 3, *SHAPES[shape], dtype=torch.float64)
    u = basis.analyze(x)
    assert (u.shape, u.dtype) == (x.shape, x.dtype)
    torch.testing.assert_close(basis.synthesize(u), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(u[1, 2], basis.analyze(x[1, 2]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("shape", "name"), ALL)
def test_images_are_mixed_in_coefficients(shape: str, name: str) -> None:
    basis = bases(SHAPES[shape])[name]
    x, y, a, b = torch.randn(4, 1, *SHAPES[shape], dtype=torch.float64)
    u_x, u_y = basis.analyze(x), basis.analyze(y)
    for even in (False, True):
        if even and isinstance(basis, sp.FourierBasis):
            a, b = (weight + basis.mirror(weight) for weight in (a, b))
        expected = tuple(basis.synthesize(u) for u in (a * u_x + b * u_y, b * u_x - a * u_y))
        torch.testing.assert_close(basis.mix(x, y, (a, b), (b, -a), even=even), expected)
        torch.testing.assert_close(basis.mix(x, y, (a, b), even=even), expected[:1])


@pytest.mark.parametrize("shape", SHAPES)
def test_cosine_is_scipys_dct(shape: str) -> None:
    size = SHAPES[shape]
    x = torch.randn(2, *size, dtype=torch.float64)
    expected = scipy.fft.dctn(x.numpy(), type=2, norm="ortho", axes=range(2, x.ndim))
    torch.testing.assert_close(sp.CosineBasis(len(size) - 1).analyze(x), torch.from_numpy(expected), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_fourier_is_hartley_and_its_own_inverse(shape: str) -> None:
    size = SHAPES[shape]
    basis = sp.FourierBasis(len(size) - 1)
    x = torch.randn(2, *size, dtype=torch.float64)
    spectrum = torch.fft.fftn(x, dim=list(range(2, x.ndim)), norm="ortho")
    torch.testing.assert_close(basis.analyze(x), spectrum.real - spectrum.imag)
    torch.testing.assert_close(basis.analyze(basis.analyze(x)), x)
    torch.testing.assert_close(basis.mirror(spectrum), spectrum.conj())  # as the images are real


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 2, 7, 32, 513, 1000])
def test_fast_cosine_agrees_with_the_matrix(n: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_cosine._MATRIX_LIMIT, "cpu", 0)
    x, basis = torch.randn(count, n, dtype=torch.float64), sp.CosineBasis(1)
    u = basis.analyze(x)
    torch.testing.assert_close(u, x @ _dct.cosine_matrix(n).T, atol=1e-11, rtol=0)
    torch.testing.assert_close(basis.synthesize(u), x, atol=1e-11, rtol=0)


@pytest.mark.parametrize("size", [(256, 256), (257, 251)])
def test_fast_cosine_is_as_exact_in_float32_as_the_matrix(size: tuple[int, int]) -> None:
    x, basis = torch.randn(3, *size, generator=torch.Generator().manual_seed(0)), sp.CosineBasis()
    rows, columns = (_dct.cosine_matrix(n) for n in size)
    exact = rows @ x.double() @ columns.T
    by_matrix = rows.float() @ x @ columns.float().T
    far = (basis.analyze(x) - exact).abs().max()
    assert far < 5e-6
    assert far < (by_matrix - exact).abs().max()
    back = rows.T @ exact @ columns
    assert (basis.synthesize(exact.float()) - back).abs().max() < 5e-6


@pytest.mark.parametrize("limit", [0, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_long_axes_take_the_fft(shape: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, basis = torch.randn(2, *SHAPES[shape], dtype=torch.float64), sp.CosineBasis(len(SHAPES[shape]) - 1)
    expected = basis.analyze(x)
    monkeypatch.setitem(_cosine._MATRIX_LIMIT, "cpu", limit)
    u = basis.analyze(x)
    torch.testing.assert_close(u, expected)
    torch.testing.assert_close(basis.synthesize(u), x)
    assert basis.analyze(x[:0]).shape == x[:0].shape
    x = x.requires_grad_()
    there_and_back = lambda x: basis.synthesize(basis.analyze(x) ** 2)  # noqa: E731
    assert torch.autograd.gradcheck(there_and_back, x, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(there_and_back, x, fast_mode=True)
    loss = lambda x: there_and_back(x).square().sum()  # noqa: E731
    small = x.detach()[:1]
    forward_over_reverse = torch.func.jvp(torch.func.grad(loss), (small,), (torch.ones_like(small),))[1]
    twice = torch.func.grad(lambda x: torch.func.grad(loss)(x).sum())(small)
    torch.testing.assert_close(forward_over_reverse, twice)
    slopes = torch.vmap(torch.func.grad(lambda x: there_and_back(x).sum()))(x.detach())
    torch.testing.assert_close(slopes, torch.autograd.grad(there_and_back(x).sum(), x)[0])
    mapped = torch.vmap(basis.analyze)(torch.stack([x, 2 * x]))
    torch.testing.assert_close(mapped, torch.stack([u, 2 * u]))


def test_fourier_power_of_a_cosine_wave_is_at_its_frequency() -> None:
    n = torch.arange(16, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * 3 * n / 16).expand(1, 8, 16)
    power = sp.FourierBasis().analyze(wave)[0] ** 2
    frequency = sp.FourierBasis().frequencies((8, 16))
    assert power[frequency == 3].sum() == pytest.approx(power.sum())


def test_cosine_frequencies_count_half_cycles() -> None:
    assert sp.CosineBasis().frequencies((4, 4))[0].tolist() == [0, 0.5, 1, 1.5]
    # In cycles per longest side: two half-waves in 3 pixels are 4/3 of a cycle in 4.
    assert sp.CosineBasis().frequencies((3, 4))[2, 3] == pytest.approx(((4 / 3) ** 2 + 1.5**2) ** 0.5)


@pytest.mark.parametrize("name", bases((3, 8, 8)))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_transformed_in_float32(name: str, dtype: torch.dtype) -> None:
    basis = bases((3, 8, 8))[name]
    x = torch.randn(2, 3, 8, 8).to(dtype)
    u = basis.analyze(x)
    assert u.dtype == dtype
    torch.testing.assert_close(u, basis.analyze(x.float()).to(dtype))


@pytest.mark.parametrize("name", bases((3, 8, 8)))
def test_autocast_does_not_lower_the_precision(name: str) -> None:
    basis = bases((3, 8, 8))[name]
    x = torch.randn(2, 3, 8, 8)
    expected = basis.analyze(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(basis.analyze(x), expected)


@pytest.mark.parametrize("name", bases((3, 2, 4)))
def test_gradients_flow(name: str) -> None:
    basis = bases((3, 2, 4))[name]
    x = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(basis.analyze, x)
    assert torch.autograd.gradcheck(basis.synthesize, x)


def test_training_works_after_sampling_in_inference_mode() -> None:
    basis = sp.CosineBasis()
    x = torch.randn(1, 3, 4, 4)
    with torch.inference_mode():
        basis.analyze(x)
    basis.analyze(x.requires_grad_()).sum().backward()
    assert x.grad is not None


def test_a_loaded_matrix_takes_the_place_of_the_one_before() -> None:
    basis, other = (sp.PrincipalBasis(torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64)).Q, 1) for _ in range(2))
    x = torch.randn(2, 3, 4)
    basis.analyze(x)
    basis.load_state_dict(other.state_dict())
    assert torch.equal(basis.analyze(x), other.analyze(x))


def test_tables_keep_their_precision_when_a_model_is_cast() -> None:
    exact = sp.CosineBasis(2, rotation(3))
    cast = sp.CosineBasis(2, rotation(3)).half().to(torch.bfloat16)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(cast.analyze(x), exact.analyze(x))


@pytest.mark.parametrize("name", bases((3, 8, 8)))
def test_images_of_a_caller_are_not_changed(name: str) -> None:
    basis = bases((3, 8, 8))[name]
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    before = x.clone()
    basis.analyze(x), basis.synthesize(x), basis.mix(x, x, (x, x))
    assert torch.equal(x, before)


@pytest.mark.skipif(not exists(), reason="this version of torch cannot pretend to have a device")
def test_a_device_without_float64_gives_what_the_cpu_gives_without_waits(tmp_path: Path) -> None:
    together(_compare, tmp_path, ranks=1)


def _compare(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    gpu, x = FakeGPU(float64=False), torch.randn(2, 3, 8, 8)
    for name, basis in bases((3, 8, 8)).items():
        expected, state = (basis.analyze(x), basis.synthesize(x)), sp.bases.basis_state(basis)
        with gpu:
            there = x.to("gpu")
            basis.to("gpu")
            basis.analyze(there)  # with the tables of the basis, which are copied once
            gpu.forget()
            found = basis.analyze(there), basis.synthesize(there)
            assert gpu.waits + gpu.copies == [], name
            torch.testing.assert_close([each.to("cpu") for each in found], list(expected), atol=1e-5, rtol=0)
            saved = sp.bases.basis_state(basis)  # in full precision, on the CPU
        assert saved.keys() == state.keys()
        for key, value in state.items():
            assert torch.equal(saved[key], value) if isinstance(value, Tensor) else saved[key] == value


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["cosine-rotated", "fourier-rotated", "db10", "separable-rotated"])
def test_transforms_compile_without_graph_breaks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: set[object] = set()

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        made.update(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph

    for limit in (128, 4):  # the matrix, and the FFT
        monkeypatch.setitem(_cosine._MATRIX_LIMIT, "cpu", limit)
        torch.compiler.reset()
        basis = bases((2, 8, 8))[name]
        x = torch.randn(1, 2, 8, 8)
        there_and_back = torch.compile(_doubled, backend=backend, fullgraph=True)
        torch.testing.assert_close(there_and_back(basis, x), 2 * x)
    assert made.isdisjoint({torch.cos, torch.polar, torch.arange, torch.full})  # tables are constants of the graph


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_fft_and_its_gradient_are_the_eager_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_cosine._MATRIX_LIMIT, "cpu", 4)
    torch.compiler.reset()
    basis, x, sent = sp.CosineBasis(2, rotation(2)), torch.randn(1, 2, 8, 5), torch.randn(1, 2, 8, 5)
    analyze, synthesize = (torch.compile(f, backend="aot_eager", fullgraph=True) for f in (_analyzed, _synthesized))
    for compiled, eager in ((analyze, _analyzed), (synthesize, _synthesized)):
        slopes = []
        for work in (compiled, eager):
            at = x.clone().requires_grad_()
            work(basis, at).backward(sent)
            slopes.append(at.grad)
        torch.testing.assert_close(compiled(basis, x), eager(basis, x))
        torch.testing.assert_close(*slopes)


def _analyzed(basis: sp.bases.Basis, x: torch.Tensor) -> torch.Tensor:
    return basis.analyze(x)


def _synthesized(basis: sp.bases.Basis, x: torch.Tensor) -> torch.Tensor:
    return basis.synthesize(x)


def _doubled(basis: sp.bases.Basis, x: torch.Tensor) -> torch.Tensor:
    return basis.synthesize(2 * basis.analyze(x))


@pytest.mark.parametrize("name", ["cosine", "fourier", "separable", "haar", "db10"])
@pytest.mark.parametrize(("axis", "cycles", "frequency"), [(-1, 3, 3), (-1, 6, 6), (-2, 1, 2), (-2, 3, 6)])
def test_frequencies_are_those_of_waves_in_cycles_per_longest_side(
    name: str, axis: int, cycles: int, frequency: int
) -> None:
    basis = bases((1, 8, 16))[name]
    n = (1, 8, 16)[axis]
    phases = torch.arange(8, dtype=torch.float64)[:, None] * torch.pi / 4
    wave = torch.cos(2 * torch.pi * cycles * torch.arange(n, dtype=torch.float64) / n + phases)
    images = wave[:, None, None].transpose(axis, -1).expand(8, 1, 8, 16)
    power = basis.analyze(images).square().mean((0, 1))
    found = basis.frequencies((8, 16))
    assert (found.dtype, found.shape) == (torch.float64, (8, 16))
    mean = (power * found).sum() / power.sum()
    assert abs(float((mean / frequency).log2())) < (0.5 if name == "haar" else 0.2)  # octaves; Haar's bands overlap


def test_a_transform_of_ones_own_is_used_everywhere_or_refused() -> None:
    reverse = {
        "spatial_coefficients": lambda _, x: x.flip(-1),
        "spatial_inverse": lambda _, u: u.flip(-1),
    }
    message = "Own overrides spatial_coefficients and spatial_inverse of FourierBasis, .* derive it from .*bases.Basis"
    with pytest.raises(TypeError, match=message):
        type("Own", (sp.FourierBasis,), reverse)
    with pytest.raises(TypeError, match="of FourierBasis"):
        type("Own", (type("Mixed", (), reverse), sp.FourierBasis), {})
    type("Named", (sp.FourierBasis,), {})
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    basis = sp.bases.SeparableBasis(("pixel", type("Own", (sp.PixelBasis,), reverse)(1)))
    torch.testing.assert_close(basis.analyze(x), x.flip(-1))
    torch.testing.assert_close(basis.synthesize(x.flip(-1)), x)


@fuzz(120)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    kind=st.sampled_from(
        ["pixel", "cosine", "cosine-rotated", "fourier", "fourier-rotated", "separable", "separable-rotated"]
    ),
    seed=st.integers(0, 1000),
)
def test_parseval_for_any_shape(shape: list[int], kind: str, seed: int) -> None:
    basis = bases((shape[0], *(1,) * (len(shape) - 1)))[kind]  # none of these looks at the size of an image
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    u = basis.analyze(x)
    assert u.square().sum().item() == pytest.approx(x.square().sum().item())
    torch.testing.assert_close(basis.synthesize(u), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sp.CosineBasis(-1), "dims must be 0 or more, got -1"),
        (lambda: sp.CosineBasis(2, torch.ones(3, 2)), r"square matrix, got shape \(3, 2\)"),
        (lambda: sp.CosineBasis(2, torch.ones(3, 3)), "must be orthonormal, but its rows deviate"),
        (lambda: sp.CosineBasis(2, rotation(3) * (1 + 1e-12)), "must be orthonormal, but its rows deviate by 2e-12"),
        (lambda: sp.PrincipalBasis(torch.full((4, 4), float("nan"))), "must be orthonormal"),
        (lambda: sp.CosineBasis(2, rotation(3)).analyze(torch.zeros(1, 4, 8, 8)), "rotation is for 3 channels, got 4"),
        (lambda: sp.CosineBasis(2).analyze(torch.zeros(4)), r"needs at least 2 axes, got shape \(4,\)"),
        (lambda: sp.PrincipalBasis(torch.eye(12), 1).analyze(torch.zeros(12)), "needs a channel axis and 1 spatial"),
        (lambda: sp.PrincipalBasis(torch.eye(12)).analyze(torch.zeros(1, 3, 3, 2)), "samples of 12 values, got 18"),
        (lambda: sp.PixelBasis().frequencies((4, 4)), "PixelBasis has no frequencies"),
    ],
)
def test_wrong_arguments_are_explained(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("x", [torch.zeros(1, 3, 8, 8, dtype=torch.uint8), np.zeros((1, 3, 8, 8))])
def test_only_floating_point_tensors_are_accepted(x: object) -> None:
    with pytest.raises(TypeError, match="must be a"):
        sp.CosineBasis().analyze(x)  # type: ignore[arg-type]


def test_matrices_of_many_sizes_do_not_stay() -> None:
    basis = sp.CosineBasis()
    for size in range(2, 102):
        x = torch.ones(1, 1, size, 3)
        torch.testing.assert_close(basis.synthesize(basis.analyze(x)), x)
    assert len(basis._cache) <= 32


def test_operations_of_compiled_graphs_have_written_schemas() -> None:
    """Torch 2.4 cannot tell them from annotations that are not evaluated, and the package could not be imported."""
    made = 0
    for file in Path(sp.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "custom_op":
                assert "schema" in {keyword.arg for keyword in node.keywords}, f"{file.name}, line {node.lineno}"
                made += 1
    assert made
