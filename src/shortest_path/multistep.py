"""A solver that remembers its last step: second order from one model call a step.

With slopes v and step lengths h of every coefficient (`shortest_path.forms`), the step from t_k on is that of Adams and
Bashforth: its slope is extrapolated to the middle of the step,

    v + h_k / (2 h_(k−1)) (v_k − v_(k−1))

and, once the model has been called where a step ended, that step is taken again with the mean of the slopes at its
two ends: a predictor and a corrector for the price of one call. In the exponential form without the corrector
this is DPM-Solver++(2M); the corrector is the idea of UniPC.

Source: Hairer, Nørsett & Wanner 1993, sections III.1 and III.5; Lu et al. 2022, arXiv:2211.01095; Zhao et al. 2023,
arXiv:2302.04867.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .forms import Form, Scales, extrapolation


class _Step(NamedTuple):
    u_t: Tensor
    slope: Tensor
    scales: Scales


class Multistep:
    """Adams–Bashforth of order 1 or 2, with an optional trapezoidal corrector.

    Args:
        form: The coordinates to step in.
        order: 1 takes every step with its own slope alone; 2 extrapolates.
        corrector: Take each step again with the mean slope, when the next one is known.
    """

    def __init__(self, form: Form, *, order: int = 2, corrector: bool = True) -> None:
        self._form, self._order, self._corrector = form, order, corrector
        self._before: _Step | None = None

    def step(self, u_t: Tensor, u_0: Tensor, at_t: Scales, at_s: Scales) -> Tensor:
        """Return u_s.

        Args:
            u_t: Coefficients at t.
            u_0: The clean coefficients that the model predicts from them.
            at_t: (signal, noise) at t, float64.
            at_s: (signal, noise) at s, float64; (1, 0) where the clean image is wanted.
        """
        form, before = self._form, self._before
        slope = estimate = form.slope(u_t, u_0, at_t)
        if before is not None:
            behind = form.length(before.scales, at_t)
            if self._corrector:
                share = form.later_share(behind).to(u_t.dtype)
                mean = torch.lerp(before.slope, slope, share.expand_as(slope))
                u_t = form.move(before.u_t, mean, before.scales, at_t)
            if self._order == 2:
                share = extrapolation(form.length(at_t, at_s), behind, form.most).to(u_t.dtype)
                estimate = ((1 + share) * slope).addcmul_(share, before.slope, value=-1)
        self._before = _Step(u_t, slope, at_t)
        return form.move(u_t, estimate, at_t, at_s)
