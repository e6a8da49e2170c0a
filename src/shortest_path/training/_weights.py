"""A model's weights during training: their optimizer, and their averages."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .._checks import kind_of
from ._ema import ExponentialMovingAverage
from ._fit import check_fit
from ._nonfinite import clip_gradient, gradient_norm, keep_buffers, remember_buffers, restore_buffers
from ._settings import HOW, defaults_of

PARAMETERS = "parameters"
"""Name of the entry with the names of the optimizer's parameters, group by group; earlier states have none."""
_OF_PARAMETERS = {"params", "param_names"}  # entries of a group that are no options


class Weights:
    """The weights of a model, with their optimizer and their averages.

    Args:
        model: The network, without wrappers.
        optimizer: Optimizer of the model's parameters.
        scheduler: Schedule of the optimizer's learning rate, or None.
        decays: Decays of the averaged weights, each in [0, 1).
        ema_warmup: Whether averages forget the initial weights sooner; see `ExponentialMovingAverage`.
        max_grad_norm: Norm to which gradients are clipped, or None.
        scale_loss_on: The kind of device on which losses are scaled, so that gradients stay within float16; None does
            not scale.
        also: Further parameters that the optimizer may train, e.g. a corruption's, by name.

    Raises:
        TypeError: an optimizer or scheduler of another type, or one whose step requires an argument.
        ValueError: an optimizer of another model, or a scheduler of another optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler | None,
        *,
        decays: Sequence[float],
        ema_warmup: bool,
        max_grad_norm: float | None,
        scale_loss_on: str | None = None,
        also: Mapping[str, Tensor] | None = None,
    ) -> None:
        also = also or {}
        _check_optimizer(optimizer, model, also.values())
        if scheduler is not None:
            if not isinstance(scheduler, LRScheduler) and not hasattr(scheduler, "optimizer"):
                raise TypeError(
                    f"scheduler must be a torch.optim.lr_scheduler.LRScheduler, got {type(scheduler).__name__}; make "
                    "it of the optimizer that is passed beside it"
                )
            if lacks := [name for name in ("state_dict", "load_state_dict") if not hasattr(scheduler, name)]:
                raise TypeError(
                    f"scheduler {type(scheduler).__name__} has no {' and no '.join(lacks)}, with which a training is "
                    "continued; add what torch.optim.lr_scheduler.LRScheduler has"
                )
            if _requires_argument(scheduler):
                raise TypeError(f"scheduler {type(scheduler).__name__} requires a measure; step it in a callback")
            if scheduler.optimizer is not optimizer:
                raise ValueError("scheduler belongs to another optimizer; pass optimizer=scheduler.optimizer")
        shared = set(map(id, also.values()))  # averages whiten with the corruption that is trained with
        copied = [name for name, parameter in model.named_parameters() if id(parameter) in shared]
        self.averages = {
            decay: ExponentialMovingAverage(model, decay, warmup=ema_warmup, copied=copied) for decay in decays
        }
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        named = (*also.items(), *model.named_parameters())
        self._names = {id(parameter): name.replace("_orig_mod.", "") for name, parameter in named}  # compiled or not
        self._max_grad_norm = max_grad_norm
        self._scaler = None if scale_loss_on is None else torch.amp.GradScaler(scale_loss_on)
        if self._scaler is not None and any(each.dtype == torch.float16 for each in self._parameters()):
            raise ValueError("precision='fp16' requires weights in float32, got float16; pass model.float()")
        self._buffers: dict[str, Tensor] = {}  # from before the present step
        remember_buffers(model, self._buffers)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss, scaled where losses are.

        Raises:
            ValueError: it has none.
        """
        if not loss.requires_grad:
            raise ValueError(
                f"the loss of {type(self._model).__name__} does not depend on a parameter that is trained; its forward "
                "must not detach its output, or compute it in torch.no_grad()"
            )
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def gradient_norm(self) -> Tensor:
        """Return the norm of the gradients of all parameters of the optimizer, after undoing the scale of the loss."""
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        return gradient_norm(self._parameters())

    def scale_is_too_large(self) -> bool:
        """Whether gradients that are not finite may be only those of the scaled loss; waits for the device."""
        return self._scaler is not None and self._scaler.get_scale() > 1

    def move(self, norm: Tensor) -> None:
        """Take an optimizer step with gradients of a known norm."""
        if self._max_grad_norm is not None:
            clip_gradient(self._parameters(), norm, self._max_grad_norm)
        self._optimizer.step()
        if self._scaler is not None:
            self._scaler.update()
        self._follow_schedule()
        for average in self.averages.values():
            average.update(self._model)
        remember_buffers(self._model, self._buffers)

    def can_skip_on_device(self) -> bool:
        """Whether the optimizer can be told by a tensor to skip a step: torch's fused Adam and AdamW.

        Not with a scaled loss. Fused SGD does not, whose momentum is undefined after a first step that is skipped.
        """
        kind = type(self._optimizer) in (torch.optim.Adam, torch.optim.AdamW)
        fused = all(group.get("fused") for group in self._optimizer.param_groups)
        scales = getattr(self._optimizer, "_step_supports_amp_scaling", False)
        return kind and fused and scales and self._scaler is None

    def move_unless(self, bad: Tensor, norm: Tensor) -> None:
        """Take an optimizer step with gradients of a known norm, or none if it is `bad`; does not wait for the device.

        `found_inf` is how torch's GradScaler tells a fused optimizer to leave weights and state as they are.
        """
        if self._max_grad_norm is not None:
            clip_gradient(self._parameters(), norm, self._max_grad_norm)
        self._optimizer.grad_scale, self._optimizer.found_inf = None, bad.float()  # type: ignore[attr-defined]
        try:
            self._optimizer.step()
        finally:
            del self._optimizer.grad_scale, self._optimizer.found_inf  # type: ignore[attr-defined]
        self._follow_schedule()
        keep_buffers(self._model, self._buffers, bad)
        for average in self.averages.values():
            average.update(self._model, unless=bad)

    def _follow_schedule(self) -> None:
        """Set the next learning rate: after every step, taken or skipped, so that nothing waits to know which."""
        if self._scheduler is not None:
            self._scheduler.step()

    def stay(self) -> None:
        """Drop the gradients, restore the buffers as they were before the forward pass, and lower the scale."""
        if self._scaler is not None:
            self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        with warnings.catch_warnings():  # of a schedule that begins before the first step is taken
            warnings.simplefilter("ignore", UserWarning)
            self._follow_schedule()
        restore_buffers(self._model, self._buffers)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, their averages, and the state of optimizer and scheduler.

        The first average is "ema", and what it is computed from is "average"; the others are there by their decays.
        """
        averages = {decay: average.state_dict() for decay, average in self.averages.items()}
        average = averages.pop(next(iter(averages))) if averages else {"model": None}
        return {
            "model": self._model.state_dict(),
            "ema": average.pop("model"),
            "average": {**average, "others": averages} if averages else average,
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            "scaler": {} if self._scaler is None else self._scaler.state_dict(),
            PARAMETERS: self.names(),
        }

    def check(self, state: Mapping[str, Any], allowed: Collection[str]) -> None:
        """Raise a ValueError if a state does not fit, so that loading it cannot stop half-way.

        Another optimizer fits if it is `allowed`.
        """
        check_fit("model", state["model"], self._model.state_dict())
        if state["ema"] is not None:
            for decay, average in self.averages.items():
                own, found = average.state_dict(), _average_in(state, decay)
                check_fit("ema", found["model"], own["model"])
                check_fit("average", found["exact"], own["exact"])
        if "optimizer" not in allowed and not self._has_optimizer_of(state):
            theirs, ours = _sizes(state["optimizer"]["param_groups"]), _sizes(self._optimizer.param_groups)
            others = other_names(*(list(map(sorted, names)) for names in (state.get(PARAMETERS, []), self.names())))
            raise ValueError(
                f"the state's optimizer has groups of {theirs} parameters, this trainer's {ours}"
                f"{f' ({others})' if others and theirs == ours else ''}; pass the same optimizer, or "
                "allow_changes=('optimizer',) to begin with a new one"
            )

    def _has_optimizer_of(self, state: Mapping[str, Any]) -> bool:
        """Whether the optimizer can continue from a state: of the same class, parameters, and numbers for each.

        What is kept of the gradients is told by the options that are on, e.g. `amsgrad` and `momentum`.
        """
        theirs, ours = state["optimizer"]["param_groups"], self._optimizer.param_groups
        if state["config"]["optimizer"] != type(self._optimizer).__name__ or _sizes(theirs) != _sizes(ours):
            return False
        groups = list(zip(theirs, ours, strict=True))
        if PARAMETERS in state:
            if [sorted(names) for names in state[PARAMETERS]] != [sorted(names) for names in self.names()]:
                return False
        elif any(
            group.get("param_names", given) != given for group, own in groups if (given := own.get("param_names"))
        ):
            return False
        switches = defaults_of(self._optimizer).keys() - {"lr", "weight_decay", *HOW}
        return all(bool(group[name]) == bool(own[name]) for group, own in groups for name in switches & group.keys())

    def load_state_dict(self, state: Mapping[str, Any], changed: Set[str]) -> None:
        """Continue from what `state_dict` returned, with the options in `changed` as they are in this trainer.

        Another optimizer begins anew, and so does another schedule. Of other options of the same optimizer, what it has
        learned of the gradients is kept. Averages of a state without averages begin at its weights.
        """
        rates = [group.get("lr") for group in self._optimizer.param_groups]
        self._model.load_state_dict(state["model"])
        remember_buffers(self._model, self._buffers)
        for decay, average in self.averages.items():
            if state["ema"] is None:
                average.begin(state["model"])
            else:
                average.load_state_dict(_average_in(state, decay))
        if self._scaler is not None and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        groups = self._optimizer.param_groups
        if self._has_optimizer_of(state):
            optimizer, names = copy.deepcopy(state["optimizer"]), self.names()  # torch would train on the tensors given
            their_names = state.get(PARAMETERS, names)
            for index, (theirs, own) in enumerate(zip(optimizer["param_groups"], groups, strict=True)):
                theirs.update({name: own[name] for name in self._kept(own, changed)})
                place = dict(zip(their_names[index], theirs["params"], strict=True))
                theirs["params"] = [place[name] for name in names[index]]  # as torch loads by the place in the group
            self._optimizer.load_state_dict(optimizer)
        elif self._scheduler is not None and "scheduler" not in changed:  # a new optimizer with the same schedule
            for theirs, own in zip(state["optimizer"]["param_groups"], groups, strict=False):
                own.update({name: copy.deepcopy(theirs[name]) for name in self._scheduled(own) & theirs.keys()})
        if "learning_rate" in changed:
            for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        if self._scheduler is not None and "scheduler" not in changed:
            self._scheduler.load_state_dict(state["scheduler"])

    def _kept(self, group: Mapping[str, Any], changed: Set[str]) -> set[str]:
        """Return which options of a group of parameters are not taken from a checkpoint."""
        scheduled = self._scheduled(group)
        kept = group.keys() & {"param_names", *HOW}
        if "optimizer" in changed:
            kept |= group.keys() - scheduled - _OF_PARAMETERS
        if "scheduler" in changed or ("optimizer" in changed and self._scheduler is None):
            kept |= scheduled
        return kept

    def _scheduled(self, group: Mapping[str, Any]) -> set[str]:
        """Return the options of a group that a schedule sets: the learning rate, and those it has added."""
        return group.keys() & {"lr"} | group.keys() - defaults_of(self._optimizer).keys() - _OF_PARAMETERS

    def names(self) -> list[list[str]]:
        """Return the names of the optimizer's parameters, group by group; places in the group of those without."""
        groups = [group["params"] for group in self._optimizer.param_groups]
        return [[self._names.get(id(each), f"({place})") for place, each in enumerate(group)] for group in groups]

    def trained_in(self, module: object) -> dict[str, nn.Parameter]:
        """Return the parameters of a module that the optimizer trains, by name."""
        trained = {id(parameter) for parameter in self._parameters()}
        named = module.named_parameters(remove_duplicate=False) if isinstance(module, nn.Module) else ()
        return {name: parameter for name, parameter in named if id(parameter) in trained}

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]


