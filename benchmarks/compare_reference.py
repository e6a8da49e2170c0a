"""Our shortest path against the reference research code, side by side in one run.

    git clone https://github.com/mtkresearch/shortest-path-diffusion
    python benchmarks/compare_reference.py --reference shortest-path-diffusion

Batch 128 of 3×32×32, one thread, medians over interleaved repeats. Before anything is timed, both must give the
same x_t for the same x_0, noise and t, and the same reverse step: what is compared is then two computations of the
same thing. "ours, same spectrum" has the reference's power law, in the Fourier basis; "ours, cosine" is what the
library recommends, a measured spectrum in the cosine basis after a rotation of the channels.

What is done for a fair comparison:

- Both sides run on a warm heap: a 28 MB tensor is allocated and freed first (see `timing.warm_heap`), as in any
  real training. Without it every call pays page faults for its temporaries, the more the more of them it makes. The
  reference's reverse step makes temporaries of T×3×32×32 float64, which no heap keeps warm.
- Every corruption has fresh times, as in training: the reference gathers rows of a large table, and with the same
  times again and again they would stay in the cache.
- The reverse step is one of a chain, divided by the length of the chain, with a model that returns its input: for us
  a `Sampler` run from given images, basis transforms at both ends of the chain included.
- The reference draws its noise on "cuda" by default, so that default is replaced by "cpu". blobfile and mpi4py, which
  only its data loading needs, are replaced by empty modules. Nothing else of it is changed.

Memory is measured in a fresh process for each side: how much its resident set grows by building the process and
corrupting one image with it, after a chain of three steps of the same side has been built, used and dropped, so that
library code and plans used for the first time do not count.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath  # torch itself depends on it, through sympy
import numpy as np
import torch
from torch import Tensor

import shortest_path as sp
from gaussian_table import generated_images
from timing import (
    Row,
    Timings,
    duration,
    interleaved,
    one_thread,
    parser,
    print_report,
    save_report,
    time_row,
    warm_heap,
)

BATCH, SHAPE = 128, (3, 32, 32)
CONSTANTS = {"amplitude": 1.59, "offset": 0.0086, "exponent": 2.0}
CORRUPT_BOUND, STEP_BOUND, MEMORY_BOUND, BUILD_BOUND, SNR_BOUND = 0.75, 0.08, 5e6, 50e-3, 1e-5
SAME_X_T, SAME_STEP = 1e-4, 1e-3  # what the reference's float32 cumulative products allow
_CHAIN, _MORE = 5, 100
_MIB = 2**20


def main() -> None:
    options = parser(__doc__, repeats=30)
    options.add_argument("--reference", type=Path, required=True, help="a clone of the reference repository")
    options.add_argument("--steps", type=int, default=4000, help="T of the reference's chain (default 4000)")
    options.add_argument("--builds", type=int, default=3, help="how often the reference is built for its time")
    options.add_argument("--child", choices=["reference", "ours"], help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.steps < 10:
        options.error(f"--steps must be 10 or more, got {arguments.steps}")
    one_thread()
    warm_heap()
    reference_module = import_reference(arguments.reference)
    if arguments.child:
        print(json.dumps(memory_of(arguments.child, reference_module, arguments.steps)))
        return

    memory = {side: in_fresh_process(arguments, side) for side in ("reference", "ours")}
    measured = sp.PowerSpectrum.estimate(generated_images(1000).split(250))
    with torch.no_grad():
        reference, their_builds = timed(lambda: build_reference(reference_module, arguments.steps), arguments.builds)
        ours, our_builds = timed(build_ours, arguments.repeats)
        cosine, cosine_builds = timed(lambda: sp.ShortestPathCorruption(measured), arguments.repeats)
        x_t_error = largest_corrupt_difference(reference, ours, arguments.steps)
        step_error = largest_step_difference(reference_module, reference, ours, arguments.steps)
        check_same(x_t_error, step_error)
        corrupting = time_corrupt(reference, ours, cosine, arguments)
        stepping = time_steps(reference, ours, cosine, arguments)
    reference_snr, our_snr, time_rounding = snr_errors(reference, ours, arguments.steps)

    rows = [
        time_row("corrupt a batch, noise drawn; ours, same spectrum", corrupting, "ours", "reference", CORRUPT_BOUND),
        time_row("corrupt a batch, noise drawn; ours, cosine", corrupting, "cosine", "reference", CORRUPT_BOUND),
        time_row("one reverse step without model; ours, same spectrum", stepping, "ours", "reference", STEP_BOUND),
        time_row("one reverse step without model; ours, cosine", stepping, "cosine", "reference", STEP_BOUND),
        memory_row("memory to hold the process (resident growth)", memory, "resident"),
        memory_row("of it, tables", memory, "tables"),
        value_row("build the process; ours, same spectrum", their_builds, our_builds, BUILD_BOUND, "< 50 ms"),
        value_row("build the process; ours, cosine", their_builds, cosine_builds, BUILD_BOUND, "< 50 ms"),
        Row(
            "largest relative SNR error, float32, on the reference's grid",
            f"{reference_snr:.2g}",
            f"{our_snr:.2g}",
            our_snr / reference_snr,
            bound=SNR_BOUND,
            bound_text=f"< {SNR_BOUND:g}",
            value=our_snr,
        ),
    ]
    notes = [
        f"Same x_t to {x_t_error:.1e} (tolerance {SAME_X_T:g}), same reverse step to {step_error:.1e} "
        f"(tolerance {SAME_STEP:g}): the differences are the reference's float32 rounding.",
        f"The reference's resident set peaked at {memory['reference']['peak'] / _MIB:.0f} MiB while building.",
        f"{_MORE} more of our processes add {size(memory['ours']['another'])} each.",
        "SNR is compared with the closed form at the same t. Our t is that of the grid rounded to float32, which by "
        f"itself moves the SNR by up to {time_rounding:.1e} where t is next to 1; the sampler computes its scales from "
        "float64 times.",
    ]
    print_report(f"Against the reference implementation, T = {arguments.steps}", rows, notes)
    save_report(
        arguments.json,
        rows,
        steps=arguments.steps,
        memory=memory,
        x_t_difference=x_t_error,
        step_difference=step_error,
        seconds={"corrupt": corrupting.samples, "reverse step": stepping.samples},
    )


def import_reference(path: Path) -> types.ModuleType:
    """Import the reference's module of Fourier processes from a clone, without what only its data loading needs.

    Raises:
        SystemExit: `path` is not a clone of the reference, or it cannot be imported.
    """
    needed = [
        "nonunif_diffusion/script_util.py",
        "nonunif_diffusion/fourier_diffusion.py",
        "guided_diffusion/respace.py",
    ]
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise SystemExit(
            f"{path} is not a clone of the reference repository: it has no {', no '.join(missing)}. "
            "Run: git clone https://github.com/mtkresearch/shortest-path-diffusion"
        )
    for name in ("blobfile", "mpi4py"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["mpi4py"].MPI = types.SimpleNamespace()  # type: ignore[attr-defined]
    sys.path.insert(0, str(path.resolve()))
    try:
        fourier = importlib.import_module("nonunif_diffusion.fourier_diffusion")
        importlib.import_module("nonunif_diffusion.script_util")
    except ImportError as error:
        raise SystemExit(f"the reference in {path} cannot be imported: {error}; pip install pillow") from error
    channels, _cuda = fourier.pixel_and_fourier_noise.__defaults__
    fourier.pixel_and_fourier_noise.__defaults__ = (channels, torch.device("cpu"))
    return fourier


def build_reference(fourier: types.ModuleType, steps: int) -> Any:
    """Build the reference's process with the paper's constants for CIFAR-10."""
    script_util = sys.modules[fourier.__name__.replace("fourier_diffusion", "script_util")]
    return script_util.create_fourier_diffusion(
        steps=steps,
        learn_sigma=False,
        sigma_small=False,
        use_kl=False,
        predict_xstart=False,
        rescale_timesteps=True,
        rescale_learned_sigmas=False,
        image_resolution=SHAPE,
        freq_filter_c1=CONSTANTS["amplitude"],
        freq_filter_c2=CONSTANTS["offset"],
        freq_filter_m=CONSTANTS["exponent"],
    )


def build_ours() -> sp.ShortestPathCorruption:
    """Build the same process with this library."""
    return sp.ShortestPathCorruption(sp.PowerSpectrum.power_law(SHAPE, **CONSTANTS))


def timed(build: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    """Build something several times; return the last one and the seconds of each time."""
    seconds = []
    for _ in range(max(repeats, 1)):
        built = None
        gc.collect()  # the reference's tables must be gone before the next ones are made
        begin = time.perf_counter()
        built = build()
        seconds.append(time.perf_counter() - begin)
    return built, seconds


def grid(steps: int) -> Tensor:
    """Return the times of the reference's indices 0 … T − 1, float64."""
    return sp.reference_times(steps)[:-1].flip(0)


