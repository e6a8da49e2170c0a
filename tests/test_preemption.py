"""Training that is told to stop: by SIGTERM, by Ctrl-C, twice, on two ranks, and at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import shortest_path as sp
from conftest import correlated_images
from shortest_path.checkpoint import latest_checkpoint, load_checkpoint
from shortest_path.preemption import EX_TEMPFAIL, Preempted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
# A model with dropout and batch statistics, and a shuffled loader. It prints every step, and waits before each.
SCRIPT = """
import gc, os, sys, time
import torch, torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import shortest_path as sp
from conftest import correlated_images

folder, steps, pause, workers = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.3), nn.Conv2d(8, 3, 3, padding=1))
    def forward(self, x_t, t):
        return self.layers(x_t)

def main():
    torch.manual_seed(0)
    model = Net()
    if world > 1:
        model = nn.parallel.DistributedDataParallel(model)
    trainer = sp.DiffusionTrainer(model, sp.GaussianCorruption(), ema_decay=0.5, learning_rate=1e-2)
    torch.manual_seed(int(os.environ.get("SEED", 7)) + rank)  # each rank has its own dropout and order
    images = correlated_images(48, seed=rank).float()
    data = DataLoader(TensorDataset(images), batch_size=4, shuffle=True, num_workers=workers)
    def after(trainer, done):
        if rank == 0:
            print(done.step, flush=True)
        time.sleep(pause)
    trainer.fit(data, steps=steps, checkpoint_dir=folder + "/checkpoints", checkpoint_every=7, callbacks=[after])
    torch.save([trainer.model.state_dict(), trainer.ema_model.state_dict()], f"{folder}/rank{rank}.pt")

if world > 1:
    dist.init_process_group("gloo", init_method=os.environ["INIT"], rank=rank, world_size=world)
code = 0
try:
    main()
except SystemExit as stop:
    code = stop.code
except KeyboardInterrupt:
    if world == 1:
        raise
    code = 130
gc.collect()
if world > 1:
    dist.destroy_process_group()
