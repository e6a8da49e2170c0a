"""Records of calls as JSON files, with the card, its driver, and the commands."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import shortest_path as sp
from examples.recipe.files import replacing


class Record:
    """A JSON file, written whole after every change.

    Args:
        path: The file; it continues if it exists.
        fixed: Values that must be the same in every call.

    Raises:
        ValueError: the file is of a call with other fixed values.
    """

    def __init__(self, path: Path, fixed: dict[str, Any]) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"fixed": fixed}
        plain = json.loads(json.dumps(fixed))
        if names := [name for name in plain if self.values["fixed"].get(name) != plain[name]]:
            raise ValueError(f"{path} is of other work (its {', '.join(names)} differ); pass another --out")

    def begin(self, device: torch.device, argv: Sequence[str]) -> None:
        """Note the machine and the command."""
        self.values["machine"] = machine(device)
        command = " ".join(["python -m studies.gpu", *argv])
        calls = self.values.setdefault("calls", [])
        calls.append({"command": command, "date": date.today().isoformat()})
        self.write()

    def write(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.write((json.dumps(self.values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def machine(device: torch.device) -> dict[str, Any]:
    """Return the card's name, memory and driver, or the processor's name, and the versions."""
    found: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "shortest_path": sp.__version__,
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "device": card.name,
            "memory_gib": round(card.total_memory / 2**30, 1),
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": driver(),
        }
    return found


def driver() -> str:
    """Return the version of the card's driver, "unknown" without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.splitlines()[0].strip() if result.returncode == 0 and result.stdout else "unknown"


def show(text: str) -> None:
    """Print a line of progress at once."""
    print(text, flush=True)
