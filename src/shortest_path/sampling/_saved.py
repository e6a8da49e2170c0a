"""Saving a sampler to a folder, and loading it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Self

from .._checks import check_flag
from .._files import SAMPLER_FILE, check_entries, checked_path
from .._folders import reading
from ._base import SamplerBase
from ._pretrained import OWN_TIMES, describe_sampler, has_own_times, options_of, read, write
from ._saved_models import OnlyWeights, load_model, model_with_weights


class SavedSampler(SamplerBase):
    """A sampler that can be saved and loaded; see `Sampler`."""

    def save_pretrained(self, folder: str | os.PathLike[str], *, model: bool = True) -> None:
        """Write this sampler to a folder, for `from_pretrained` on any machine.

        `sampler.json` describes it; `arrays.npz` has the spectrum, the corruption's tables and the times, without
        pickle. The model writes itself to `model/` if it has `save_pretrained`, and `from_pretrained` or
        `load_pretrained`; else its state dict is written, as safetensors where these are installed and have its types.
        Files of a former save are replaced together when all are written, and those that
        are not written again are removed; other files stay. After an error the former save is as it was, and after an
        end of the process it is what is loaded.

        Args:
            folder: The folder, made if missing; "~" is expanded.
            model: Whether to write the model too; without it, `from_pretrained` takes any.

        Raises:
            TypeError: a model that is neither a module nor writes itself, or whose state dict holds more than tensors;
                a corruption made of functions; `folder` is not a path; or `model` not True or False.
            ValueError: a corruption or basis that is not registered, or could not be loaded again, e.g. because a table
                has NaN; weights that are sparse, quantized, or without values; a number that is not finite; a solver
                that is not the library's; or `folder` is empty.
            OSError: a file could not be written, or a folder of yours is where a file goes, or the reverse.

        Warns:
            RuntimeWarning: the former save does not list its files, or the system could not flush the folder.
        """
        check_flag("model", model)
        description = describe_sampler(
            self.corruption,
            prediction=self.prediction,
            spectrum=self.spectrum,
            solver=self.solver,
            times=self.times,
            guidance=self._guidance,
        )
        write(folder, {**description, OWN_TIMES: self._has_own_times}, self.model if model else None)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], model: Callable[..., Tensor] | type | None = None, **options: Any
    ) -> Self:
        """Return the sampler in a folder that `save_pretrained` wrote. Runs no code that is in it.

        Every file but texts (.json, .md) is first compared with its checksum in `sampler.json`, which takes about 1.5
        seconds a GB. A file that you replaced is loaded if its entry in `"files"` there is null; a new save lists it.

        Args:
            folder: The folder.
            model: A module, made as for training, which takes the saved weights; where a wrapper of this library was
                saved, e.g. `models.WhitenedInput`, also the network in it; the class of a model that was saved by its
                own `save_pretrained`; or any model where none was saved. None requires a registered class
                (`sampling.register_model`; the wrappers in `shortest_path.integrations` are, once imported).
            **options: Arguments of `Sampler` to replace saved ones, e.g. `steps=10`. Any of `steps`, `grid` or `start`
                replaces the saved times with a grid that ends at 0, even if the saved times end earlier. `solver` also
                does, unless these were chosen with `times`. `guidance_scale=None` drops the saved guidance.

        Returns:
            A sampler whose samples are the same to the last bit, with the model in eval mode: the module that was
            passed, or a new one on the CPU with weights of the saved types. Where parameters of the saved model did not
            require gradients, as those of a trainer's average, the bits may differ until
            `sampler.model.requires_grad_(False)`.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: `model` is of another kind, or an option that `Sampler` does not have.
            ValueError: a file that is damaged or of another save, a later version, a class that is not registered,
                weights that do not fit, or a module on the meta device; a module that was passed is then unchanged.

        Warns:
            RuntimeWarning: a later save was interrupted or is under way; or weights lose precision in the types of the
                module that was passed, or in those that its class makes.

        Example:
            >>> import tempfile, torch, shortest_path as sp
            >>> class Model(torch.nn.Module):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.scale = torch.nn.Parameter(torch.ones(()))
            ...     def forward(self, x_t, t):
            ...         return self.scale * x_t
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     sp.Sampler(Model(), sp.GaussianCorruption("flow"), steps=4).save_pretrained(folder)
            ...     sp.Sampler.from_pretrained(folder, Model(), steps=3).steps
            3
        """
        with reading(checked_path("folder", folder, "'.' for the present folder"), SAMPLER_FILE) as saved:
            description, file = read(saved), saved / SAMPLER_FILE
            check_entries(file, description, model="an object or null")
            corruption, chosen = options_of(description, options, file)
            cls(OnlyWeights("model"), corruption, **chosen)  # raises for wrong options before a model is changed
            loaded = load_model(saved, description["model"], model)
        sampler = cls(loaded, corruption, **chosen)
        if "times" not in options:
            sampler._has_own_times = sampler._has_own_times and has_own_times(description)
        return sampler

    @classmethod
    def from_description(
        cls,
        description: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        model: Callable[..., Tensor] | None = None,
        **options: Any,
    ) -> Self:
        """Return the sampler of a description, as the checkpoints of `DiffusionTrainer` hold under `"sampler"`.

        Args:
            description: The description.
            weights: State dict of the model, e.g. `"ema"` of a checkpoint.
            model: A module, made as for training, which takes the weights; where a wrapper of this library was
                described, also the network in it. None makes the model if its class is registered and tells how it is
                made; otherwise the sampler can be saved, and not used.
            **options: Arguments of `Sampler`, e.g. `steps=20`. With `guidance_scale`, the null conditioning is that of
                the training.

        Raises:
            TypeError: `model` is no module, or an option that `Sampler` does not have.
            ValueError: not a description, or one of a later version; another corruption or basis than those that are
                registered; or weights that do not fit.
        """
        corruption, chosen = options_of(description, options)
        check_entries("the description", description, model="an object")
        if options.get("guidance_scale") is not None and description.get("null_conditioning"):
            chosen.setdefault("null_conditioning", description["null_conditioning"])
        return cls(model_with_weights(description["model"], weights, model), corruption, **chosen)
