"""What `recipe.images` and `recipe.cifar10` read, from good files and from bad ones, and the batches made of it."""

from __future__ import annotations

import itertools
import os
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from examples.recipe import cifar10
from examples.recipe.images import Batches, load_images, read_images, to_grey, to_uint8, to_unit
from studies.faults.mutations import mutations, resealed
from tests.examples.image_files import DEEP, FILES, LEAF, LEAVES, encoded, frames, table, write

GREY, ALPHA = LEAF[..., 0], np.linspace(0, 255, 192).round().astype(np.uint8).reshape(16, 12)


def test_every_kind_of_data_gives_the_same_images(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=table(LEAVES), b_parquet=table(LEAVES, column="image"))
    write(tmp_path / "folder")
    for index, image in enumerate(LEAVES):
        write(tmp_path / "folder" / f"part{index // 4}", **{f"{index:03d}_png": encoded(image)})
    np.save(tmp_path / "a.npy", LEAVES)
    np.savez(tmp_path / "a.npz", images=LEAVES)
    for name in ("a.parquet", "b.parquet", "folder", "a.npy", "a.npz"):
        np.testing.assert_array_equal(load_images(tmp_path / name), LEAVES, err_msg=name)
    wide = np.zeros((1, 16, 48), dtype=np.uint8)
    wide[..., 16:32] = 200  # the central square
    np.save(tmp_path / "grey.npy", wide)
    np.testing.assert_array_equal(load_images(tmp_path / "grey.npy"), wide[..., None])
    np.testing.assert_array_equal(load_images(tmp_path / "grey.npy", size=8), np.full((1, 8, 8, 1), 200))


CONVERSIONS: dict[str, tuple[Callable[[], bytes], Callable[[], np.ndarray]]] = {
    "grey": (lambda: encoded(GREY), lambda: GREY[..., None]),
    "RGBA": (lambda: encoded(np.dstack([LEAF, ALPHA])), lambda: 255 - (255.0 - LEAF) * ALPHA[..., None] / 255),
    "transparent colour": (
        lambda: encoded(LEAF, transparency=tuple(LEAF[3, 4].tolist())),
        lambda: np.where((LEAF[3, 4] == LEAF).all(-1, keepdims=True), 255, LEAF),
    ),
    "16 bits": (lambda: encoded(DEEP, "TIFF"), lambda: (DEEP / 65535 * 255).round()[..., None]),
    "CMYK": (lambda: encoded(Image.fromarray(np.dstack([255 - LEAF, 0 * GREY]), "CMYK"), "TIFF"), lambda: LEAF),
}


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_images_become_what_is_seen(tmp_path: Path, kind: str) -> None:
    data, expected = (make() for make in CONVERSIONS[kind])
    pq.write_table(pa.table({"image": [data]}), tmp_path / "a.parquet")
    (found,) = load_images(tmp_path / "a.parquet")
    assert np.abs(found - expected).max() <= (1 if kind == "RGBA" else 0)


def test_images_are_rotated_by_their_exif_data(tmp_path: Path) -> None:
    """EXIF 2.32, tag 0x0112: where row 0 and column 0 of what is stored belong."""
    turned = LEAF[::-1, ::-1]
    stored = [LEAF, LEAF[:, ::-1], turned, LEAF[::-1], LEAF.swapaxes(0, 1), np.rot90(LEAF), turned.swapaxes(0, 1)]
    for orientation, image in enumerate([*stored, np.rot90(LEAF, -1)], 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        write(tmp_path, **{f"{orientation}_png": encoded(np.ascontiguousarray(image), exif=exif)})
    for image in load_images(tmp_path):
        np.testing.assert_array_equal(image, LEAF)


FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"is not a readable image \(empty\)"),
    "other kind": (lambda: encoded(LEAF, "PPM"), r"is not a readable image \(not one of PNG, JPEG,"),
    "cut": (lambda: encoded(LEAF, "JPEG")[:-30], r"is not a readable image \(image file is truncated"),
    "frames": (lambda: frames("GIF"), "holds more than one image; save each in a file of its own"),
    "floats": (lambda: encoded(GREY / np.float32(255), "TIFF"), "holds numbers whose black and white are not known"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_bad_images_are_named_or_skipped(tmp_path: Path, kind: str) -> None:
    make, message = FAULTS[kind]
    folder = write(tmp_path / "folder", a_png=encoded(LEAVES[0]), b_png=make(), c_png=encoded(LEAVES[0]))
    pq.write_table(pa.table({"img": [encoded(LEAVES[0]), make(), encoded(LEAVES[0])]}), tmp_path / "some.parquet")
    for path, name in ((folder, r"b\.png"), (tmp_path / "some.parquet", r"some\.parquet row 1")):
        with pytest.raises(ValueError, match=rf"{name} {message}.*; mend or remove it, or skip such"):
            load_images(path)
        with pytest.warns(UserWarning, match=rf"skipped 1 of 3 images: .*{name} {message}"):
            images, places = read_images(path, on_error="skip")
        np.testing.assert_array_equal(images, LEAVES[[0, 0]])
        assert places.tolist() == [0, 2]


def test_smaller_images_are_enlarged_with_a_warning_or_refused(tmp_path: Path) -> None:
    small = write(tmp_path / "folder", a_png=encoded(LEAVES[0]), b_png=encoded(LEAVES[0][:6, :7]))
    np.save(tmp_path / "a.npy", LEAVES[:, :6, :7])
    for path, what in ((small, r"b\.png is 7×6"), (tmp_path / "a.npy", r"a\.npy has images of 7×6")):
        with pytest.warns(
            UserWarning, match=f"{what}, enlarged to 8×8: the finest detail is that of the interpolation"
        ):
            assert load_images(path, 8).shape[1:3] == (8, 8)
        with pytest.raises(ValueError, match=f"{what}, less than 8×8, and images are not enlarged: .*choose --size 6"):
            load_images(path, 8, enlarge=False)
        assert load_images(path, 6, enlarge=False).shape[1:3] == (6, 6)


def test_grey_is_the_brightness_that_pillow_has() -> None:
    expected = np.stack([np.asarray(Image.fromarray(leaf).convert("L"), dtype=int) for leaf in LEAVES])
    grey = to_grey(LEAVES)
    assert (grey.dtype, grey.shape) == (np.uint8, (12, 8, 8, 1))
    assert np.abs(grey[..., 0] - expected).max() <= 1  # pillow's weights are rounded
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_grey(levels), levels)
    np.testing.assert_array_equal(to_grey(levels.repeat(3, axis=-1)), levels)


