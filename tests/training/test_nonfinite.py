"""Steps with a loss or a gradient that is not finite: skipped, counted, explained."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import shortest_path as sp
from shortest_path.training import NonFiniteError, load_checkpoint
from shortest_path.training._nonfinite import clip_gradient, gradient_norm
from tests.training.networks import batches, net, weights
from tests.training.processes import group, together


class Faulty(nn.Module):
    """Goes wrong in chosen steps, in a chosen way; has batch statistics and dropout."""

    def __init__(self, steps: object = (), how: str = "nan") -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.2)
        self.last = nn.Conv2d(4, 3, 3, padding=1)
        self.steps, self.how, self.calls = steps, how, 0

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        bad = self.calls in self.steps  # type: ignore[operator]
        if bad and self.how == "input":
            x_t = x_t * torch.nan  # it reaches the batch statistics
        output = self.last(self.drop(torch.tanh(self.norm(self.first(x_t)))))
        if bad and self.how in ("nan", "inf"):
            output = output * float(self.how)
        if bad and self.how == "detached":  # the loss is not finite, every gradient is 0
            output = output * 0 + torch.where(torch.arange(8) < 1, torch.nan, 0.0).detach()
            output = torch.where(output.isnan(), output.detach(), output)
        if bad and self.how == "gradient":
            output = Overflow.apply(output)
        return output


class Overflow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad * 1e30  # finite, but its square is not


def trainer(
    steps: object = (), how: str = "nan", *, calls: int = 0, fused: bool = False, **options: object
) -> sp.DiffusionTrainer:
    """With a fused optimizer, the device decides which steps are skipped."""
    torch.manual_seed(0)
    model = Faulty(steps, how)
    model.calls = calls
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    return sp.DiffusionTrainer(model, sp.GaussianCorruption(), ema_decay=0.5, optimizer=optimizer, **options)


FUSED = pytest.mark.parametrize("fused", [False, True], ids=["the host decides", "the device decides"])


@FUSED
@pytest.mark.parametrize("how", ["nan", "inf", "input", "detached", "gradient"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_bad_step_changes_nothing_but_the_count(how: str, clip: float | None, fused: bool) -> None:
    trained = trainer({3}, how, max_grad_norm=clip, time_sampling="loss-second-moment", fused=fused)
    data = batches(6, 4)
    for batch in data[:2]:
        assert not trained.train_step([batch]).skipped
    before = [weights(trained.model), weights(trained.ema_model)]
    moments = [value.clone() for state in trained.optimizer.state.values() for value in state.values()]
    known = trained.state_dict()["random"]["times"]
    bad = trained.train_step([data[2]])
    assert bad.skipped
    assert (bad.step, trained.step, trained.skipped) == (3, 3, 1)
    assert not (bad.loss.isfinite() and bad.grad_norm.isfinite())
    assert isinstance(bad.skipped, Tensor) == fused
    assert fused or all(parameter.grad is None for parameter in trained.model.parameters())
    assert not hasattr(trained.optimizer, "found_inf")
    for name, value in trained.state_dict()["random"]["times"].items():
        assert torch.equal(value, known[name])
    for ours, theirs in zip(before, [weights(trained.model), weights(trained.ema_model)], strict=True):
        assert torch.equal(ours, theirs)  # batch statistics included
    after = [value for state in trained.optimizer.state.values() for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert not trained.train_step([data[3]]).skipped
    assert weights(trained.model).isfinite().all()
    assert not torch.equal(weights(trained.model), before[0])


@FUSED
def test_a_schedule_counts_skipped_steps(fused: bool, recwarn: pytest.WarningsRecorder) -> None:
    model = Faulty({1, 3}, "nan")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    trained = sp.DiffusionTrainer(model, sp.GaussianCorruption(), optimizer=optimizer, scheduler=schedule)
    rates = []
    for batch in batches(4, 4):
        trained.train_step([batch])
        rates.append(trained.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-2 * 0.5**step for step in (1, 2, 3, 4)])
    assert not recwarn.list


@FUSED
@pytest.mark.parametrize("stop", [3, 4, 5, 8])
def test_resume_is_exact_also_after_skipped_steps(tmp_path: Path, stop: int, fused: bool) -> None:
    bad = {4, 5, 9}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        straight, first, second = (trainer(bad, fused=fused, calls=calls) for calls in (0, 0, stop))
        torch.manual_seed(5)
        straight.fit(batches(6, 4), steps=11)
        torch.manual_seed(5)
        first.fit(batches(6, 4), steps=stop, checkpoint_dir=tmp_path)
        torch.manual_seed(99)
        second.fit(batches(6, 4), steps=11, checkpoint_dir=tmp_path)
    late = "skipped step 9: loss nan, gradient norm nan; 3 skipped so far"  # the first look is at the end
    assert str(caught[0].message) == (
        late if fused else "skipped step 4: loss nan, gradient norm nan; 1 skipped so far"
    )
    assert straight.skipped == second.skipped == 3
    assert torch.equal(weights(second.model), weights(straight.model))
    assert torch.equal(weights(second.ema_model), weights(straight.ema_model))
    assert torch.equal(second.generator.get_state(), straight.generator.get_state())


@FUSED
@pytest.mark.parametrize("limit", [0, 1, 10])
def test_so_many_in_a_row_pass_and_one_more_stops(limit: int, fused: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        passed = trainer(range(2, 2 + limit), max_skipped=limit, fused=fused)
        passed.fit(batches(6, 4), steps=limit + 4)
        assert (passed.step, passed.skipped) == (limit + 4, limit)
        twice = trainer([*range(2, 2 + limit), *range(3 + limit, 3 + 2 * limit)], max_skipped=limit, fused=fused)
        twice.fit(batches(6, 4), steps=30)  # a good one between them
        assert twice.skipped == 2 * limit
        with pytest.raises(NonFiniteError, match=f"{limit + 1} consecutive steps had a loss"):
            trainer(range(2, 3 + limit), max_skipped=limit, fused=fused).fit(batches(6, 4), steps=99)


def test_warnings_come_at_powers_of_two() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(range(1, 100), max_skipped=99).fit(batches(6, 4), steps=20)
    counts = [int(str(warning.message).split(";")[1].split()[0]) for warning in caught]
    assert counts == [1, 2, 4, 8, 16]
    assert caught[0].filename == __file__


def test_the_error_names_a_weighting_of_ones_own() -> None:
    broken = sp.DiffusionTrainer(
        net(), sp.GaussianCorruption(), weighting=lambda t, signal, noise: 1 / (t - t), max_skipped=1, seed=1
    )
    advice = "Try a function weighting whose weights are finite at every time; or else a lower learning rate"
    with pytest.warns(RuntimeWarning, match="skipped step"), pytest.raises(NonFiniteError, match=advice):
        broken.fit(batches(3, 4), steps=9)


def test_the_error_names_weights_in_float16() -> None:
    broken = sp.DiffusionTrainer(net().to(torch.float16), sp.GaussianCorruption(), max_skipped=1, seed=1)
    advice = r"Try model.float\(\) with precision='fp16', as weights in float16 cannot hold small gradients; or else"
    with pytest.warns(RuntimeWarning, match="skipped step"), pytest.raises(NonFiniteError, match=advice):
        broken.fit(batches(3, 4), steps=9)


def test_the_error_says_what_happened_and_the_state_from_before_is_kept(tmp_path: Path) -> None:
    seen: list[sp.training.TrainStep] = []
    broken = trainer(range(5, 99), "gradient", max_skipped=3, time_sampling="stratified")
    torch.manual_seed(5)
    with pytest.warns(RuntimeWarning, match="skipped step"), pytest.raises(NonFiniteError) as error:
        broken.fit(
            batches(3, 4),
            steps=99,
            checkpoint_dir=tmp_path,
            checkpoint_every=2,
            keep_checkpoints=1,
            callbacks=[lambda who, step: seen.append(step)],
        )
    path = tmp_path / "before-nonfinite-00000004.pt"
    assert str(error.value) == (
        "4 consecutive steps had a loss or a gradient that is not finite, the last step 8: "
        f"loss {seen[-1].loss.item():.4g}, gradient norm inf; the state from before them: {path}. "
        "Try a lower learning rate, max_grad_norm, or precision='fp32'"
    )
    assert [step.step for step in seen] == list(range(1, 9))  # the last one too is shown to callbacks
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        path.name,
        "checkpoint-00000004.pt",  # from before the row: it stays
        "checkpoint-00000006.pt",
    ]

    again = trainer(time_sampling="stratified")
    again.load_state_dict(load_checkpoint(path))
    assert (again.step, again.skipped) == (4, 0)
    assert torch.equal(weights(again.model), weights(broken.model))


@FUSED
@pytest.mark.filterwarnings("ignore:skipped step")
@pytest.mark.parametrize("bad", [range(5, 99), range(5, 8)], ids=["for good", "then well again"])
def test_from_the_state_before_training_goes_on_exactly(tmp_path: Path, fused: bool, bad: range) -> None:
    broken = trainer(bad, max_skipped=2, fused=fused)
    torch.manual_seed(5)
    with pytest.raises(NonFiniteError, match=r"^3 consecutive .* the last step 7: loss nan"):
        broken.fit(batches(6, 4), steps=99, checkpoint_dir=tmp_path)
    assert broken.step == (50 if fused else 7)  # the device is looked at every 50 steps, and skips all until then
    straight, again = trainer(fused=fused), trainer(fused=fused)
    torch.manual_seed(5)
    straight.fit(batches(6, 4), steps=9)
    torch.manual_seed(99)
    again.load_state_dict(load_checkpoint(tmp_path / "before-nonfinite-00000004.pt"))
    assert (again.step, again.skipped) == (4, 0)
    again.fit(batches(6, 4), steps=9)
    assert torch.equal(weights(again.model), weights(straight.model))


@FUSED
def test_a_row_goes_on_after_a_resume(tmp_path: Path, fused: bool) -> None:
    with pytest.warns(RuntimeWarning, match="skipped"):
        trainer(range(3, 99), max_skipped=4, fused=fused).fit(
            batches(6, 4), steps=5, checkpoint_dir=tmp_path
        )  # three of them
    resumed = trainer(range(3, 99), max_skipped=4, calls=5, fused=fused)
    told = contextlib.nullcontext() if fused else pytest.warns(RuntimeWarning, match="4 skipped so far")
    with told, pytest.raises(NonFiniteError, match=r"5 cons.* step 7"):
        resumed.fit(batches(6, 4), steps=99, checkpoint_dir=tmp_path)
    assert (tmp_path / "before-nonfinite-00000005.pt").exists()


def test_errors_without_a_folder_and_with_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NonFiniteError, match="the state from before them is not saved, as there is no checkpoint_dir"):
        trainer({1}, max_skipped=0).fit(batches(6, 4), steps=2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shortest_path.training._saver.write_checkpoint", full)
    with pytest.raises(NonFiniteError, match="before them could not be saved: .*No space left on device"):
        trainer({1}, max_skipped=0).fit(batches(6, 4), steps=2, checkpoint_dir=tmp_path)


# --- norms ------------------------------------------------------------------------------------------------


def test_norms_and_clipping_are_torchs_to_the_last_bit() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(7, 5)), nn.Parameter(torch.randn(3)), nn.Parameter(torch.zeros(2))]
    for largest in (1e-2, 1e3):
        for parameter in parameters[:2]:
            parameter.grad = torch.randn_like(parameter)
        grads = [parameter.grad.clone() for parameter in parameters[:2] if parameter.grad is not None]
        norm = gradient_norm(parameters)
        clip_gradient(parameters, norm, largest)
        ours = [parameter.grad for parameter in parameters[:2]]
        for parameter, grad in zip(parameters, grads, strict=False):
            parameter.grad = grad
        assert torch.equal(norm, nn.utils.clip_grad_norm_(parameters, largest))
        assert all(torch.equal(a, b.grad) for a, b in zip(ours, parameters, strict=False))
    assert gradient_norm([nn.Parameter(torch.ones(1))]) == 0


def test_sparse_and_mixed_gradients_have_norms() -> None:
    embedding, half = nn.Embedding(4, 2, sparse=True), nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    embedding(torch.tensor([1, 1])).sum().backward()
    half.grad = torch.ones_like(half)
    expected = (4 * 2 + 3) ** 0.5
    assert gradient_norm([*embedding.parameters(), half]).item() == pytest.approx(expected, rel=1e-2)


# --- two processes ----------------------------------------------------------------------------------------


def work(rank: int, ranks: int, folder: str, fused: bool) -> None:
    warnings.simplefilter("ignore")
    found: dict[str, object] = {}

    def train(steps: object, how: str) -> sp.DiffusionTrainer:
        torch.manual_seed(0)
        model = DistributedDataParallel(Faulty(steps if rank == 1 else (), how))
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, fused=fused)
        return sp.DiffusionTrainer(model, sp.GaussianCorruption(), ema_decay=0.5, max_skipped=2, optimizer=optimizer)

    with group(rank, ranks, f"{folder}/rendezvous"):
        for how in ("nan", "detached"):
            trained = train({2, 5}, how)
            skipped: list[bool] = []
            trained.fit(
                batches(6, 4), steps=7, callbacks=[lambda who, step, all=skipped: all.append(bool(step.skipped))]
            )
            model = trained.model.module
            found[how], found[f"{how} weights"] = skipped, weights(nn.Sequential(model.first, model.last))
        try:
            train(range(4, 99), "nan").fit(batches(6, 4), steps=99, checkpoint_dir=f"{folder}/checkpoints")
        except NonFiniteError as error:
            found["error"] = str(error)
        torch.save(found, f"{folder}/rank{rank}.pt")


@FUSED
@pytest.mark.slow
def test_all_ranks_skip_what_one_cannot_use(tmp_path: Path, fused: bool) -> None:
    together(work, tmp_path, fused)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for how in ("nan", "detached"):
        assert ranks[0][how] == ranks[1][how] == [step in (2, 5) for step in range(1, 8)]
        assert torch.equal(ranks[0][f"{how} weights"], ranks[1][f"{how} weights"])
        assert ranks[0][f"{how} weights"].isfinite().all()
    assert all("3 consecutive steps" in found["error"] and "the last step 6" in found["error"] for found in ranks)
    state = load_checkpoint(tmp_path / "checkpoints" / "before-nonfinite-00000003.pt")
    assert (state["step"], state["ranks"], sorted(state["random"]["ranks"])) == (3, 2, [0, 1])
