"""Saving a sampler to a folder, and loading it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor
from typing_extensions import Self

from ._base import SamplerBase
from ._pretrained import describe, load_model, options_of, read, write


class SavedSampler(SamplerBase):
    """A sampler that can be saved and loaded; see `Sampler`."""

    def save_pretrained(self, folder: str | os.PathLike[str], *, model: bool = True) -> None:
        """Write this sampler to a folder, for `from_pretrained` on any machine.

        `sampler.json` describes it; `arrays.npz` has the spectrum, the corruption's tables and the times, without
        pickle. The model writes itself to `model/` if it has `save_pretrained`, else its state dict is written, as
        safetensors where installed. Files that are there are replaced.

        Args:
            folder: The folder, made if missing.
            model: Whether to write the model too; without it, `from_pretrained` takes any.

        Raises:
            TypeError: a model that is neither a module nor has `save_pretrained`, or a corruption made of functions.
            ValueError: a corruption or basis that is not registered, or a solver that is not the library's.
            OSError: a file could not be written.
        """
        description = describe(
            self.corruption,
            prediction=self.prediction,
            spectrum=self.spectrum,
            solver=self.solver,
            times=self.times,
            guidance=self._guidance,
        )
        write(folder, description, self.model if model else None)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], model: Callable[..., Tensor] | type | None = None, **options: Any
    ) -> Self:
        """Return the sampler in a folder that `save_pretrained` wrote. Runs no code that is in it.

        Args:
            folder: The folder.
            model: A module, made as for training, which takes the saved weights; the class of a model that was saved by
                its own `save_pretrained`; or any model where none was saved. None requires a registered class
                (`sampling.register_model`; the wrappers in `shortest_path.integrations` are, once imported).
            **options: Arguments of `Sampler` to replace saved ones, e.g. `steps=10`.

        Returns:
            A sampler whose samples are the same to the last bit, with the model on the CPU and in eval mode.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: `model` is of another kind, or an option that `Sampler` does not have.
            ValueError: a damaged file, a later version, a class that is not registered, or weights that do not fit.

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
        description = read(folder)
        corruption, chosen = options_of(description, options)
        return cls(load_model(folder, description["model"], model), corruption, **chosen)
