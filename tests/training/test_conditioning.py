"""Laws of conditioning: what stands for none, for all rows and for some."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shortest_path._conditioning import conditioning_of, drop, unconditional

LABELS = torch.arange(6)
TEXT = torch.arange(6 * 4 * 3, dtype=torch.float32).view(6, 4, 3)
ROW = -torch.rand(4, 3, dtype=torch.float64)
DROPPED = torch.tensor([True, False, False, True, True, False])


@pytest.mark.parametrize(
    ("value", "null"),
    [
        (LABELS, 10),
        (LABELS, torch.tensor(10, dtype=torch.uint8)),
        (LABELS, torch.tensor([10])),
        (LABELS, 10 * torch.ones_like(LABELS)),
        (TEXT, 0.5),
        (TEXT.half(), ROW),
        (TEXT, ROW[:1]),
        (TEXT, ROW.expand_as(TEXT)),
        (TEXT > 9, False),
    ],
)
def test_null_values_replace_whole_tensors_or_single_rows(value: Tensor, null: object) -> None:
    everywhere = torch.as_tensor(null).expand(value.shape).to(value.dtype)
    result = unconditional({"y": value, "other": TEXT}, {"y": null})
    assert list(result) == ["y", "other"]
    assert result["other"] is TEXT
    assert result["y"].dtype == value.dtype
    assert torch.equal(result["y"], everywhere)

    before = value.clone()
    mixed = drop({"y": value, "other": TEXT}, {"y": null}, DROPPED)
    assert mixed["other"] is TEXT
    assert mixed["y"].dtype == value.dtype
    for row, dropped in enumerate(DROPPED):
        assert torch.equal(mixed["y"][row], (everywhere if dropped else value)[row])
    assert torch.equal(value, before)


def test_several_entries_are_dropped_for_the_same_rows() -> None:
    mixed = drop({"label": LABELS, "text": TEXT}, {"text": ROW, "label": 10}, DROPPED)
    assert torch.equal(mixed["label"] == 10, DROPPED)
    assert torch.equal((mixed["text"] == ROW.float()).all((1, 2)), DROPPED)


def test_what_is_no_tensor_gives_way_to_the_null_value_itself() -> None:
    assert unconditional({"text": ["a cat", "a dog"], "y": 3}, {"text": "", "y": None}) == {"text": "", "y": None}
    assert unconditional({"y": 3}, {}) == {"y": 3}


def test_no_value_is_read() -> None:
    # A tensor on the meta device has no values: whatever made the host wait for a device would fail here.
    conditioning = {"label": LABELS.to("meta"), "text": TEXT.to("meta")}
    mixed = drop(conditioning, {"label": 10, "text": ROW}, DROPPED.to("meta"))
    assert [value.device.type for value in mixed.values()] == ["meta", "meta"]


def test_the_second_element_of_a_batch_is_its_conditioning() -> None:
    assert conditioning_of((TEXT, LABELS), "label") == {"label": LABELS}
    assert conditioning_of([TEXT, {"text": LABELS}], "label") == {"text": LABELS}
    assert conditioning_of((TEXT, LABELS)) == conditioning_of(TEXT) == {}
    for batch in ((TEXT,), TEXT, (TEXT, None)):
        with pytest.raises(TypeError, match="label_name='label' requires batches"):
            conditioning_of(batch, "label")


@pytest.mark.parametrize(
    ("conditioning", "null", "error", "message"),
    [
        ({"y": LABELS}, {"x": 1}, ValueError, r"given for \['x'\], but the conditioning has \['y'\]; use the same"),
        ({}, {"y": 1}, ValueError, "but the conditioning has no entries; use the same names"),
        ({"y": LABELS}, {"y": "none"}, TypeError, "null value of 'y' must be a number or a tensor.* got str; convert"),
        (
            {"y": TEXT},
            {"y": ROW[:2]},
            ValueError,
            r"null value of 'y' has shape \(2, 3\).* to \(6, 4, 3\); give it the shape of one row, \(4, 3\)",
        ),
    ],
)
def test_null_values_that_do_not_fit_are_explained(
    conditioning: dict, null: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        unconditional(conditioning, null)
    with pytest.raises(error, match=message):
        drop(conditioning, null, DROPPED)


@pytest.mark.parametrize(
    ("value", "null", "error", "message"),
    [
        (["a cat"] * 6, "", TypeError, "'y' must be a tensor to be dropped for some images only, got list; convert it"),
        (LABELS[:5], 10, ValueError, r"'y' must have one row for each of 6 images.* got shape \(5,\); expand it"),
        (torch.tensor(1), 10, ValueError, r"one row for each of 6 images.* got shape \(\); expand it"),
    ],
)
def test_what_has_no_rows_cannot_be_dropped_for_some(
    value: object, null: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        drop({"y": value}, {"y": null}, DROPPED)
