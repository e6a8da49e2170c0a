"""One run of the study: train a network, and measure it."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path.prediction import denoise
from shortest_path.training import load_latest
from studies.trained_networks import images, measures, networks, samples
from studies.trained_networks.cases import (
    CASES,
    CHAIN_STEPS,
    LIKE,
    ODE_STEPS,
    OUTPUTS,
    PRIMARY,
    SECONDARY,
    STARTS,
    OutputName,
    matched_times,
)
from studies.trained_networks.study import (
    Study,
    finite,
    kernel_of,
    sampled,
    spectrum_of,
    test_images,
    training_images,
    validation_images,
    write,
)

Density = Literal["uniform", "matched", "path"]


class Run(NamedTuple):
    """One training: a corruption, what the network predicts, the density of training times, and a seed."""

    case: str
    output: OutputName
    seed: int
    learning_rate: float
    density: Density = "uniform"
    tuning: bool = False

    @property
    def folder(self) -> Path:
        """Folder of the run, relative to that of the study."""
        if self.tuning:
            return Path("tuning") / f"{self.case}-{self.output}-{self.learning_rate:g}"
        density = "" if self.density == "uniform" else f"-{self.density}"
        return Path("runs") / f"{self.case}-{self.output}{density}-{self.seed}"


def perform(study: Study, run: Run, *, secondary: bool = False) -> dict[str, Any]:
    """Train unless the training is finished, measure what is missing, and return the record."""
    folder, scale = study.out / run.folder, study.scale
    folder.mkdir(parents=True, exist_ok=True)
    steps = scale.tuning_steps if run.tuning else scale.steps
    identity = {
        **run._asdict(),
        "steps": steps,
        "scale": scale.plain(),
        "data": training_images(study).provenance["sha256"],
        "held_out": test_images(study).provenance["sha256"],
    }
    record = read_record(folder / "record.json", identity)
    wanted = _wanted(study, run, secondary=secondary)
    if not wanted.keys() - record.keys():
        return record
    spectrum = spectrum_of(study, CASES[run.case])
    trainer = make_trainer(study, run, steps, spectrum)
    record |= train(study, run, steps, trainer, folder, record)
    record["start"] = None if run.tuning else best_start(study, run, trainer)
    write(folder / "record.json", record)
    for name, measure in wanted.items():
        if name not in record:
            record[name] = measure(trainer, folder, record["start"])
            write(folder / "record.json", record)
    print(f"{run.folder}: {_summary(record)}", flush=True)
    return record


def execute(work: Callable[[Run], dict[str, Any]], runs: Sequence[Run], processes: int) -> list[dict[str, Any]]:
    """Return what `work` returns for each run, done `processes` at a time."""
    if processes == 1:
        return [work(run) for run in runs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [pool.submit(work, run) for run in runs]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [each.result() for each in waiting]


def make_trainer(study: Study, run: Run, steps: int, spectrum: sp.PowerSpectrum) -> sp.DiffusionTrainer:
    """Return a trainer; the initial weights of its network depend on the seed only."""
    scale, output, corruption = study.scale, OUTPUTS[run.output], CASES[run.case].make(spectrum)
    torch.manual_seed(run.seed)
    network = networks.make(scale, corruption, spectrum, whitened=output.whitened)
    optimizer = torch.optim.AdamW(network.parameters(), lr=run.learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / scale.warmup, 1.0) * max(1 - step / steps, 0.0)
    )
    like = CASES[LIKE[run.density]].make(spectrum) if run.density in LIKE else None
    return sp.DiffusionTrainer(
        network,
        corruption,
        prediction=output.prediction,
        spectrum=spectrum,
        optimizer=optimizer,
        scheduler=scheduler,
        ema_decay=scale.ema_decay,
        precision="fp32",
        time_sampling="stratified" if like is None else matched_times(corruption, like, spectrum),
        max_grad_norm=1.0,
        seed=run.seed,
    )


def finished(study: Study, cases: Sequence[str], outputs: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Return the runs at uniform times that a study's folder has, with the learning rates that they had."""
    return [
        run._replace(learning_rate=json.loads(file.read_text())["learning_rate"])
        for seed in seeds
        for case in CASES
        for output in OUTPUTS
        if case in cases and output in outputs
        if (file := study.out / (run := Run(case, output, seed, 0.0)).folder / "record.json").exists()
    ]


