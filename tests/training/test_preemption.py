"""Training that is told to stop: by SIGTERM, by Ctrl-C, twice, on two ranks, and at any moment."""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import shortest_path as sp
from shortest_path.training import CheckpointWriter, Preempted, latest_checkpoint, load_checkpoint
from tests.training.networks import batches, layer, net
from tests.training.processes import Run, group
from tests.worlds import correlated_images

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
STEPS = 30


def work(
    folder: Path,
    *,
    seed: int = 7,
    pause: float = 0.0,
    workers: int = 0,
    rank: int = 0,
    ranks: int = 1,
    rendezvous: Path | None = None,
    elastic: bool = False,
) -> None:
    """Train with dropout, batch statistics and a shuffled loader; print every step, and wait after it."""
    if elastic:
        os.environ["TORCHELASTIC_RUN_ID"] = "x"
    with group(rank, ranks, str(rendezvous)) if ranks > 1 else nullcontext():
        try:
            train(folder, seed, pause, workers, rank, ranks)
        except KeyboardInterrupt:
            if ranks == 1:
                raise
            sys.exit(130)  # after the process group is destroyed


def train(folder: Path, seed: int, pause: float, workers: int, rank: int, ranks: int) -> None:
    model: nn.Module = net()
    if ranks > 1:
        model = DistributedDataParallel(model)
    trainer = sp.DiffusionTrainer(model, sp.GaussianCorruption(), ema_decay=0.5, learning_rate=1e-2)
    torch.manual_seed(seed + rank)  # each rank has its own dropout and order
    images = correlated_images(48, seed=rank).float()
    data = DataLoader(TensorDataset(images), batch_size=4, shuffle=True, num_workers=workers)

    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)  # a byte of each signal

    def after(trainer: sp.DiffusionTrainer, done: sp.training.TrainStep) -> None:
        print(done.step, flush=True)
        end = time.monotonic() + pause
        while select.select([told], [], [], max(0.0, end - time.monotonic()))[0]:  # its handler has run
            print("told of", *os.read(told, 99), flush=True)

    trainer.fit(
        data,
        steps=STEPS,
        checkpoint_dir=folder / "checkpoints",
        checkpoint_every=7,
        on_signal="save",
        callbacks=[after],
    )
    torch.save([trainer.model.state_dict(), trainer.ema_model.state_dict()], folder / f"rank{rank}.pt")


def start(folder: Path, **options: object) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(folder / f"log{options.get('rank', 0)}.txt", work, folder=folder, **options)


def start_both(folder: Path, time_: int, **options: object) -> list[Run]:
    options.update(ranks=2, rendezvous=folder / f"rendezvous{time_}", seed=7 + 100 * time_)  # what is restored counts
    return [start(folder, rank=rank, **options) for rank in range(2)]


def results(folder: Path, rank: int = 0) -> Tensor:
    states = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return torch.cat([value.double().flatten() for state in states for value in state.values()])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, printed = start(folder).finish()
    assert code == 0, printed
    return results(folder)


# --- one process ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stopped_at_random_moments_it_ends_where_it_would_have(tmp_path: Path, uninterrupted: Tensor) -> None:
    moments, stops = random.Random(3), 0
    for seed in range(40):
        run = start(tmp_path, pause=0.02, seed=seed or 7)
        path = latest_checkpoint(tmp_path / "checkpoints")
        run.reach(str(load_checkpoint(path)["step"] + 1 if path else 1))
        time.sleep(moments.uniform(0, 0.2))
        number = moments.choice([signal.SIGTERM, signal.SIGINT])
        try:
            run.send(number)
        except ProcessLookupError:  # it has ended by itself
            break
        code, printed = run.finish()
        path = latest_checkpoint(tmp_path / "checkpoints")
        assert path is not None
        step = load_checkpoint(path)["step"]
        if step == STEPS:  # it may have come after `fit`, when it does what it always does
            break
        stops += 1
        assert code == (75 if number == signal.SIGTERM else -signal.SIGINT), printed
        name = signal.Signals(number).name
        assert f"{name} stopped training after step {step}; run it again to continue from {path}" in printed
    assert stops >= 3
    code, printed = start(tmp_path, seed=99).finish()
    assert code == 0, printed
    assert torch.equal(results(tmp_path), uninterrupted)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_acts_at_once(tmp_path: Path, first: signal.Signals, second: signal.Signals) -> None:
    run = start(tmp_path, pause=30)  # the step takes half a minute
    run.reach("1")
    run.send(first)
    run.reach(f"told of {first:d}")  # until then, a second of the same kind would be the same signal
    run.send(second)
    assert run.finish()[0] == -second
    assert latest_checkpoint(tmp_path / "checkpoints") is None  # the step did not end