def test_wrong_paths_arrays_and_columns_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", LEAVES)
    np.save(tmp_path / "float.npy", LEAVES / 255)
    np.save(tmp_path / "flat.npy", LEAVES[0, 0])
    np.savez(tmp_path / "several.npz", a=LEAVES, b=LEAVES)
    for name, columns in {
        "none": {"label": [1, 2]},
        "numbers": {"img": [1, 2]},
        "paths": {"img": [{"path": "a.png", "bytes": None}] * 2},
        "no rows": {"img": pa.array([], pa.binary())},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    write(tmp_path, notes_txt=b"none", torn_parquet=table(LEAVES)[:900], pickle_npy=pickle.dumps([1]))
    write(tmp_path, double_npy=(tmp_path / "a.npy").read_bytes() * 2)
    write(tmp_path / "empty")
    write(tmp_path / "mixed", a_png=encoded(LEAVES[0]), b_png=encoded(LEAVES[1, :6]))
    os.mkfifo(tmp_path / "pipe.npy")
    for name, message in {
        "gone": "gone does not exist; pass a parquet file",
        "empty": "empty holds no images; expected files that end in",
        "notes.txt": r"notes\.txt is of an unknown kind",
        "pipe.npy": r"pipe\.npy is not a file",
        "torn.parquet": r"torn\.parquet is not a readable parquet file \(.*magic bytes",
        "none.parquet": r"none\.parquet has no column img or image; its columns are label",
        "numbers.parquet": "row 0 holds int, no encoded image, in column img; expected bytes",
        "paths.parquet": r"row 0 holds the path a\.png but no image",
        "no rows.parquet": "holds no images: column img is empty",
        "mixed": r"a\.png is 8×8, .*b\.png is 8×6; resize them, or fit them with --size",
        "several.npz": r"several\.npz is not a readable array.*holds the arrays a, b",
        "double.npy": r"double\.npy is not a readable array .*it goes on after the array",
        "pickle.npy": r"pickle\.npy is not a readable array .*not an \.npy or \.npz file",
        "float.npy": r"float\.npy must hold uint8 values .*, got float64 in \[0, 1\]",
        "flat.npy": r"flat\.npy must have shape .* got \(8, 3\)",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_images(tmp_path / name)


def test_links_are_followed_or_named(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", a_png=encoded(LEAVES[0]))
    folder = write(tmp_path / "folder", b_png=encoded(LEAVES[1]))
    (folder / "a").symlink_to(elsewhere)
    (folder / "c.png").symlink_to(elsewhere / "a.png")
    np.testing.assert_array_equal(load_images(folder), LEAVES[[0, 1, 0]])
    (folder / "x").symlink_to(".")
    with pytest.raises(ValueError, match="x is a link to a folder that holds it"):
        load_images(folder)
    (folder / "d.png").symlink_to("gone")
    with pytest.raises(ValueError, match=r"d\.png is a link to gone, which cannot be opened \(No such"):
        load_images(folder)


def test_skipping_names_images_and_keeps_the_commonest_size(tmp_path: Path) -> None:
    write(tmp_path, a_png=encoded(LEAVES[1]), b_png=encoded(LEAVES[2]), x_png=encoded(LEAVES[0, :6]))
    write(tmp_path, c_png=b"", d_png=b"")
    with pytest.warns(
        UserWarning, match=r"skipped 3 of 5 images: \S*c\.png .*; \S*d\.png .*; \S*x\.png is 8×6, m"
    ) as said:
        found = load_images(tmp_path, on_error="skip")
    np.testing.assert_array_equal(found, LEAVES[1:3])
    assert (len(said), said[0].filename) == (1, __file__)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path, kind: str) -> None:
    """Nothing else: no other exception, no crash."""
    path = tmp_path / f"x.{kind.split()[0]}"
    damaged = mutations(FILES[kind](), seed=5)
    for index, data in enumerate(itertools.islice(map(resealed, damaged) if "resealed" in kind else damaged, 20)):
        path.write_bytes(data)
        size = (8, None)[index % 2]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "used .* though they may be damaged", UserWarning)
                images = load_images(path if path.suffix in (".parquet", ".npy", ".npz") else tmp_path, size)
            named = True
        except ValueError as error:
            named, images = str(path) in str(error), LEAVES
        assert named
        assert images.dtype == np.uint8
        assert images.shape[3:] in ((1,), (3,))
        assert size is None or images.shape[1:3] == (size, size)


def test_a_data_set_has_labels_and_provenance(tmp_path: Path) -> None:
    write(tmp_path, a_parquet=table(LEAVES, "JPEG"))
    found = cifar10.load(str(tmp_path / "a.parquet"), count=10)
    assert found.labels is not None
    assert found.labels.tolist() == [n % 4 for n in range(10)]
    assert found.classes == 4
    wanted = {"source": "a.parquet", "count": 10, "shape": [8, 8, 3], "encoding": "JPEG"}
    assert found.provenance.items() >= wanted.items()
    np.savez(tmp_path / "a.npz", images=found.images)
    again = cifar10.load(str(tmp_path / "a.npz"))
    assert (again.classes, again.labels, again.provenance["encoding"]) == (0, None, "array")
    assert again.provenance["sha256"] == found.provenance["sha256"]  # of the pixels, whatever the file


def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    rows = [None if index in (2, 3) else encoded(image) for index, image in enumerate(LEAVES)]
    pq.write_table(pa.table({"img": rows, "label": list(range(12))}), tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match=r"skipped 2 of 12 images: .*row 2 holds nothing.*; .*row 3 holds nothing"):
        found = cifar10.load(str(tmp_path / "a.parquet"), on_error="skip")
    assert found.labels is not None
    np.testing.assert_array_equal(found.images, LEAVES[found.labels])
    assert found.labels.tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]
    np.savez(tmp_path / "a.npz", images=LEAVES, labels=np.zeros(5))
    with pytest.raises(ValueError, match="has 12 images but 5 labels"):
        cifar10.load(str(tmp_path / "a.npz"))
    for name in ("missing.parquet", "./missing", "cifar10"):
        with pytest.raises(ValueError, match=r"does not exist, and is not the name of a data set on the hub"):
            cifar10.load(name)