def trained(study: Study, run: Run) -> sp.DiffusionTrainer:
    """Return the trainer of a finished run.

    Raises:
        ValueError: the run's folder has no checkpoint.
    """
    trainer = make_trainer(study, run, study.scale.steps, spectrum_of(study, CASES[run.case]))
    found = load_latest(study.out / run.folder / "checkpoints")
    if found is None:
        raise ValueError(f"{study.out / run.folder} has no checkpoint; run the study again")
    trainer.load_state_dict(found[1])
    return trainer


def train(
    study: Study, run: Run, steps: int, trainer: sp.DiffusionTrainer, folder: Path, record: Mapping[str, Any]
) -> dict[str, Any]:
    """Train, or load the weights of a finished training; return the entries of its record."""
    scale = study.scale
    batches = images.Batches(training_images(study).levels, scale.batch_size, seed=run.seed)
    losses: list[Tensor] = []
    start = time.perf_counter()
    trainer.fit(
        batches,
        steps=steps,
        checkpoint_dir=folder / "checkpoints",
        checkpoint_every=max(1, steps // 2),
        keep_checkpoints=1,
        callbacks=[lambda _, done: losses.append(done.loss)],
        progress=False,
    )
    if "loss" in record:
        return {}
    last = losses[-max(1, steps // 10) :]
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "loss": finite(torch.stack(last).mean().item()) if last else None,
        "skipped": trainer.skipped,
    }


def best_start(study: Study, run: Run, trainer: sp.DiffusionTrainer) -> float | None:
    """Return the time to start from with the best likelihood of validation images; None for the usual one.

    The error of a network that predicts noise is divided by the signal, and so is amplified without bound towards
    t = 1: how much is left of it depends on where likelihood and samples begin, so this is chosen as the learning rate
    is, for each corruption and output, by the first seed.
    """
    file = study.out / "starts" / f"{run.case}-{run.output}-{run.density}.json"
    if not file.exists():
        held = validation_images(study).first(study.scale.likelihood_images // 8).dequantised()
        found = {
            start: measures.held_out_bits(sampler_from(trainer, start, "multistep", ODE_STEPS[0]), held).mean().item()
            for start in STARTS
            if start is None or little_is_left(trainer, start, held)
        }
        chosen = min(found, key=lambda start: found[start] if math.isfinite(found[start]) else math.inf)
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, {"start": chosen, "bits": {str(start): finite(bits) for start, bits in found.items()}})
    start: float | None = json.loads(file.read_text())["start"]
    return start


def little_is_left(trainer: sp.DiffusionTrainer, start: float, images: Tensor) -> bool:
    """Return whether so little of the images is left at a time that sampling can start from noise there."""
    process = sp.corruptions.Process(trainer.corruption, trainer.spectrum)
    point = process.at(start, images.shape, images.device)
    return sp.corruptions.prior_deviation(point, None, process.power) is not None


def sampler_from(trainer: sp.DiffusionTrainer, start: float | None, solver: str, steps: int) -> sp.Sampler:
    """Return a sampler whose times are scaled to begin at `start`; None is where one begins that knows no power."""
    first = sp.sampling.first_time(trainer.corruption, trainer.options.prediction, None)
    usual = trainer.sampler(solver=solver, steps=steps, start=first)
    if start is None:
        return usual
    return trainer.sampler(solver=solver, times=usual.times * (start / usual.times[0]))


# Measures of a run ----------------------------------------------------------------------------------------------------

Measure = Callable[[sp.DiffusionTrainer, Path, "float | None"], Any]


def _wanted(study: Study, run: Run, *, secondary: bool) -> dict[str, Measure]:
    """Return the measures of a run by their name in the record."""
    if run.tuning:
        held = validation_images(study).first(study.scale.likelihood_images // 4)
        return {f"bits_{ODE_STEPS[0]}": bits_of(ODE_STEPS[0], held.dequantised())}
    held = test_images(study).first(study.scale.likelihood_images).dequantised()
    wanted = {f"bits_{ODE_STEPS[0]}": bits_of(ODE_STEPS[0], held)}
    wanted |= {f"{solver}_{calls}": samples_of(study, run, solver, calls) for solver, calls in PRIMARY}
    if run.seed == 0:  # to save time, as these are not compared over seeds
        wanted |= {f"bits_{steps}": bits_of(steps, held) for steps in ODE_STEPS[1:]}
        wanted |= {f"chain_{steps}": _chain(study, steps) for steps in CHAIN_STEPS if study.scale.chain_images}
        wanted["relative_errors"] = lambda trainer, *_: [
            finite(value) for value in measures.relative_errors(*_denoiser(trainer), held[:500])
        ]
    if secondary:
        count = study.scale.secondary_samples
        wanted |= {f"{solver}_{calls}": samples_of(study, run, solver, calls, count) for solver, calls in SECONDARY}
    return wanted


def bits_of(steps: int, held: Tensor, file: str = "") -> Measure:
    """Return the measure of held-out bits per dimension; it keeps those of each image in a file of the run's folder."""

    def measure(trainer: sp.DiffusionTrainer, folder: Path, start: float | None) -> dict[str, float | None]:
        bits = measures.held_out_bits(sampler_from(trainer, start, "multistep", steps), held)
        np.save(folder / (file or f"bits-{steps}.npy"), bits.numpy().astype(np.float32))  # for paired differences
        return {"mean": finite(bits.mean().item()), "error": finite((bits.std() / len(bits) ** 0.5).item())}

    return measure


def samples_of(study: Study, run: Run, solver: str, calls: int, count: int = 0) -> Measure:
    """Return the measures of samples, as many as the scale says or `count`."""
    count = count or study.scale.samples

    def measure(trainer: sp.DiffusionTrainer, folder: Path, start: float | None) -> dict[str, Any]:
        begun = time.perf_counter()
        found = sampled(study, sampler_from(trainer, start, solver, calls), count)
        seconds = round(time.perf_counter() - begun, 1)
        if not found.isfinite().all():
            return {"samples": count, "kernel": None, "error": None, "seconds": seconds}
        if run.seed == 0:
            kept = images.rounded(found[: samples.KEPT])
            np.save(folder / f"{solver}-{calls}.npy", (kept * 128 + 127.5).round().byte().numpy())
        value, error = kernel_of(study, found)
        real = images.rounded(test_images(study).dequantised()[:count])
        basis = spectrum_of(study, CASES["gaussian-cosine"]).basis
        return {
            "samples": count,
            "kernel": value,
            "error": error,
            "auc": measures.classifier_auc(found, real),
            "power": measures.band_power(found, real, basis),
            "seconds": seconds,
        }

    return measure


def _chain(study: Study, steps: int) -> Measure:
    held = test_images(study).first(study.scale.chain_images).dequantised()
    return lambda trainer, *_: finite(measures.chain_bits(*_denoiser(trainer), held, steps))


def _denoiser(trainer: sp.DiffusionTrainer) -> tuple[Callable[[Tensor, Tensor], Tensor], sp.corruptions.Process]:
    """Return the averaged network as a function from x_t and t to coefficients of the clean image, and the process."""
    process = sp.corruptions.Process(trainer.corruption, trainer.spectrum)

    def clean(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise = process.scales(t, x_t)
        output = process.basis.analyze(trainer.ema_model(x_t, t))
        u_t = process.analyze(x_t, signal)
        u_0 = denoise(trainer.options.prediction, output, u_t, signal, noise, process.power.to(u_t)).u_0
        return torch.where(signal > 0, u_0, 0.0)  # nothing of the image is left: the best guess is the mean

    return clean, process


def read_record(file: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an earlier run, or a new one.

    Raises:
        ValueError: the record is of other settings or images.
    """
    if not file.exists():
        return dict(identity)
    record: dict[str, Any] = json.loads(file.read_text())
    if other := [name for name, value in identity.items() if record.get(name) != value]:
        raise ValueError(f"{file} is of another study (its {', '.join(other)} differ); pass another --out")
    return record


def _summary(record: Mapping[str, Any]) -> str:
    bits = record[f"bits_{ODE_STEPS[0]}"]["mean"]
    distances = {f"{solver} {calls}": record.get(f"{solver}_{calls}") for solver, calls in PRIMARY}
    shown = [f"{name}: {found['kernel']}" for name, found in distances.items() if found]
    return f"{bits} bits/dim, " + ", ".join([f"{record['seconds']} s of training", *shown])
