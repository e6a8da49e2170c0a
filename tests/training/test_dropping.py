"""Laws of dropped conditioning, as classifier-free guidance requires it."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import shortest_path as sp
from shortest_path._conditioning import unconditional
from shortest_path.training import latest_checkpoint, load_checkpoint
from tests.training.networks import LabelledNet, batches, weights
from tests.worlds import CORRUPTIONS, SHAPE


def dropping(rate: float = 0.3, *, null: object = 4, **arguments: object) -> sp.DiffusionTrainer:
    torch.manual_seed(0)
    options: dict[str, object] = {"label_name": "y", "drop_conditioning": rate, "null_conditioning": {"y": null}}
    return sp.DiffusionTrainer(LabelledNet(), CORRUPTIONS["shortest-cosine"](), **{**options, **arguments})  # type: ignore[arg-type]


def labelled(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    return [(images, torch.arange(len(images)) % 4) for images in batches(count)]


@pytest.mark.parametrize("kind", ["tuple", "mapping"])
def test_conditioning_is_dropped_at_the_stated_rate(kind: str) -> None:
    x, y = torch.zeros(3000, *SHAPE), torch.arange(3000) % 4
    trained = dropping(0.3)
    for _ in range(2):
        trained.train_step([(x, y) if kind == "tuple" else (x, {"y": y})])
    dropped = torch.stack([seen["y"] == 4 for seen in trained.model.seen])
    assert all(torch.equal(seen["y"][seen["y"] != 4], y[seen["y"] != 4]) for seen in trained.model.seen)
    assert not torch.equal(dropped[0], dropped[1])
    # four standard deviations of a binomial distribution
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / dropped.numel()))


def test_all_named_entries_of_an_image_are_dropped_together_and_no_others() -> None:
    y, text, size = torch.arange(64) % 4, torch.randn(64, 5, 2), torch.ones(64)
    null = torch.full((5, 2), -1.0)
    trained = dropping(0.5, null_conditioning={"y": 4, "text": null})
    trained.train_step([(torch.zeros(64, *SHAPE), {"y": y, "text": text, "size": size})])
    seen = trained.model.seen[0]
    dropped = seen["y"] == 4
    assert 0 < dropped.sum() < 64
    assert torch.equal(seen["text"], torch.where(dropped.view(-1, 1, 1), null, text))
    assert seen["size"] is size


def test_the_seed_decides_what_is_dropped() -> None:
    for seed in (0, 1):
        trained = dropping(0.5, seed=seed)
        trained.train_step(labelled(1))
        expected = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
        assert torch.equal(trained.model.seen[0]["y"] == 4, expected)


def test_the_loss_takes_conditioning_as_it_is() -> None:
    trained, (x, y) = dropping(0.99), labelled(1)[0]
    trained.loss(x, conditioning={"y": y})
    assert trained.model.seen[0]["y"] is y


def test_training_without_dropping_draws_times_and_noise_alone() -> None:
    trained, expected = dropping(0.0, null_conditioning=None), torch.Generator().manual_seed(0)
    torch.rand(8, generator=expected)
    torch.randn(8, *SHAPE, generator=expected)
    trained.train_step(labelled(1))
    assert torch.equal(trained.generator.get_state(), expected.get_state())
    assert torch.equal(trained.model.seen[0]["y"], labelled(1)[0][1])


def test_dropping_resumes_bit_exactly(tmp_path: Path) -> None:
    straight, first, second = (dropping(null=torch.tensor(4)) for _ in range(3))
    torch.manual_seed(5)
    straight.fit(labelled(), steps=9)
    torch.manual_seed(5)
    first.fit(labelled(), steps=4, checkpoint_dir=tmp_path)
    torch.manual_seed(99)
    second.fit(labelled(), steps=9, checkpoint_dir=tmp_path)
    assert torch.equal(weights(second.model), weights(straight.model))
    assert torch.equal(second.model.seen[-1]["y"], straight.model.seen[-1]["y"])


def test_a_resume_with_other_dropping_is_refused(tmp_path: Path) -> None:
    trained = dropping(np.float64(0.3), null=np.int64(4))  # type: ignore[arg-type]  # numpy's numbers become plain
    trained.fit(labelled(), steps=1, checkpoint_dir=tmp_path)
    state = load_checkpoint(latest_checkpoint(tmp_path) or "")
    dropping(0.3, null=torch.tensor(4)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"drop_conditioning: 0.3 in the checkpoint, 0.2 here\. Use the same options"):
        dropping(0.2).load_state_dict(state)
    with pytest.raises(
        ValueError, match=r"null_conditioning: {'y': 4} in the checkpoint, {'y': \[3.0, 3.0,.{250,}\.\.\. here"
    ):
        dropping(null=torch.full((999,), 3.0)).load_state_dict(state)


def test_dropping_what_a_batch_has_not_is_explained() -> None:
    for batch, has in ((labelled(1)[0], "no entries"), ((batches(1)[0], {"text": torch.zeros(8)}), r"\['text'\]")):
        with pytest.raises(ValueError, match=rf"given for \['y'\], but the conditioning has {has}; use the same names"):
            dropping(label_name=None).train_step([batch])


@pytest.mark.parametrize(
    ("labels", "null", "message"),
    [
        (
            torch.int64,
            3.7,
            "the null value of 'y' must be one that torch.int64, the type of 'y', can hold, got 3.7",
        ),
        (torch.int64, math.nan, "one that torch.int64, the type of 'y', can hold, got nan"),
        (torch.int64, math.inf, "one that torch.int64, the type of 'y', can hold, got inf"),
        (torch.int64, 2**63, "one that torch.int64, the type of 'y', can hold, got 9223372036854775808"),
        (torch.uint8, -1, "one that torch.uint8, the type of 'y', can hold, got -1"),
        (torch.uint8, 256, "one that torch.uint8, the type of 'y', can hold, got 256"),
        (torch.bool, 2, "one that torch.bool, the type of 'y', can hold, got 2"),
        (torch.float32, 1j, "one that torch.float32, the type of 'y', can hold, got 1j"),
        (torch.float16, 1e6, "one that torch.float16, the type of 'y', can hold, got 1000000.0"),
        (
            torch.int64,
            torch.tensor(3.7),
            "torch.int64, the type of 'y', can hold, got a tensor of torch.float32",
        ),
        (torch.uint8, torch.tensor([0, -1]), "the type of 'y', can hold, got a tensor of torch.int64"),
        (torch.uint64, torch.tensor(-1), "the type of 'y', can hold, got a tensor of torch.int64"),
        (torch.float8_e4m3fn, torch.tensor(1e6), "the type of 'y', can hold, got a tensor of torch.float32"),
        (torch.float32, torch.tensor(1j), "the type of 'y', can hold, got a tensor of torch.complex64"),
    ],
)
def test_a_null_value_that_the_conditioning_cannot_hold_is_refused(
    labels: torch.dtype, null: object, message: str
) -> None:
    y = torch.ones(2, 2).to(labels)
    sampler = sp.Sampler(
        lambda x, t, y: x,
        sp.GaussianCorruption(),
        prediction="data",
        steps=1,
        guidance_scale=2.0,
        null_conditioning={"y": null},
    )
    with pytest.raises(ValueError, match=message):
        sampler.sample((2, 1, 2, 2), conditioning={"y": y})
    trained = dropping(0.5, null=null)
    with pytest.raises(ValueError, match=message):
        trained.train_step([(torch.zeros(2, *SHAPE), y)])


@pytest.mark.parametrize(
    ("labels", "null", "wanted"),
    [
        (torch.int64, 3.0, 3),
        (torch.int64, True, 1),
        (torch.int64, Fraction(4, 2), 2),
        (torch.float32, 2**70, 2.0**70),
        (torch.int64, np.int32(4), 4),
        (torch.int64, torch.tensor([3.0, 4.0]), [3, 4]),
        (torch.uint8, torch.tensor(255), 255),
        (torch.bool, 0, False),
        (torch.float32, 0.1, 0.1),
        (torch.float16, 0.1, 0.1),
        (torch.float32, math.nan, math.nan),
        (torch.float32, -math.inf, -math.inf),
        (torch.complex64, 1j, 1j),
    ],
)
def test_a_null_value_that_the_conditioning_holds_is_taken(labels: torch.dtype, null: object, wanted: object) -> None:
    y = torch.ones(1, 2, dtype=labels)
    expected = torch.as_tensor(wanted).to(labels).expand(1, 2)
    found = unconditional({"y": y}, {"y": null})["y"]
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=0)
