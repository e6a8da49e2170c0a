"""The page "Try it": its mathematics is the library's, and what it shows is made by the Python that it shows.

In a browser if there is one, with the page itself; else the mathematics alone, with node.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import shortest_path as sp
from docs import leaves
from examples.recipe.dead_leaves import dead_leaves
from studies.few_step.mixture import Mixture

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs/javascripts/play"
MATHEMATICS = ["leaves", "math", "paths", "sampling", "plots"]
N = 8  # the page at this size, as all coefficients are compared
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NODE = shutil.which("node")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=60000",
    "--dump-dom",
]
KINDS = ["gaussian", "blur", "path", "tint"]
FRAMES = ["measured", "turned"]


@functools.cache
def painted() -> np.ndarray:
    return dead_leaves(3, N)


def given() -> Tensor:
    return torch.from_numpy(painted()).permute(0, 3, 1, 2).double() / 127.5 - 1


def small_leaves() -> str:
    """Return a script with the given images at the tests' size."""
    texts = [base64.b64encode(image.tobytes()).decode() for image in painted()]
    return f"Play.leaves[{N}] = {json.dumps(texts)};"


def script(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return f"<script>{text}{small_leaves() if path.stem == 'leaves' else ''}</script>"


def in_browser(folder: Path) -> dict[str, Any]:
    """Return what play_page.js reports of the page, at 8×8 and without the site's theme."""
    markdown = pytest.importorskip("markdown", reason='needs mkdocs: pip install -e ".[docs]"')
    text = (ROOT / "docs/play.md").read_text(encoding="utf-8").replace('data-size="64"', f'data-size="{N}"')
    body = markdown.markdown(text, extensions=["md_in_html", "tables", "attr_list"])
    # Scripts within the page, as the errors of files are kept from it.
    body = re.sub(r'<script src="(.+?)"></script>', lambda found: script(ROOT / "docs" / found[1]), body)
    driver = [Path(__file__).parent / name for name in ("play_numbers.js", "play_page.js")]
    page = folder / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{body}{''.join(map(script, driver))}", encoding="utf-8")
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    found = re.search(r'id="report">(.*?)</script>', ran.stdout, re.DOTALL)
    assert found, ran.stdout[-500:] + ran.stderr[-2000:]
    report: dict[str, Any] = json.loads(found[1])
    assert report["errors"] == []
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if BROWSER is not None:
        return in_browser(tmp_path_factory.mktemp("play"))
    if NODE is None:
        pytest.skip("needs a browser (apt-get install chromium) or node")
    files = [*(SCRIPTS / f"{name}.js" for name in MATHEMATICS), Path(__file__).parent / "play_numbers.js"]
    program = "\n".join([*(path.read_text(encoding="utf-8") for path in files), small_leaves()])
    program += f"\nconsole.log(JSON.stringify(playNumbers({N})));"
    ran = subprocess.run([NODE, "-"], input=program, capture_output=True, text=True, check=True, timeout=240)
    return {"numbers": json.loads(ran.stdout)}


@pytest.fixture(scope="module")
def numbers(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = report["numbers"]
    return found


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> dict[str, Any]:
    if "given" not in report:
        pytest.skip("needs a browser: apt-get install chromium")
    return report


def same(ours: Any, theirs: Tensor | float, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    theirs = torch.as_tensor(theirs, dtype=torch.float64)
    ours = torch.tensor(ours, dtype=torch.float64).reshape(theirs.shape)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def spectrum() -> sp.PowerSpectrum:
    return sp.PowerSpectrum.estimate([given()[2:]], center=False).smoothed()


def corruption(kind: str, frame: str, turned: list[float]) -> sp.Corruption:
    told = spectrum()
    if frame == "turned":
        matrix = torch.tensor(turned, dtype=torch.float64).view(3, 3)
        mixed = (matrix @ told.basis.channel_rotation.T) ** 2  # type: ignore[union-attr]
        told = sp.PowerSpectrum(sp.CosineBasis(2, matrix), torch.einsum("ij,jkl->ikl", mixed, told.power))
    if kind == "path":
        return sp.ShortestPathCorruption(told)
    if kind == "blur":
        return sp.BlurCorruption(spatial=(N, N))
    return sp.GaussianCorruption("cosine", noise=told.tempered(0.3) if kind == "tint" else None)


# Mathematics ----------------------------------------------------------------------------------------------------------


def test_the_transform_and_the_spectra_are_the_librarys(numbers: dict[str, Any]) -> None:
    images, data = given(), spectrum()
    same(numbers["transform"], sp.CosineBasis().analyze(images[1]))
    same(numbers["inverse"], images[1])
    same(numbers["rotation"], data.basis.channel_rotation)  # type: ignore[arg-type]
    same(numbers["power"], data.power)
    same(numbers["rings"], data.radial_average()[1])
    same(numbers["several"], sp.PowerSpectrum.estimate([images], center=False).power)
    law = sp.PowerSpectrum.power_law((3, N, N), amplitude=1.0, offset=0.5, exponent=1.7, basis=sp.CosineBasis())
    total, of_law = (each.power.mean((1, 2), keepdim=True) for each in (data, law))
    same(numbers["law"], law.power * total / of_law)


def test_a_part_of_a_rotation_is_a_power_of_it(numbers: dict[str, Any]) -> None:
    part = torch.tensor(numbers["turned"], dtype=torch.float64).view(3, 3)
    rotation = torch.tensor(numbers["rotation"], dtype=torch.float64).view(3, 3)
    fifth = torch.linalg.matrix_power(part, 5)  # 0.4 of a rotation, five times, is the rotation twice
    torch.testing.assert_close(fifth, rotation @ rotation)
    half = torch.tensor(numbers["half"], dtype=torch.float64).view(3, 3)
    torch.testing.assert_close(half @ half, torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64).diag())


def test_the_noise_is_normal(numbers: dict[str, Any]) -> None:
    noise = torch.tensor(numbers["noise"], dtype=torch.float64)
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert (noise**power).mean() == pytest.approx(moment, abs=0.15)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_scales_lengths_and_divergences_are_the_librarys(kind: str, frame: str, numbers: dict[str, Any]) -> None:
    found, data = numbers["paths"][f"{kind} {frame}"], spectrum()
    process = corruption(kind, frame, numbers["turned"])
    for t, signal, noise in found["scales"]:
        pair = sp.corruptions.scales(process, torch.tensor([t], dtype=torch.float64), (1, 3, N, N))
        for ours, theirs in zip((signal, noise), pair, strict=True):
            same(ours, theirs.expand(1, 3, N, N))
    assert found["length"] == pytest.approx(sp.path_length(process, data, rtol=1e-3), rel=1e-4)
    if kind != "blur" and frame == "measured":
        end = data.tempered(0.3).power if kind == "tint" else 1.0
        assert found["geodesic"] == pytest.approx(sp.fisher_distance(data.power, end))
    even = sp.grids.Fisher(process, data)(50)
    same(found["even"], even[::5])
    same(found["fractions"], torch.linspace(1, 0, 11, dtype=torch.float64), atol=1e-5)
    divergences = [
        sp.gaussian_kl(process, data, **options)
        for options in ({"steps": 10}, {"times": even[::5]}, {"steps": 50}, {"times": even})
    ]
    same(found["kl"], torch.tensor(divergences), rtol=1e-6)


@pytest.mark.parametrize("name", ["gaussian ddim", "gaussian multistep", "gaussian told", "path told"])
def test_samples_of_the_mixture_are_the_librarys(name: str, numbers: dict[str, Any]) -> None:
    images = given()
    data = sp.PowerSpectrum.estimate([images], center=False).smoothed()
    process = sp.GaussianCorruption("cosine") if name.startswith("gaussian") else sp.ShortestPathCorruption(data)
    options: dict[str, Any] = {"gaussian ddim": {"solver": "ddim"}, "gaussian told": {"spectrum": data}}.get(name, {})
    model = Mixture(images, data, residual=0.1).model(process)
    sampler = sp.Sampler(model, process, prediction="data", steps=7, **options)
    white = torch.tensor(numbers["white"], dtype=torch.float64).view(1, 3, N, N)
    same(numbers["samples"][name], sampler.sample(white.shape, x_1=white, dtype=torch.float64), rtol=0, atol=1e-6)


# The page -------------------------------------------------------------------------------------------------------------


def run(code: str) -> tuple[dict[str, Any], str]:
    names: dict[str, Any] = {"__name__": "play"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "play.html", "exec"), names)
    return names, printed.getvalue()


def check_table(shown: dict[str, Any], printed: str) -> None:
    """Compare length, KL of equal time and KL of equal length with a table of geometry.compare."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    for (_, length, uniform, even), (_, both, _, _, kl, kl_even) in zip(shown["rows"], lines[2:], strict=True):
        path, distance = map(float, both.split(" / "))
        assert float(length.replace("no length", "1")) == pytest.approx(path / distance if distance else 1, rel=1e-3)
        for ours, theirs in ((uniform, kl), (even, kl_even)):
            assert ours == theirs or float(ours) == pytest.approx(float(theirs), rel=6e-3)


def pixels(text: str) -> np.ndarray:
    return np.array(text.split(","), dtype=int).reshape(N, N, 4)[..., :3]


def test_a_given_image_is_shown_by_the_python_of_the_page(page: dict[str, Any]) -> None:
    assert (pixels(page["given"]["images"][0]) == painted()[2]).all()
    names, _ = run(page["given"]["code"].rpartition("print(")[0])  # the table follows in the next test
    assert page["given"]["times"] == [f"t = {t:.3f}" for t in names["times"].values()]
    assert page["given"]["ways"][2] == "40 % of its length"  # the shortest path, at the same time
    for state in ("given", "start"):
        process, image = names["corruptions"]["Gaussian"], names["image"]
        clean = pixels(page[state]["images"][1]).astype(float)
        nearest = np.abs(clean - (to_numpy(process.corrupt(image, 0.0, image)))).max()
        assert (nearest < 2) == (state == "start")


def to_numpy(x: Tensor) -> np.ndarray:
    return ((x[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).numpy()


def test_an_own_image_a_law_and_turned_channels(
    page: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = pixels(page["own"]["images"][0])
    assert (shown == painted()[1]).all()  # through a file, unchanged
    Image.fromarray(shown.astype(np.uint8)).save("image.png")
    along = "35 % of its length"
    for state, ways in (("own", [along] * 3), ("equal", [along, "", along])):
        names, printed = run(page[state]["code"])
        assert [t.removeprefix("t = ") for t in page[state]["times"]] == [f"{t:.3f}" for t in names["times"].values()]
        assert page[state]["ways"] == ways
        check_table(page[state], printed)
        assert all(bool(x.isfinite().all()) for x in names["corrupted"].values())
    assert page["equal"]["rows"][1][1:] == ["no length", page["equal"]["rows"][1][2], "—"]


@pytest.mark.parametrize("state", ["raced", "unread", "plain"])
def test_the_image_the_choice_and_the_python_agree(page: dict[str, Any], state: str) -> None:
    """The third image is chosen while a file is decoded; then come a file that is no image, and one of one colour."""
    found = page[state]
    assert found["source"] == "2", found.get("message")
    assert (pixels(found["images"][0]) == painted()[2]).all()
    assert f"dead_leaves(3, size={N})[2]" in found["code"]
    messages = {"unread": "junk.png is not an image that this browser reads.", "plain": "This image is of one colour"}
    assert found.get("message", "").startswith(messages.get(state, ""))


def test_the_python_of_the_samples_runs(page: dict[str, Any]) -> None:
    names, _ = run(page["samples"])
    assert {tuple(each.shape) for each in names["samples"].values()} == {(6, 3, 16, 16)}
    assert {len(each.times) - 1 for each in names["samplers"].values()} == {10}


def test_every_control_and_every_image_has_a_text(page: dict[str, Any]) -> None:
    assert page["unnamed"] == []
    assert [text for text in page["own"]["labels"] if not text or len(text.split()) < 3] == []


# Files ----------------------------------------------------------------------------------------------------------------


def test_the_given_images_are_those_of_the_recipe() -> None:
    text = leaves.OUT.read_text(encoding="utf-8")
    lines = re.findall(r'^    "(.+)",$', text, re.MULTILINE)
    found = [np.frombuffer(base64.b64decode(line), np.uint8) for line in lines]
    assert [len(each) for each in found] == [3 * 64**2] * 3 + [3 * 16**2] * 12
    difference = np.stack(found[3:]).astype(int) - dead_leaves(12, 16).reshape(12, -1)
    assert np.abs(difference).max() <= 1  # rounding may differ between machines


def test_nothing_leaves_the_page() -> None:
    for path in SCRIPTS.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"fetch\(|XMLHttp|sendBeacon|WebSocket|EventSource|import\(|https?://", text), path.name
        assert len(text.splitlines()) <= 300, path.name
    for name in ("math", "paths", "sampling", "python"):
        assert not re.search(r"\b(document|window)\.\w", (SCRIPTS / f"{name}.js").read_text(encoding="utf-8")), name
