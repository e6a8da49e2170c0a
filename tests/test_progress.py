"""Laws of the progress line: where and when it is shown, and what it says."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import torch

import shortest_path as sp
from shortest_path import _progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, show: bool | None, total: int | None = 4) -> str:
    """Return what is written while four units are done, one every 1.5 seconds."""
    now, notes = [100.0], []
    monkeypatch.setattr(_progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(_progress.sys, "stderr", stream)
    with _progress.Progress("work", total=total, show=show) as bar:
        for _ in range(4):
            now[0] += 1.5
            bar.advance(note=lambda: notes.append(now[0]) or "note")
    monkeypatch.undo()
    assert len(notes) == stream.getvalue().count("note")  # words that are not shown may wait for the device
    return stream.getvalue()


def test_on_a_terminal_it_appears_once_the_work_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = shown(monkeypatch, Terminal(), None).split("\r")
    assert first == ""  # nothing in the first two seconds
    assert [line.rstrip(" ") for line in others] == [
        "work: 2/4 steps, 0.667/s, 3 s left  note",
        "work: 3/4 steps, 0.667/s, 2 s left  note",
        "work: 4/4 steps, 0.667/s, 0 s left  note",
        "work: 4/4 steps, 0.667/s, 0 s left" + " " * 45 + "\n",  # over all of the line before
    ]


def test_a_file_gets_a_line_every_ten_seconds_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ["work: 1/4 steps, 0.667/s, 4 s left  note", "work: 4/4 steps, 0.667/s, 0 s left"]
    assert shown(monkeypatch, io.StringIO(), True).splitlines() == expected
    assert shown(monkeypatch, io.StringIO(), True, None).splitlines()[0] == "work: 1 steps, 0.667/s  note"


def test_it_is_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), None) == ""
    assert shown(monkeypatch, Terminal(), False) == ""


def test_samplers_show_it_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    sampler = sp.Sampler(lambda x_t, t: x_t, sp.GaussianCorruption("flow"), steps=3)
    for progress in (None, False, True):
        assert capsys.readouterr().err == ""
        sampler.sample((1, 1, 2, 2), progress=progress, generator=torch.Generator())
    assert capsys.readouterr().err.startswith("sampling: 1/3 steps, ")