def other_names(theirs: Sequence[Sequence[str]], ours: Sequence[Sequence[str]]) -> str:
    """Return where the names of parameters in groups first differ; nothing if they do not."""
    for group, names in enumerate(zip(theirs, ours, strict=False)):
        for one, other in zip_longest(*names, fillvalue="none"):
            if one != other:
                return f"group {group}: {one} there, {other} here"
    return "" if len(theirs) == len(ours) else f"{len(theirs)} groups there, {len(ours)} here"


def _sizes(groups: Iterable[Mapping[str, Any]]) -> list[int]:
    return [len(group["params"]) for group in groups]


def _average_in(state: Mapping[str, Any], decay: float) -> Mapping[str, Any]:
    """Return the state of the average of a decay; the main one's if there is none of that decay."""
    decays, main = state["config"]["ema_decay"], {"model": state["ema"], **state["average"]}
    first = decays[0] if isinstance(decays, (tuple, list)) else decays
    found: Mapping[str, Any] = main if decay == first else main.get("others", {}).get(decay, main)
    return found


def _check_optimizer(optimizer: object, model: nn.Module, also: Iterable[Tensor]) -> None:
    if not isinstance(optimizer, Optimizer):
        mend = "pass e.g. torch.optim.AdamW(model.parameters(), lr=2e-4)"
        if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
            mend = f"pass {optimizer.__name__}(model.parameters(), lr=...)"
        got = repr(optimizer) if isinstance(optimizer, str) else kind_of(optimizer)
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {got}; {mend}")
    if _requires_argument(optimizer):
        raise TypeError(
            f"optimizer {type(optimizer).__name__} requires a closure in every step, which this trainer does not pass; "
            "use sp.DiffusionLoss in a loop of your own"
        )
    if any(base.__name__ == "ZeroRedundancyOptimizer" for base in type(optimizer).__mro__):
        raise TypeError(
            "optimizer ZeroRedundancyOptimizer holds its state in parts, which checkpoints do not put together; pass "
            "one of torch.optim, or use sp.DiffusionLoss in a loop of your own"
        )
    known = {id(parameter) for parameter in (*model.parameters(), *also)}
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not any(id(each) in known for each in trained):
        raise ValueError(
            f"optimizer {type(optimizer).__name__} has no parameter of the model; make it of model.parameters()"
        )
    if foreign := sum(each.requires_grad and id(each) not in known for each in trained):
        raise ValueError(
            f"optimizer {type(optimizer).__name__} trains {foreign} parameter{'s' if foreign > 1 else ''} of neither "
            "the model nor the corruption as modules, which checkpoints would lack; register them in the model, as a "
            "submodule, or make the corruption a DiagonalCorruption"
        )


def _requires_argument(stepper: Any) -> bool:
    """Whether `stepper.step()` cannot be called without an argument."""
    step = inspect.unwrap(type(stepper).step)  # without the profiling hook of torch
    own = list(inspect.signature(step).parameters.values())[1:]
    return any(each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in own)
