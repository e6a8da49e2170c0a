"""Time, memory and accuracy of the shortest path against the reference research code, in one run.

    git clone https://github.com/mtkresearch/shortest-path-diffusion
    python -m benchmarks.compare_reference --reference shortest-path-diffusion

Batch 128 of 3×32×32, one thread, medians over interleaved repeats. Before anything is timed, both must give the same
x_t for the same x_0, noise and t, and the same reverse step, so that both compute the same thing. "ours, same spectrum"
has the reference's power law, in the Fourier basis. "ours, cosine" is the recommended process, with a measured spectrum
in the cosine basis and rotated channels.

For a fair comparison:

- Both sides run on a warm heap: large tensors are allocated and freed first (see `timing.warm_heap`), as in any
  training. Without it every call has page faults in proportion to its temporaries. The reference's reverse step has
  temporaries of T×3×32×32 float64, which no heap keeps warm.
- Every corruption has new random times, as in training: the reference reads rows of a large table, which would stay in
  the cache if the times were repeated.
- The time of a reverse step is that of a chain divided by its length, with a model that returns its input. For this
  library it is a `Sampler` run from given images, including basis transforms at both ends of the chain.
- The reference makes its noise on "cuda" by default; this default is replaced by "cpu". blobfile and mpi4py, which
  only its data loading needs, are replaced by empty modules. Nothing else of it is changed.

Memory is measured in a new Python process for each side: the growth of the resident set from building the process and
corrupting one image. Before, a chain of three steps of the same side is built, used and deleted, so that first uses of
code and FFT plans do not count.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import shortest_path as sp
from benchmarks.agreement import (
    SAME_STEP,
    SAME_X_T,
    check_same,
    largest_corrupt_difference,
    largest_step_difference,
    snr_errors,
)
from benchmarks.generated_images import generated_images
from benchmarks.memory import MORE, in_fresh_process, memory_of, size
from benchmarks.reference import BATCH, build_ours, build_reference, grid, import_reference
from benchmarks.timing import (
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

CORRUPT_BOUND, STEP_BOUND, MEMORY_BOUND, BUILD_BOUND, SNR_BOUND = 0.75, 0.08, 5e6, 50e-3, 1e-5
_CHAIN = 5
_MIB = 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the report."""
    options = parser("benchmarks.compare_reference", __doc__, repeats=30)
    options.add_argument("--reference", type=Path, required=True, help="a clone of the reference repository")
    options.add_argument("--steps", type=int, default=4000, help="T of the reference's chain (default 4000)")
    options.add_argument("--builds", type=int, default=3, help="how often the reference is built for its time")
    options.add_argument("--child", choices=["reference", "ours"], help=argparse.SUPPRESS)
    arguments = options.parse_args(argv)
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
        time_row(
            "corrupt a batch, noise included; ours, same spectrum", corrupting, "ours", "reference", CORRUPT_BOUND
        ),
        time_row("corrupt a batch, noise included; ours, cosine", corrupting, "cosine", "reference", CORRUPT_BOUND),
        time_row("the same, noise drawn as coefficients", corrupting, "coefficients", "reference", CORRUPT_BOUND),
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
        f"{MORE} more of our processes add {size(memory['ours']['another'])} each.",
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


def time_corrupt(
    reference: Any,
    ours: sp.ShortestPathCorruption,
    cosine: sp.ShortestPathCorruption,
    arguments: argparse.Namespace,
) -> Timings:
    """Time the corruption of a batch at new times, including the noise of either side."""
    x_0, steps = generated_images(BATCH), arguments.steps
    indices = [torch.randint(0, steps, (BATCH,)) for _ in range(64)]
    all_times = grid(steps).float()
    times = [all_times[index] for index in indices]
    turn = {"reference": 0, "ours": 0, "cosine": 0, "coefficients": 0}

    def following(name: str) -> int:
        turn[name] = (turn[name] + 1) % len(indices)
        return turn[name]

    contenders = {
        "reference": lambda: reference.q_sample(x_0, indices[following("reference")]),
        "ours": lambda: ours.corrupt(x_0, times[following("ours")], torch.randn_like(x_0)),
        "cosine": lambda: cosine.corrupt(x_0, times[following("cosine")], torch.randn_like(x_0)),
        "coefficients": lambda: cosine.corrupt(
            x_0, times[following("coefficients")], torch.randn_like(x_0), analyzed=True
        ),
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
    times = sp.grids.Reference()(steps)[steps - 1 - middle :][: _CHAIN + 1]

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


def memory_row(what: str, memory: dict[str, dict[str, float]], key: str) -> Row:
    """Return a report row of bytes."""
    theirs, ours = memory["reference"][key], memory["ours"][key]
    return Row(what, size(theirs), size(ours), ours / theirs, bound=MEMORY_BOUND, bound_text="< 5 MB", value=ours)


def value_row(what: str, theirs: list[float], ours: list[float], bound: float, bound_text: str) -> Row:
    """Return a report row of median seconds."""
    reference, mine = statistics.median(theirs), statistics.median(ours)
    return Row(
        what, duration(reference), duration(mine), mine / reference, bound=bound, bound_text=bound_text, value=mine
    )


if __name__ == "__main__":
    main()
