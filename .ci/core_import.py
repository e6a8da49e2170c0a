"""Checks an installed wheel with the core dependencies alone: files, README, warnings, namespaces, time of the import.

The argument is the limit in seconds on top of `import torch`, 0.3 by default.
"""

import importlib.util
import subprocess
import sys
from importlib import import_module
from importlib.metadata import files, metadata, requires
from pathlib import Path

from pypi_readme import relative_links

NAMESPACES = [
    "bases",
    "corruptions",
    "edits",
    "geometry",
    "grids",
    "models",
    "prediction",
    "sampling",
    "solvers",
    "spectra",
    "training",
]
CORE = ["einops", "numpy", "torch", "typing-extensions"]

limit = float(sys.argv[1]) if len(sys.argv) > 1 else 0.3

needed = sorted(line.split(">")[0] for line in requires("shortest-path") or [] if "extra ==" not in line)
if needed != CORE:
    sys.exit(f"core dependencies must be {CORE}, got {needed}")

installed = [path.as_posix() for path in files("shortest-path") or []]
if strangers := [path for path in installed if not path.startswith(("shortest_path/", "shortest_path-"))]:
    sys.exit(f"the wheel must install shortest_path alone, got {strangers}")
if "shortest_path/py.typed" not in installed:
    sys.exit("the wheel lacks shortest_path/py.typed")

about = metadata("shortest-path")
description = about.get("Description") or about.get_payload()
if found := relative_links(str(description)):
    sys.exit(f"the description that PyPI shows has relative links: {found}")
if "# shortest_path" not in str(description):
    sys.exit("the distribution has no README")

# Each by itself: what another namespace has imported would hide what is missing.
own = Path(str(importlib.util.find_spec("shortest_path").origin)).parent
public = [path.stem for path in own.iterdir() if not path.name.startswith("_") and path.suffix in ("", ".py")]
optional = {"plots", "integrations"}
if not {*NAMESPACES, *optional} - {"edits"} <= set(public):
    sys.exit(f"expected the namespaces {NAMESPACES}, got {sorted(public)}")
for name in ["shortest_path", *(f"shortest_path.{each}" for each in sorted(set(public) - optional))]:
    if subprocess.run([sys.executable, "-W", "error", "-c", f"import {name}"]).returncode:
        sys.exit(f"import {name} warns or fails")

# The fastest of some processes, in processor time, as other programs can only add to it; and without the collection of
# torch's own objects, as long as the rest of the import, that any program has whenever it has made enough objects.
program = """
import gc, time, torch
gc.collect()
start = time.process_time()
import shortest_path
print(time.process_time() - start)
"""
seconds = min(float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(5))
print(f"import shortest_path: {seconds:.3f} s on top of import torch (limit {limit} s)")
if seconds > limit:
    sys.exit("the import is too slow")

library = import_module("shortest_path")
for name in NAMESPACES:
    if not hasattr(library, name):
        sys.exit(f"shortest_path.{name} is missing")
if missing := [name for name in library.__all__ if not hasattr(library, name)]:
    sys.exit(f"__all__ names {missing}, which do not exist")
print(f"{len(NAMESPACES)} namespaces and {len(library.__all__)} names with {', '.join(CORE)} alone")