def largest_corrupt_difference(reference: Any, ours: sp.ShortestPathCorruption, steps: int) -> float:
    """Corrupt the same images with the same noise to all kinds of times; return the largest difference."""
    torch.manual_seed(0)
    x_0 = generated_images(BATCH)
    index = torch.linspace(0, steps - 1, BATCH).round().long()
    eps, theirs = reference.q_sample(x_0, index)
    return (ours.corrupt(x_0, grid(steps)[index], eps) - theirs).abs().max().item()


def largest_step_difference(
    fourier: types.ModuleType, reference: Any, ours: sp.ShortestPathCorruption, steps: int
) -> float:
    """Take one reverse step from the same images with the same noise at several times."""
    x_0, times = generated_images(BATCH), sp.reference_times(steps)
    draw_noise = fourier.pixel_and_fourier_noise
    worst = 0.0
    for index in (0, 1, steps // 10, steps // 2, 9 * steps // 10, steps - 1):
        pair = times[steps - 1 - index : steps + 1 - index]
        eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
        x_t = ours.corrupt(x_0, float(pair[0]), eps)
        predicted = eps + 0.1 * torch.randn(x_0.shape, generator=torch.Generator().manual_seed(2))
        sampler = sp.Sampler(lambda x, t, answer=predicted: answer, ours, solver="ancestral", times=pair)
        mine = sampler.sample(x_0.shape, x_1=x_t, generator=torch.Generator().manual_seed(3))
        # Our sampler draws white noise in coefficients: hand the reference the same noise, in pixels.
        noise = ours.basis.synthesize(torch.randn(x_0.shape, generator=torch.Generator().manual_seed(3)))
        try:
            fourier.pixel_and_fourier_noise = lambda *_, white=noise, **__: (white, torch.fft.fft2(white, norm="ortho"))
            position = torch.full((BATCH,), index)
            theirs = reference.p_sample(lambda x, t, answer=predicted: answer, x_t, position)["sample"]
        finally:
            fourier.pixel_and_fourier_noise = draw_noise
        worst = max(worst, (mine - theirs).abs().max().item())
    return worst


def check_same(x_t_error: float, step_error: float) -> None:
    """Stop unless both sides compute the same thing."""
    if not (x_t_error <= SAME_X_T and step_error <= SAME_STEP):
        raise SystemExit(
            f"the two do not compute the same: x_t differs by {x_t_error:.2g} (tolerance {SAME_X_T:g}), a reverse step "
            f"by {step_error:.2g} (tolerance {SAME_STEP:g}); is the clone the original, unmodified?"
        )


def time_corrupt(
    reference: Any,
    ours: sp.ShortestPathCorruption,
    cosine: sp.ShortestPathCorruption,
    arguments: argparse.Namespace,
) -> Timings:
    """Time corrupting a batch at fresh times, the noise drawn by either side."""
    x_0, steps = generated_images(BATCH), arguments.steps
    indices = [torch.randint(0, steps, (BATCH,)) for _ in range(64)]
    all_times = grid(steps).float()
    times = [all_times[index] for index in indices]
    turn = {"reference": 0, "ours": 0, "cosine": 0}

    def following(name: str) -> int:
        turn[name] = (turn[name] + 1) % len(indices)
        return turn[name]

    contenders = {
        "reference": lambda: reference.q_sample(x_0, indices[following("reference")]),
        "ours": lambda: ours.corrupt(x_0, times[following("ours")], torch.randn_like(x_0)),
        "cosine": lambda: cosine.corrupt(x_0, times[following("cosine")], torch.randn_like(x_0)),
    }
    return interleaved(contenders, repeats=arguments.repeats, shortest=2e-2, clock=arguments.clock)


def time_steps(
    reference: Any,
    ours: sp.ShortestPathCorruption,
    cosine: sp.ShortestPathCorruption,
    arguments: argparse.Namespace,
) -> Timings:
    """Time a chain of ancestral steps in the middle of the process, per step, with a model that returns its input."""
    x_t, steps = generated_images(BATCH), arguments.steps
    middle = steps // 2
    times = sp.reference_times(steps)[steps - 1 - middle :][: _CHAIN + 1]

    def reference_chain() -> Tensor:
        x = x_t
        for index in range(middle, middle - _CHAIN, -1):
            x = reference.p_sample(lambda x, t: x, x, torch.full((BATCH,), index))["sample"]
        return x

    def our_chain(corruption: sp.Corruption) -> Callable[[], Tensor]:
        sampler = sp.Sampler(lambda x, t: x, corruption, solver="ancestral", times=times)
        return lambda: sampler.sample(x_t.shape, x_1=x_t)

    contenders = {"reference": reference_chain, "ours": our_chain(ours), "cosine": our_chain(cosine)}
    chains = interleaved(contenders, repeats=arguments.repeats, warmup=1, clock=arguments.clock)
    return Timings({name: [each / _CHAIN for each in seconds] for name, seconds in chains.samples.items()})


def snr_errors(reference: Any, ours: sp.ShortestPathCorruption, steps: int) -> tuple[float, float, float]:
    """Return the largest relative error of a_t² / s_t² over all times and coefficients.

    Returns:
        The reference's, as its float32 cast enters q_sample; ours in float32; and what rounding t to float32
        changes, which is no error of either.
    """
    log_power = sp.PowerSpectrum.power_law(SHAPE, **CONSTANTS).power[:1].log()
    check_closed_form(log_power, steps)
    exact, rounded = grid(steps), grid(steps).float()
    worst_reference, worst_ours, worst_rounding = 0.0, 0.0, 0.0
    for begin in range(0, steps, 250):
        part = slice(begin, begin + 250)
        truth = closed_form_snr(log_power, exact[part])
        truth_rounded = closed_form_snr(log_power, rounded[part].double())
        tables = reference.sqrt_alphas_cumprod, reference.sqrt_one_minus_alphas_cumprod
        theirs = squared_ratio(*(table[part, :1] for table in tables))
        mine = squared_ratio(*(scale.numpy() for scale in ours.scales(rounded[part])))
        worst_reference = max(worst_reference, (theirs / truth - 1).abs().max().item())
        worst_ours = max(worst_ours, (mine / truth_rounded - 1).abs().max().item())
        worst_rounding = max(worst_rounding, (truth_rounded / truth - 1).abs().max().item())
    return worst_reference, worst_ours, worst_rounding


def squared_ratio(signal: np.ndarray, noise: np.ndarray) -> Tensor:
    """Return (a/s)² in float64 of scales rounded to float32."""
    a, s = (torch.from_numpy(scale).float().double() for scale in (signal, noise))
    return (a / s) ** 2


def closed_form_snr(log_power: Tensor, t: Tensor) -> Tensor:
    """Return a_t² / s_t² = expm1((1 − t) L) / (exp((1 − t) L) expm1(t L)), float64."""
    time = t[:, None, None, None]
    rest = (1 - time) * log_power
    return torch.expm1(rest) / (torch.exp(rest) * torch.expm1(time * log_power))


def check_closed_form(log_power: Tensor, steps: int) -> None:
    """Stop unless the float64 closed form agrees with 50 digits of the textbook form (1 − S^(1−t)) / (S^(1−t) − S)."""
    few_times, few_powers = grid(steps)[:: max(steps // 16, 1)], log_power.flatten().sort().values[::128]
    values = closed_form_snr(few_powers[None, :, None], few_times)[:, 0, :, 0]
    with mpmath.workdps(50):
        for i, t in enumerate(few_times.tolist()):
            for j, exponent in enumerate(few_powers.tolist()):
                later = mpmath.exp((1 - mpmath.mpf(t)) * mpmath.mpf(exponent))
                exact = (1 - later) / (later - mpmath.exp(exponent))
                if abs(values[i, j].item() / exact - 1) > 1e-12:
                    raise SystemExit(f"the closed form in float64 is off by more than 1e-12 at t = {t}, L = {exponent}")


def in_fresh_process(arguments: argparse.Namespace, side: str) -> dict[str, float]:
    """Measure the memory of one side in a Python process of its own."""
    command = [sys.executable, __file__, "--reference", str(arguments.reference), "--steps", str(arguments.steps)]
    result = subprocess.run([*command, "--child", side], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"measuring the memory of {side} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def memory_of(side: str, fourier: types.ModuleType, steps: int) -> dict[str, float]:
    """Build and use one side's process; return bytes of its tables, and by how much the resident set has grown."""
    x_0 = torch.randn(1, *SHAPE)  # one image: what holds the process is asked for, not the temporaries of a batch
    if side == "reference":  # what any process needs once: FFT plans, the random number generator, the code itself
        build_reference(fourier, 3).q_sample(x_0, torch.randint(0, 3, (1,)))
    else:
        build_ours().corrupt(x_0, torch.rand(1), torch.randn_like(x_0))
    gc.collect()
    before = resident()
    if side == "reference":
        process = build_reference(fourier, steps)
        process.q_sample(x_0, torch.randint(0, steps, (1,)))
        tables = sum(value.nbytes for value in vars(process).values() if isinstance(value, np.ndarray))
    else:
        process = build_ours()
        process.corrupt(x_0, torch.rand(1), torch.randn_like(x_0))
        tables = sum(buffer.nbytes for buffer in process.buffers())
    gc.collect()
    result = {"resident": resident() - before, "tables": tables, "peak": peak_resident()}
    if side == "ours":
        before = resident()
        more = [build_ours() for _ in range(_MORE)]
        for process in more:
            process.corrupt(x_0, torch.rand(1), torch.randn_like(x_0))
        result["another"] = (resident() - before) / _MORE
    return result


def resident() -> float:
    """Return the resident set size in bytes; NaN where the system does not tell."""
    return _status("VmRSS")


def peak_resident() -> float:
    """Return the largest resident set size so far in bytes; NaN where the system does not tell."""
    return _status("VmHWM")


def _status(field: str) -> float:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(field)), float("nan"))


def memory_row(what: str, memory: dict[str, dict[str, float]], key: str) -> Row:
    theirs, ours = memory["reference"][key], memory["ours"][key]
    return Row(what, size(theirs), size(ours), ours / theirs, bound=MEMORY_BOUND, bound_text="< 5 MB", value=ours)


def value_row(what: str, theirs: list[float], ours: list[float], bound: float, bound_text: str) -> Row:
    reference, mine = statistics.median(theirs), statistics.median(ours)
    return Row(
        what, duration(reference), duration(mine), mine / reference, bound=bound, bound_text=bound_text, value=mine
    )


def size(count: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    main()
