"""The FID of samples at the evaluations of a training."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from .cifar10 import Pictures
from .comparison import storage
from .features import Network, frechet_label
from .images import to_uint8
from .metrics import frechet_distance
from .ranks import Ranks
from .summaries import summarise, summary_of_reference

_BATCH = 100  # images of 299×299


class FID:
    """Measures samples against a reference, whose statistics are computed once and kept in a folder.

    Args:
        network: The feature network.
        reference: Real images.
        count: Number of samples.
        folder: Folder of the statistics.
        process: This process; all of them must make and call the object.

    Raises:
        ValueError: fewer samples than processes, or images that do not fit the network.
    """

    def __init__(self, network: Network, reference: Pictures, count: int, folder: Path, process: Ranks) -> None:
        if count < process.world:
            raise ValueError(f"{process.world} processes require as many samples for the FID, got evaluate_fid={count}")
        self.count, self._network, self._process = count, network, process
        split, source = (reference.provenance[name] for name in ("split", "source"))
        # An example: "FID-1k (train, lossless)".
        self.name = f"{frechet_label(network, count)} ({source if split == 'file' else split}, {storage(reference)})"
        self._known, _ = summary_of_reference(network, reference, process, folder, _BATCH)

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Return the distance of the first `count` samples in [-1, 1], (N, C, H, W), by name, in the first process."""
        images = to_uint8(samples[: self.count])
        found = summarise(self._network, images, self._process, _BATCH, "samples")
        if not self._process.first:
            return {}
        return {self.name: frechet_distance(*self._known[1:3], *found[1:3])}
