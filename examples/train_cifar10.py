"""Train a diffusion model on CIFAR-10, or on images of your own.

    python examples/train_cifar10.py                                         # one GPU, or the CPU
    torchrun --standalone --nproc_per_node 4 examples/train_cifar10.py       # four GPUs, four times the batch
    python examples/train_cifar10.py --config examples/configs/small.yaml    # what a CPU can do in an hour

Every setting is a `--name value` or a line of a `--config` file; `--print-config` prints them all. After an
interruption the same command continues exactly. All files go to the folder `--out`.
"""

from __future__ import annotations

import os
import random

os.environ.setdefault("GOMP_SPINCOUNT", "20000")  # as in the quickstart
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel

import shortest_path as sp
from recipe import cifar10, runs
from recipe.arguments import in_flags
from recipe.continuing import check_same, learning_rate, newest
from recipe.features import load_network
from recipe.fid import FID
from recipe.monitor import MEASURE, Log, Meter, Monitor
from recipe.ranks import Ranks, ranks
from recipe.settings import Settings, parse, to_dict
from recipe.unet import Bf16
from shortest_path.training import (
    NonFiniteError,
    TrainStep,
    latest_checkpoint,
    load_checkpoint,
    write_checkpoint,
)


def main(argv: Sequence[str] | None = None) -> None:
    settings = parse(argv)
    with ranks() as me:
        train(settings, me)  # in a function of its own, so that no network outlives the process group


def train(settings: Settings, me: Ranks) -> None:
    out, folder = Path(settings.out), Path(settings.out) / "checkpoints"
    on_gpu = me.device.type == "cuda"
    torch.backends.cudnn.benchmark = True
    try:
        inception = load_network("inception", me) if settings.evaluate_fid else None  # first, as it may be missing
        pictures = cifar10.load(
            settings.data,
            size=settings.size,
            count=settings.images,
            on_error=settings.on_error,
            labels=settings.class_conditional,
            every_class=settings.class_conditional,
        )
        provenance, classes = pictures.provenance, pictures.classes if settings.class_conditional else 0
        training, held = runs.split(pictures, settings)
        batches = cifar10.RankBatches(
            training,
            settings.batch_size,
            rank=me.rank,
            world=me.world,
            seed=settings.seed,
            flip=settings.flip,
            labels=settings.class_conditional,
            device=me.device if fits(settings, training, me.device) else "cpu",
        )
        state = newest(folder, settings, me)
        held_out = len(pictures.images) - len(training.images)
        kept = {"batch": settings.batch_size * me.world, "held_out": held_out}
        check_same(settings, provenance, kept, state)
        fid = None if inception is None else FID(inception, pictures, settings.evaluate_fid, out / "statistics", me)
        del pictures
        spectrum = measure(settings, training, me, state)
        corruption = runs.make_corruption(settings, spectrum)
        if isinstance(corruption, nn.Module):
            corruption = corruption.to(me.device)
        torch.manual_seed(settings.seed)
        np.random.seed(settings.seed % 2**32)  # a checkpoint holds the states of all three
        random.seed(settings.seed)
        network: nn.Module = runs.make_network(settings, corruption, spectrum, classes).to(me.device)
        if chosen(settings.compile, on_gpu):
            network.compile()  # in place: the names of the weights stay
        if me.world > 1:
            devices = [me.device] if on_gpu else None
            # Buffers are not broadcast, as they are constants.
            network = DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)
        optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=chosen(settings.fused, on_gpu),
        )
        precision = "bf16" if chosen(settings.bf16, on_gpu and torch.cuda.is_bf16_supported()) else "fp32"
        dropped = settings.drop_labels if classes else 0.0
        metadata = runs.metadata(settings, spectrum, classes, provenance) | kept
        trainer = sp.DiffusionTrainer(
            network,
            corruption,
            prediction=settings.prediction,
            weighting=settings.weighting,
            spectrum=spectrum,
            optimizer=optimizer,
            ema_decay=settings.ema_decay,
            ema_warmup=settings.ema_warmup,
            precision=precision,
            **runs.time_sampling(settings),
            accumulation=settings.accumulation,
            max_grad_norm=settings.max_grad_norm,
            label_name=runs.LABELS if classes else None,
            drop_conditioning=dropped,
            null_conditioning={runs.LABELS: classes} if dropped else None,
            seed=settings.seed,
            metadata=metadata,
        )
        if chosen(settings.compile, on_gpu):
            for average in trainer.ema_models.values():
                average.compile()  # a copy of a compiled network is not compiled
        about = {"metadata": metadata, "sampler": trainer.state_dict()["sampler"]}  # to share it, as any checkpoint
        if state is not None:
            trainer.load_state_dict(state)
            del state  # as large as the network, the average and the optimizer together
        prepare(trainer, settings, me)

        averaged = Bf16(trainer.ema_model) if precision == "bf16" else trainer.ema_model
        run = runs.Run(settings, averaged, corruption, spectrum, spectrum.shape, classes, 0, provenance)
        monitor = Monitor(run, held, training.images, me, fid)
        if me.first:
            folder.mkdir(parents=True, exist_ok=True)
            spectrum.save(out / "spectrum.npz")
            (out / "config.yaml").write_text(yaml.safe_dump(to_dict(settings), sort_keys=False))
            print(describe(provenance, kept, classes, network, me), flush=True)
    except (OSError, ValueError) as error:  # a setting that does not fit: its message is enough
        raise SystemExit(f"train_cifar10: {in_flags(error)}") from error

    meter = Meter(settings.batch_size * me.world * settings.accumulation, me.world)
    log = Log(out, trainer.step) if me.first else None

    def after_step(trainer: sp.DiffusionTrainer, done: TrainStep) -> None:
        meter.add(done)
        if done.step % settings.log_every == 0 and meter.counted:
            found = meter.read()
            if log is not None and "loss" in found:  # some step was not skipped
                log.write("train", done.step, found | {"learning_rate": optimizer.param_groups[0]["lr"]})
        every = settings.evaluate_every
        if done.step == settings.steps or (every and done.step % every == 0):
            with meter.paused():
                grid = out / f"samples-{done.step:08d}.png"
                values = monitor(grid)
                if log is not None:
                    log.write("evaluation", done.step, values)
                    if settings.evaluation_samples:
                        log.show("samples", done.step, grid)
                    keep_best(folder / "best.pt", trainer, about, values)
                    runs.unet_of(trainer.ema_model).save_pretrained(out / "unet")
                    print(summary(done.step, values, held_out), flush=True)
        prepare(trainer, settings, me)

    try:
        trainer.fit(
            batches,
            steps=settings.steps,
            checkpoint_dir=folder,
            checkpoint_every=settings.checkpoint_every,
            keep_checkpoints=settings.keep_checkpoints,
            resume=False,  # done above
            on_signal="save",
            callbacks=[after_step],
            progress=None if me.first else False,
        )
    except NonFiniteError as error:
        raise SystemExit(f"train_cifar10: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped after step {trainer.step}. {going_on(folder)}") from None
    except OSError as error:  # a full disk
        raise SystemExit(f"train_cifar10: {error}. Stopped after step {trainer.step}. {going_on(folder)}") from error
    finally:
        if log is not None:
            log.close()
    if me.first:
        print(f"Done. The averaged network is in {folder}, and for diffusers in {out / 'unet'}.")