def test_torchrun_may_pass_on_a_signal_that_came_already(tmp_path: Path) -> None:
    run = start(tmp_path, pause=0.5, elastic=True)
    run.reach("1")
    run.send(signal.SIGTERM)
    run.reach("told of 15")
    run.send(signal.SIGTERM)
    assert run.finish()[0] == 75
    assert latest_checkpoint(tmp_path / "checkpoints") is not None
    again = start(tmp_path, pause=30, elastic=True)
    again.reach("2")
    again.send(signal.SIGTERM)
    again.reach("told of 15")
    time.sleep(1.2)
    again.send(signal.SIGTERM)  # not the same any more
    assert again.finish()[0] == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_that_load_data_may_die_of_the_same_signal(
    tmp_path: Path, uninterrupted: Tensor, number: signal.Signals
) -> None:
    run = start(tmp_path, pause=0.1, workers=2)
    run.reach("4")
    run.send(number, to_all=True)  # as torchrun, SLURM and Ctrl-C do
    code, printed = run.finish()
    assert code == (75 if number == signal.SIGTERM else -signal.SIGINT), printed
    assert "DataLoader worker" not in printed
    code, printed = start(tmp_path, seed=99).finish()
    assert code == 0, printed
    assert torch.equal(results(tmp_path), uninterrupted)


# --- in this process --------------------------------------------------------------------------------------


def trainer() -> sp.DiffusionTrainer:
    return sp.DiffusionTrainer(layer(), sp.GaussianCorruption())


DATA = batches(6, 4)


def send(number: int, step: int) -> object:
    return lambda who, done: signal.raise_signal(number) if done.step == step else None


@pytest.fixture
def handlers() -> object:
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, and by nohup
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    yield before
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    for number, handler in zip((signal.SIGTERM, signal.SIGINT, signal.SIGCHLD), before, strict=True):
        signal.signal(number, handler)
    signal.signal(signal.SIGINT, outside)
    assert after == before


def test_a_notebook_can_go_on_in_the_same_process(tmp_path: Path, handlers: object) -> None:
    straight, stopped = trainer(), trainer()
    straight.fit(DATA, steps=9)
    torch.manual_seed(4)
    with pytest.raises(KeyboardInterrupt, match=r"SIGINT stopped training after step 4; .*checkpoint-00000004.pt"):
        stopped.fit(DATA, steps=9, checkpoint_dir=tmp_path, on_signal="save", callbacks=[send(signal.SIGINT, 4)])
    stopped.fit(DATA, steps=9, checkpoint_dir=tmp_path, resume=False)
    assert torch.equal(stopped.model.weight, straight.model.weight)


@pytest.mark.parametrize("step", [3, 6])
def test_sigterm_in_any_step_ends_the_process(tmp_path: Path, handlers: object, capsys, step: int) -> None:
    with pytest.raises(Preempted) as stop:  # in the last step too: the process is asked to end, not only training
        trainer().fit(DATA, steps=6, checkpoint_dir=tmp_path, on_signal="save", callbacks=[send(signal.SIGTERM, step)])
    assert stop.value.code == 75
    path = tmp_path / f"checkpoint-{step:08d}.pt"
    message = f"SIGTERM stopped training after step {step}; run it again to continue from {path}"
    assert str(stop.value) == message
    assert message in capsys.readouterr().err
    assert load_checkpoint(path)["step"] == step


def test_a_signal_while_data_are_read_loses_no_batch(tmp_path: Path, handlers: object) -> None:
    class Signalling(list):
        def __iter__(self) -> object:
            for index, batch in enumerate(super().__iter__()):
                if index == 3:
                    signal.raise_signal(signal.SIGTERM)
                    torch.rand(1)  # as a loader may draw
                    if self.breaks:
                        raise RuntimeError("a process that loads data was killed")
                yield batch

    straight = trainer()
    straight.fit(DATA, steps=9)
    for breaks in (False, True):
        data, folder, again = Signalling(DATA), tmp_path / str(breaks), trainer()
        data.breaks = breaks
        with pytest.raises(Preempted, match="after step 3;"):
            trainer().fit(data, steps=9, checkpoint_dir=folder, on_signal="save")
        again.fit(DATA, steps=9, checkpoint_dir=folder)
        assert torch.equal(again.model.weight, straight.model.weight)


