"""Networks whose features are compared: Inception, or a network from a file."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .images import to_unit
from .ranks import Ranks

# The network of Heusel et al. 2017, as pytorch-fid converted it from TensorFlow and torch-fidelity uses it.
WEIGHTS = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_FULL = 50_000  # samples of an FID that may be called so


class Network(NamedTuple):
    """A feature network: uint8 (B, H, W, C) → float (B, D).

    `standard` is True for the network that defines FID.
    """

    features: Callable[[np.ndarray], Tensor]
    provenance: dict[str, Any]
    standard: bool

    @property
    def name(self) -> str:
        """Its name in a table."""
        return self.provenance["name"]


def load_network(name: str, weights: Path | None, process: Ranks) -> Network:
    """Return Inception, or a network from a file.

    Args:
        name: "inception"; or a torch.export file (.pt2) or TorchScript file (.pt), which maps floats in [-1, 1],
            (B, 3, H, W), to (B, D) for any B. Both kinds can run code: pass only what you trust.
        weights: File of the weights of Inception; None downloads them.
        process: This process; the first one downloads.

    Raises:
        ValueError: not such a file, no torch-fidelity, no weights, or weights that hold more than tensors.
    """
    if process.device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # costs digits
    versions = {package: version(package) for package in ("torch", "numpy", "pillow")}
    if name == "inception":
        data, network = _inception(weights, process)
        versions["torch-fidelity"] = version("torch-fidelity")
    else:
        data, network = _from_file(Path(name), process.device)
    digest = hashlib.sha256(data).hexdigest()
    standard = name == "inception" and digest == WEIGHTS_SHA256
    shown = "inception" if standard else (weights or Path(name)).name

    def features(images: np.ndarray) -> Tensor:
        # Inception scales by itself.
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() if name == "inception" else to_unit(images)
        try:
            with torch.no_grad():
                rows = network(x.to(process.device))
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise ValueError(f"{shown} fails on a batch of shape {tuple(x.shape)} ({error})") from error
        rows = rows[0] if isinstance(rows, tuple) else rows
        if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != len(x):
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f"{shown} must map (B, 3, H, W) to (B, D), got {got} from {tuple(x.shape)}")
        if not rows.isfinite().all():
            raise ValueError(f"{shown} gives features that are not finite")
        return rows.float()

    return Network(features, {"name": shown, "sha256": digest, "versions": versions}, standard)


def frechet_label(network: Network, count: int) -> str:
    """Return the label of a Fréchet distance: "FID" is for the original Inception and 50,000 samples."""
    if not network.standard:
        return f"Fréchet distance ({network.name})"
    if count == _FULL:
        return "FID"
    return f"FID-{count // 1000}k" if count % 1000 == 0 else f"FID-{count}"


def _inception(weights: Path | None, process: Ranks) -> tuple[bytes, Callable[[Tensor], Any]]:
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError where it does not fit torch
        raise ValueError(
            f"inception needs torch-fidelity, which needs a torchvision made for your torch ({error}); "
            "pip install torch-fidelity, or choose another network with --features FILE"
        ) from error
    path = weights or _download(process)
    data = path.read_bytes()
    if weights is None and hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"{path} is not what {WEIGHTS} holds; delete it, and it is downloaded again")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds; each means that this is not plain weights
        raise ValueError(f"{path} does not hold plain weights ({type(error).__name__}); not loaded") from error
    plain = io.BytesIO()  # torch-fidelity runs what a pickle holds: it gets only what was checked
    torch.save(state, plain)
    plain.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], plain)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} does not hold the weights of Inception ({error})") from error
    return data, network.eval().to(process.device)


def _download(process: Ranks) -> Path:
    """Return where torch.hub keeps Inception's weights, after the first process has put them there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS.rsplit("/", 1)[1]
    if process.first and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(WEIGHTS, str(path), WEIGHTS_SHA256)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"could not download {WEIGHTS} ({error}); pass a local file with --weights") from error
    if dist.is_initialized():
        dist.barrier()
    return path


def _from_file(path: Path, device: torch.device) -> tuple[bytes, Callable[[Tensor], Any]]:
    if not path.is_file() or path.suffix not in (".pt", ".pt2"):
        raise ValueError(
            f"features must be inception, a .pt2 file (torch.export) or a .pt file (TorchScript), got {path}"
        )
    data = path.read_bytes()
    try:
        if path.suffix == ".pt":
            return data, torch.jit.load(io.BytesIO(data), map_location=device).eval()
        program = torch.export.load(io.BytesIO(data))
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return data, program.module()
    except (RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        kind = "TorchScript" if path.suffix == ".pt" else "torch.export"
        raise ValueError(f"{path} is not a readable {kind} file ({error})") from error