def test_to_uint8_rounds_and_inverts_to_unit() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_uint8(to_unit(levels)), levels)
    just_below = to_unit(levels) - 0.9 / 255  # 0.45 of a level: truncation would lose it
    np.testing.assert_array_equal(to_uint8(just_below), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0]).reshape(1, 1, 1, 2)).flatten().tolist() == [0, 255]
    with pytest.raises(ValueError, match="images must be uint8 of shape"):
        to_unit(np.zeros((1, 2, 2, 3)))


@pytest.mark.parametrize(
    "made", [partial(Batches, LEAVES), partial(cifar10.RankBatches, cifar10.Pictures(LEAVES, None, {}))]
)
def test_an_epoch_has_every_image_once_in_an_order_of_its_own(made: partial) -> None:
    def epoch(number: int, *, flip: bool) -> torch.Tensor:
        torch.manual_seed(number)  # the global state has no effect
        batches = made(4, flip=flip)
        batches.set_epoch(number)
        return torch.cat(list(batches))

    plain, mirrored = epoch(0, flip=False), epoch(0, flip=True)
    assert torch.equal(plain.flatten(1).unique(dim=0), to_unit(LEAVES).flatten(1).unique(dim=0))
    assert torch.equal(mirrored, epoch(0, flip=True))
    assert not torch.equal(plain, epoch(1, flip=False))
    same = (plain == mirrored).flatten(1).all(1)
    assert 0 < same.sum() < 12
    assert torch.equal(mirrored[~same], plain[~same].flip(-1))
    with pytest.raises(
        ValueError, match=r"12 images .* the 13 of a batch; use more|a step of 1 × 13 .* got 12; use more"
    ):
        made(13)