def test_handlers_are_there_only_while_they_are_needed(tmp_path: Path, handlers: list) -> None:
    def look(seen: list, fails: bool = False) -> object:
        def callback(who: object, done: object) -> None:
            seen.append([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)])
            if fails:
                raise RuntimeError("no more")

        return callback

    without: list = []
    trainer().fit(DATA, steps=1, checkpoint_dir=tmp_path / "c", callbacks=[look(without)])
    elsewhere = {"steps": 1, "checkpoint_dir": tmp_path / "a", "on_signal": "save", "callbacks": [look(without)]}
    thread = threading.Thread(target=trainer().fit, args=(DATA,), kwargs=elsewhere)
    thread.start()
    thread.join()
    assert without == [handlers, handlers]
    within: list = []
    with pytest.raises(RuntimeError, match="no more"):
        trainer().fit(DATA, steps=1, checkpoint_dir=tmp_path / "b", on_signal="save", callbacks=[look(within, True)])
    assert within[0][0] != handlers[0]
    assert within[0][1] != handlers[1]
    assert within[0][2] == handlers[2]


def test_requests_to_handle_signals_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_signal='save' requires checkpoint_dir, where it saves; pass one, or omit"):
        trainer().fit(DATA, steps=1, on_signal="save")
    with pytest.raises(ValueError, match="on_signal must be 'save' or None, got 'stop'"):
        trainer().fit(DATA, steps=1, checkpoint_dir=tmp_path, on_signal="stop")  # type: ignore[arg-type]


def test_an_ignored_signal_stays_ignored(tmp_path: Path, handlers: list) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in a background job
    trainer().fit(DATA, steps=3, checkpoint_dir=tmp_path, on_signal="save", callbacks=[send(signal.SIGINT, 1)])
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, handlers[1])


def test_a_signal_too_late_to_be_looked_at_is_not_lost(tmp_path: Path, monkeypatch, handlers: list) -> None:
    wait = CheckpointWriter.wait

    def late(writer: CheckpointWriter) -> None:
        wait(writer)
        if (tmp_path / "checkpoint-00000002.pt").exists():
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CheckpointWriter, "wait", late)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(DATA, steps=2, checkpoint_dir=tmp_path, on_signal="save")


# --- two processes ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_ranks_stop_together_and_resume_exactly(tmp_path: Path, number: signal.Signals) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for run in start_both(straight, 0):
        code, printed = run.finish()
        assert code == 0, printed
    runs = start_both(stopped, 0, pause=0.03)
    runs[0].reach("9")
    runs[1].send(number)  # one alone is told
    codes = [run.finish()[0] for run in runs]
    assert codes == [75 if number == signal.SIGTERM else 130] * 2
    path = latest_checkpoint(stopped / "checkpoints")
    assert path is not None
    state = load_checkpoint(path)
    assert 9 <= state["step"] < STEPS
    assert not torch.equal(state["random"]["ranks"][0]["cpu"], state["random"]["ranks"][1]["cpu"])
    for run in start_both(stopped, 1):
        code, printed = run.finish()
        assert code == 0, printed
    for rank in range(2):  # dropout and order of each rank included
        assert torch.equal(results(stopped, rank), results(straight, rank))


def restarted(folder: Path) -> None:
    """Train on one rank that torchrun started; the first time, rank 1 is told to stop at step 5."""
    rank, first = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def after(trainer: sp.DiffusionTrainer, done: sp.training.TrainStep) -> None:
        if done.step == 5 and rank == 1 and first:
            signal.raise_signal(signal.SIGTERM)

    torch.distributed.init_process_group("gloo")
    trainer = sp.DiffusionTrainer(DistributedDataParallel(layer()), sp.GaussianCorruption())
    trainer.fit(batches(1, 4), steps=9, checkpoint_dir=folder, on_signal="save", callbacks=[after])


def launch(folder: Path) -> None:
    """Do what `torchrun --standalone --nproc_per_node=2 --max_restarts=1` does, but fork."""
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or gloo finds the addresses of the first time
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=1,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, restarted)(folder)


@pytest.mark.slow
def test_torchrun_restarts_and_resumes(tmp_path: Path) -> None:
    code, printed = Run(tmp_path / "log.txt", launch, folder=tmp_path / "checkpoints").finish()
    assert code == 0, printed
    assert "SIGTERM stopped training after step 5" in printed
    assert load_checkpoint(tmp_path / "checkpoints" / "checkpoint-00000009.pt")["step"] == 9