sys.exit(code)
"""


def start(folder: Path, *, steps: int = 30, pause: float = 0.0, workers: int = 0, **more: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), str(folder), str(steps), str(pause), str(workers)]
    pipe = subprocess.PIPE
    # A session of its own, so that a whole group can be signalled.
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env={**ENVIRONMENT, **more}, start_new_session=True
    )


def start_both(folder: Path, round_: int, **options: float) -> list[subprocess.Popen[str]]:
    init = f"file://{folder}/rendezvous{round_}"
    seed = str(7 + 100 * round_)  # another in each process: what is restored is what counts
    return [
        start(folder, RANK=str(rank), WORLD_SIZE="2", INIT=init, SEED=seed, **options)  # type: ignore[arg-type]
        for rank in range(2)
    ]


def reach(run: subprocess.Popen[str], step: int) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        if int(line) >= step:
            return
    raise AssertionError(run.stderr and run.stderr.read())


def finish(run: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, errors = run.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        run.kill()
        raise
    return run.returncode, errors


def results(folder: Path, rank: int = 0) -> torch.Tensor:
    states = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return torch.cat([value.double().flatten() for state in states for value in state.values()])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, errors = finish(start(folder))
    assert code == 0, errors
    return results(folder)


# --- one process ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stopped_at_random_moments_it_ends_where_it_would_have(tmp_path: Path, uninterrupted: torch.Tensor) -> None:
    moments, stops = random.Random(3), 0
    for seed in range(40):
        run = start(tmp_path, pause=0.04, SEED=str(seed or 7))
        reach(run, 1)
        time.sleep(moments.uniform(0, 0.4))
        number = moments.choice([signal.SIGTERM, signal.SIGINT])
        run.send_signal(number)
        code, errors = finish(run)
        path = latest_checkpoint(tmp_path / "checkpoints")
        assert path is not None
        step = load_checkpoint(path)["step"]
        if step == 30:  # it may have come after `fit`, when it does what it always does
            break
        stops += 1
        assert code == (EX_TEMPFAIL if number == signal.SIGTERM else -signal.SIGINT), errors
        name = signal.Signals(number).name
        assert f"{name} stopped training after step {step}; run it again to continue from {path}" in errors
    assert stops >= 3
    code, errors = finish(start(tmp_path, SEED="99"))
    assert code == 0, errors
    assert torch.equal(results(tmp_path), uninterrupted)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_acts_at_once(tmp_path: Path, first: signal.Signals, second: signal.Signals) -> None:
    run = start(tmp_path, pause=30)  # the step takes half a minute
    reach(run, 1)
    run.send_signal(first)
    time.sleep(0.3)
    begin = time.monotonic()
    run.send_signal(second)
    code, _ = finish(run)
    assert time.monotonic() - begin < 5
    assert code == -second
    assert latest_checkpoint(tmp_path / "checkpoints") is None


def test_torchrun_may_pass_on_a_signal_that_came_already(tmp_path: Path) -> None:
    run = start(tmp_path, pause=0.5, TORCHELASTIC_RUN_ID="x")
    reach(run, 1)
    run.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert finish(run)[0] == EX_TEMPFAIL
    assert latest_checkpoint(tmp_path / "checkpoints") is not None
    again = start(tmp_path, pause=30, TORCHELASTIC_RUN_ID="x")
    reach(again, 2)
    again.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    again.send_signal(signal.SIGTERM)  # not the same any more
    assert finish(again)[0] == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_that_load_data_may_die_of_the_same_signal(
    tmp_path: Path, uninterrupted: torch.Tensor, number: signal.Signals
) -> None:
    run = start(tmp_path, pause=0.1, workers=2)
    reach(run, 4)
    os.killpg(run.pid, number)  # as torchrun, SLURM and Ctrl-C do
    code, errors = finish(run)
    assert code == (EX_TEMPFAIL if number == signal.SIGTERM else -signal.SIGINT), errors
    assert "DataLoader worker" not in errors
    code, errors = finish(start(tmp_path, SEED="99"))
    assert code == 0, errors
    assert torch.equal(results(tmp_path), uninterrupted)


# --- in this process --------------------------------------------------------------------------------------


def trainer() -> sp.DiffusionTrainer:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1)
    layer.register_forward_pre_hook(lambda module, inputs: inputs[:1])
    return sp.DiffusionTrainer(layer, sp.GaussianCorruption())


DATA = list(correlated_images(24).float().split(4))


def send(number: int, step: int) -> object:
    return lambda who, done: signal.raise_signal(number) if done.step == step else None


@pytest.fixture
def handlers() -> object:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    yield before
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    for number, handler in zip((signal.SIGTERM, signal.SIGINT, signal.SIGCHLD), before, strict=True):
        signal.signal(number, handler)
    assert after == before


def test_a_notebook_can_go_on_in_the_same_process(tmp_path: Path, handlers: object) -> None:
    straight, stopped = trainer(), trainer()
    straight.fit(DATA, steps=9)
    torch.manual_seed(4)
    with pytest.raises(KeyboardInterrupt, match=r"SIGINT stopped training after step 4; .*checkpoint-00000004.pt"):
        stopped.fit(DATA, steps=9, checkpoint_dir=tmp_path, callbacks=[send(signal.SIGINT, 4)])
    stopped.fit(DATA, steps=9, checkpoint_dir=tmp_path, resume=False)
    assert torch.equal(stopped.model.weight, straight.model.weight)


@pytest.mark.parametrize("step", [3, 6])
def test_sigterm_in_any_step_ends_the_process(tmp_path: Path, handlers: object, capsys, step: int) -> None:
    with pytest.raises(Preempted) as stop:  # in the last step too: the process is asked to end, not only training
        trainer().fit(DATA, steps=6, checkpoint_dir=tmp_path, callbacks=[send(signal.SIGTERM, step)])
    assert stop.value.code == EX_TEMPFAIL == 75
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
            trainer().fit(data, steps=9, checkpoint_dir=folder)
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
    trainer().fit(DATA, steps=1, callbacks=[look(without)])
    thread = threading.Thread(
        target=lambda: trainer().fit(DATA, steps=1, checkpoint_dir=tmp_path / "a", callbacks=[look(without)])
    )
    thread.start()
    thread.join()
    assert without == [handlers, handlers]
    within: list = []
    with pytest.raises(RuntimeError, match="no more"):
        trainer().fit(DATA, steps=1, checkpoint_dir=tmp_path / "b", callbacks=[look(within, True)])
    assert within[0][0] != handlers[0]
    assert within[0][1] != handlers[1]
    assert within[0][2] == handlers[2]


def test_an_ignored_signal_stays_ignored(tmp_path: Path, handlers: list) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in a background job
    trainer().fit(DATA, steps=3, checkpoint_dir=tmp_path, callbacks=[send(signal.SIGINT, 1)])
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, handlers[1])


def test_a_signal_too_late_to_be_looked_at_is_not_lost(tmp_path: Path, monkeypatch, handlers: list) -> None:
    from shortest_path.saving import CheckpointWriter

    wait = CheckpointWriter.wait

    def late(writer: CheckpointWriter) -> None:
        wait(writer)
        if (tmp_path / "checkpoint-00000002.pt").exists():
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CheckpointWriter, "wait", late)
    with pytest.raises(KeyboardInterrupt):
        trainer().fit(DATA, steps=2, checkpoint_dir=tmp_path)


# --- two processes ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_ranks_stop_together_and_resume_exactly(tmp_path: Path, number: signal.Signals) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    for run in start_both(straight, 0):
        code, errors = finish(run)
        assert code == 0, errors
    runs = start_both(stopped, 0, pause=0.03)
    reach(runs[0], 9)
    runs[1].send_signal(number)  # one alone is told
    begin = time.monotonic()
    codes = [finish(run)[0] for run in runs]
    assert time.monotonic() - begin < 10
    assert codes == [EX_TEMPFAIL if number == signal.SIGTERM else 130] * 2
    path = latest_checkpoint(stopped / "checkpoints")
    assert path is not None
    state = load_checkpoint(path)
    assert 9 <= state["step"] < 30
    assert not torch.equal(state["random"]["ranks"][0]["cpu"], state["random"]["ranks"][1]["cpu"])
    for run in start_both(stopped, 1):
        code, errors = finish(run)
        assert code == 0, errors
    for rank in range(2):  # dropout and order of each rank included
        assert torch.equal(results(stopped, rank), results(straight, rank))


@pytest.mark.slow
def test_torchrun_restarts_and_resumes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    # The first time, rank 1 is told to stop at step 5.
    told = textwrap.dedent("""
        def after(trainer, done):
            if done.step == 5 and rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
                os.kill(os.getpid(), 15)
    """)
    source = SCRIPT.replace("    trainer.fit(", textwrap.indent(told, "    ") + "    trainer.fit(")
    script.write_text(source.replace('os.environ["INIT"], rank=rank, world_size=world', '"env://"'))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max_restarts=1"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path), "9", "0", "0"],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},  # or gloo finds the addresses of the first time
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "SIGTERM stopped training after step 5" in done.stderr
    assert load_checkpoint(tmp_path / "checkpoints" / "checkpoint-00000009.pt")["step"] == 9