def going_on(folder: Path) -> str:
    """Return how to go on after an interruption."""
    where = latest_checkpoint(folder) or "the beginning: there is no checkpoint yet"
    return f"The same command continues from {where}."


def prepare(trainer: sp.DiffusionTrainer, settings: Settings, me: Ranks) -> None:
    """Make the learning rate and the dropout of the next step depend on its number alone, not on interruptions."""
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate(settings, trainer.step)
    mixed = np.random.SeedSequence((settings.seed, me.rank, trainer.step)).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed[0]))


def fits(settings: Settings, pictures: cifar10.Pictures, device: torch.device) -> bool:
    """Return whether to keep the images on the device."""
    if settings.data_on_device != "auto":
        return settings.data_on_device == "yes"
    return device.type == "cuda" and 4 * pictures.images.nbytes < torch.cuda.get_device_properties(device).total_memory


def chosen(switch: str, automatic: bool) -> bool:
    """Return the value of a switch: "yes", "no" or "auto"."""
    return automatic if switch == "auto" else switch == "yes"


def measure(
    settings: Settings, pictures: cifar10.Pictures, me: Ranks, state: Mapping[str, Any] | None
) -> sp.PowerSpectrum:
    """Return the spectrum of the images, equal to the last bit in all processes and after an interruption."""
    if state is not None:
        return sp.PowerSpectrum.from_state_dict(state["metadata"]["spectrum"])
    found = [runs.measure_spectrum(settings, pictures).state_dict() if me.first else {}]
    if me.world > 1:
        dist.broadcast_object_list(found)
    return sp.PowerSpectrum.from_state_dict(found[0])


def keep_best(
    path: Path, trainer: sp.DiffusionTrainer, about: Mapping[str, Any], values: Mapping[str, float | list[float]]
) -> None:
    """Write the averaged weights, and `about` them, if they are better: nearer to real images, or of lower loss."""
    name = MEASURE if MEASURE in values else "loss"
    best = load_checkpoint(path) if path.exists() else None
    # A best of a later step is from before an interruption: its step will come again.
    comparable = best is not None and best["measure"] == name and best["step"] <= trainer.step
    if math.isnan(values[name]) or (comparable and best["value"] <= values[name]):
        return
    state = {**about, "step": trainer.step, "ema": trainer.ema_model.state_dict()}
    write_checkpoint(path, {**state, "measure": name, "value": values[name]})


def describe(source: Mapping[str, Any], kept: Mapping[str, Any], classes: int, network: nn.Module, me: Ranks) -> str:
    """Return a description of the data and the network."""
    shape = "×".join(map(str, source["shape"]))
    names = source.get("class_names", [])
    named = f" ({', '.join(names[:10])}{', …' if len(names) > 10 else ''})" if names else ""
    labels = f", {classes} classes{named}" if classes else ""
    parameters = sum(weights.numel() for weights in network.parameters())
    return (
        f"{source['source']} ({source['split']}): {source['count']} images {shape}, {source['encoding']}, "
        f"sha256 {source['sha256'][:8]}; {kept['held_out']} of them not trained on{labels}\n"
        f"{parameters:,} parameters, {me.world} × {me.device.type}"
    )


def summary(step: int, values: Mapping[str, Any], held_out: int) -> str:
    """Return the main numbers of an evaluation as text."""
    words = f"step {step}: loss {values['loss']:.4f} on images {'not ' if held_out else ''}trained on"
    if MEASURE in values:
        words += (
            f"; power off by {values['log_power_error']:.2f} (at most {values['log_power_error_max']:.2f}) in log; "
            f"distance {values[MEASURE]:.4f}, of real images {values[MEASURE + '_of_real']:.4f}"
        )
    return words + "".join(f"; {name} {value:.4g}" for name, value in values.items() if name.startswith("FID"))


if __name__ == "__main__":
    record(main)()
