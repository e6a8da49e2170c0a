"""What `images.py` reads, from good files and from bad ones."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mutations import mutations, resealed

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import cifar10
from dead_leaves import dead_leaves
from images import Batches, load_images, read_images, to_uint8, to_unit

LEAVES = dead_leaves(12, size=8, seed=3)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def write_parquet(path: Path, images: np.ndarray, column: str = "img") -> Path:
    rows = [{"bytes": encoded(image), "path": f"{index}.png"} for index, image in enumerate(images)]
    pq.write_table(pa.table({column: rows, "label": list(range(len(rows)))}), path)
    return path


def write_folder(folder: Path, images: np.ndarray) -> Path:
    for index, image in enumerate(images):
        part = folder / f"part{index // 4}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{index:03d}.png").write_bytes(encoded(image))
    return folder


def write_npz(path: Path, images: np.ndarray) -> Path:
    np.savez(path, images=images)
    return path


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


def with_header(width: int, height: int) -> bytes:
    """Return a PNG that claims to be of some size."""
    png = encoded(LEAVES[0])
    return resealed(png[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:])


# Reading pictures -----------------------------------------------------------------------------------------------------


def test_every_kind_of_data_gives_the_same_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "leaves.npy", LEAVES)
    for path in (
        write_parquet(tmp_path / "img.parquet", LEAVES),
        write_parquet(tmp_path / "image.parquet", LEAVES, column="image"),
        write_folder(tmp_path / "folder", LEAVES),
        write_npz(tmp_path / "leaves.npz", LEAVES),
        tmp_path / "leaves.npy",
    ):
        loaded = load_images(path)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, LEAVES, err_msg=str(path))


def test_size_crops_the_centre_and_resizes(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 16:32] = (200, 100, 50)  # the central square
    (tmp_path / "wide.png").write_bytes(encoded(wide))
    (tmp_path / "tall.png").write_bytes(encoded(wide.transpose(1, 0, 2)))
    loaded = load_images(tmp_path, size=8)
    assert loaded.shape == (2, 8, 8, 3)
    assert (loaded == (200, 100, 50)).all()
    np.save(tmp_path / "wide.npy", wide[None])
    assert (load_images(tmp_path / "wide.npy", size=8) == (200, 100, 50)).all()


def test_grey_arrays_get_a_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", LEAVES[..., 0])
    np.testing.assert_array_equal(load_images(tmp_path / "grey.npy"), LEAVES[..., :1])
    assert load_images(tmp_path / "grey.npy", size=4).shape == (12, 4, 4, 1)


def test_load_images_names_the_file_and_the_fault(tmp_path: Path) -> None:
    def save(name: str, array: np.ndarray) -> Path:
        np.save(tmp_path / name, array, allow_pickle=array.dtype == object)
        return tmp_path / name

    empty = tmp_path / "empty"
    empty.mkdir()
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 and no more")
    text = tmp_path / "notes.txt"
    text.write_text("none")
    several = tmp_path / "several.npz"
    np.savez(several, a=LEAVES, b=LEAVES)
    no_column = tmp_path / "no_column.parquet"
    pq.write_table(pa.table({"label": [1, 2]}), no_column)
    no_bytes = tmp_path / "no_bytes.parquet"
    pq.write_table(pa.table({"img": [{"bytes": None, "path": "a.png"}]}), no_bytes)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes(encoded(LEAVES[0]))
    (mixed / "b.png").write_bytes(encoded(LEAVES[1, :6]))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "c.png").write_bytes(encoded(LEAVES[0])[:60])
    faults = [
        (tmp_path / "gone", r"gone does not exist; pass a parquet file"),
        (empty, r"empty holds no pictures; expected files that end in"),
        (text, r"notes\.txt is of an unknown kind"),
        (torn, r"torn\.parquet is not a readable parquet file"),
        (no_column, r"no_column\.parquet has no column img or image; its columns are label"),
        (no_bytes, r"no_bytes\.parquet row 0 holds the path a\.png but no picture"),
        (mixed, r"a\.png is 8×8, .*b\.png is 8×6; fit them all with --size"),
        (damaged, r"c\.png is not a readable picture"),
        (several, r"several\.npz is not a readable array.*holds the arrays a, b"),
        (
            save("objects.npy", np.array([LEAVES[0], None], dtype=object)),
            r"objects\.npy is not a readable.*pickle",
        ),
        (save("float.npy", LEAVES / 255), r"float\.npy must hold uint8 values from 0 to 255, got float64 in \[0, 1\]"),
        (save("flat.npy", LEAVES[0, 0]), r"flat\.npy must have shape .* got \(8, 3\)"),
    ]
    for path, message in faults:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_images(path)
    with pytest.raises(ValueError, match="size must be 1 or more, got 0"):
        load_images(mixed, size=0)


# Conversions ----------------------------------------------------------------------------------------------------------

LEAF = dead_leaves(1, size=16, seed=1)[0, :, :12]
GREY = LEAF[..., 0]
DEEP = (np.arange(192, dtype=np.uint16) * 343 + 11).reshape(16, 12)  # to 65524
ALPHA = np.linspace(0, 255, 192).round().astype(np.uint8).reshape(16, 12)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    weight = alpha[..., None] / 255
    return (weight * colour + (1 - weight) * 255).round()


def palette() -> Image.Image:
    return Image.fromarray(LEAF).quantize(7)


def faint_palette() -> bytes:
    """Return a picture whose palette is transparent in part."""
    return encoded(palette(), transparency=bytes([0, 100, 255, 200]))


def faint_colours() -> np.ndarray:
    index = np.asarray(palette())
    alpha = np.array([0, 100, 255, 200, 255, 255, 255], dtype=np.uint8)
    return over_white(np.asarray(palette().convert("RGB")), alpha[index])


def jpeg() -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded(LEAF, "JPEG"))))


CONVERSIONS: dict[str, tuple[Callable[[], bytes], Callable[[], np.ndarray]]] = {
    "grey": (lambda: encoded(GREY), lambda: np.stack([GREY] * 3, -1)),
    "black and white": (
        lambda: encoded(Image.fromarray(GREY > 99)),
        lambda: np.stack([(GREY > 99) * 255] * 3, -1),
    ),
    "opaque": (lambda: encoded(np.dstack([LEAF, np.full_like(GREY, 255)])), lambda: LEAF),
    "RGBA": (lambda: encoded(np.dstack([LEAF, ALPHA])), lambda: over_white(LEAF, ALPHA)),
    "RGBA WebP": (
        lambda: encoded(np.dstack([LEAF, ALPHA]), "WEBP", lossless=True, exact=True),
        lambda: over_white(LEAF, ALPHA),
    ),
    "grey and alpha": (
        lambda: encoded(np.dstack([GREY, ALPHA])),
        lambda: over_white(np.stack([GREY] * 3, -1), ALPHA),
    ),
    "palette": (lambda: encoded(palette()), lambda: np.asarray(palette().convert("RGB"))),
    "palette GIF": (lambda: encoded(palette(), "GIF"), lambda: np.asarray(palette().convert("RGB"))),
    "transparent palette": (faint_palette, faint_colours),
    "transparent colour": (
        lambda: encoded(LEAF, transparency=tuple(LEAF[3, 4].tolist())),
        lambda: np.where((LEAF[3, 4] == LEAF).all(-1, keepdims=True), 255, LEAF),
    ),
    "16 bits": (lambda: encoded(DEEP), lambda: np.stack([(DEEP / 65535 * 255).round()] * 3, -1)),
    "16 bits TIFF": (lambda: encoded(DEEP, "TIFF"), lambda: np.stack([(DEEP / 65535 * 255).round()] * 3, -1)),
    "16 bits, one transparent": (
        lambda: encoded(DEEP, transparency=11),
        lambda: np.stack([np.where(DEEP == 11, 255, DEEP / 65535 * 255).round()] * 3, -1),
    ),
    "CMYK": (
        lambda: encoded(Image.fromarray(np.dstack([255 - LEAF, 0 * GREY]), "CMYK"), "TIFF"),
        lambda: LEAF,
    ),
    "camera": (lambda: encoded(LEAF, "MPO", save_all=True, append_images=[Image.new("RGB", (12, 16))]), jpeg),
    "BMP": (lambda: encoded(LEAF, "BMP"), lambda: LEAF),
}


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_pictures_become_what_is_seen(tmp_path: Path, kind: str) -> None:
    data, expected = (make() for make in CONVERSIONS[kind])
    pq.write_table(pa.table({"image": [data]}), tmp_path / "a.parquet")
    (found,) = load_images(tmp_path / "a.parquet")
    assert np.abs(found - expected.astype(int)).max() <= (1 if "RGBA" in kind or "alpha" in kind else 0)
    assert load_images(tmp_path / "a.parquet", size=4).shape == (1, 4, 4, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_pictures_are_turned_as_their_exif_says(tmp_path: Path, kind: str) -> None:
    """EXIF 2.32, tag 0x0112: where row 0 and column 0 of what is stored belong."""
    stored = [
        LEAF,
        LEAF[:, ::-1],
        LEAF[::-1, ::-1],
        LEAF[::-1],
        LEAF.swapaxes(0, 1),
        np.rot90(LEAF),
        LEAF[::-1, ::-1].swapaxes(0, 1),
        np.rot90(LEAF, -1),
    ]
    for orientation, image in enumerate(stored, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(np.ascontiguousarray(image), kind, exif=exif, **options)
        (tmp_path / f"{orientation}.{kind.lower()}").write_bytes(data)
    for image in load_images(tmp_path):
        np.testing.assert_array_equal(image, LEAF)


# Faults ---------------------------------------------------------------------------------------------------------------

FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]


def many(kind: str) -> bytes:
    return encoded(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])


def with_tag(tag: int, value: int) -> bytes:
    """Return a TIFF in which a tag says something else."""
    data = bytearray(encoded(DEEP, "TIFF"))
    entry = re.search(re.escape(tag.to_bytes(2, "little")) + b"[\3\4]\0\1\0\0\0", data)
    assert entry is not None
    data[entry.end() : entry.end() + 2] = value.to_bytes(2, "little")
    return bytes(data)


FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"is not a readable picture \(empty\)"),
    "text": (lambda: b"<html>404</html>", r"is not a readable picture \(not one of PNG, JPEG,"),
    "other kind": (lambda: encoded(LEAF, "PPM"), r"is not a readable picture \(not one of PNG, JPEG,"),
    "cut PNG": (lambda: encoded(LEAF)[:-30], r"is not a readable picture \(Truncated File Read"),
    "cut JPEG": (lambda: encoded(LEAF, "JPEG")[:-30], r"is not a readable picture \(image file is truncated"),
    "cut GIF": (lambda: encoded(LEAF, "GIF")[:-90], r"is not a readable picture \(image file is truncated"),
    "flipped bit": (
        lambda: (png := bytearray(encoded(LEAF))) and (png.__setitem__(60, png[60] ^ 1) or bytes(png)),
        r"is not a readable picture \(broken PNG file \(bad header checksum",
    ),
    "bomb": (lambda: with_header(10_000, 10_000), r"is not a readable picture \(.*decompression bomb"),
    "great bomb": (lambda: with_header(50_000, 50_000), r"is not a readable picture \(.*decompression bomb"),
    "GIF of frames": (lambda: many("GIF"), "holds more than one picture; save those"),
    "PNG of frames": (lambda: many("PNG"), "holds more than one picture"),
    "WebP of frames": (lambda: many("WEBP"), "holds more than one picture"),
    "TIFF of pages": (lambda: many("TIFF"), "holds more than one picture"),
    "floats": (
        lambda: encoded(LEAF[..., 0] / np.float32(255), "TIFF"),
        "holds numbers whose black and white are not known",
    ),
    "12 bits": (lambda: with_tag(258, 12), "holds grey levels that are not of 16 bits with black at 0"),
    "missing rows": (lambda: with_tag(257, 6000), r"is not a readable picture \(pixels of its 12×6000 are missing"),
    "negative": (lambda: with_tag(262, 0), "holds grey levels that are not of 16 bits with black at 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_that_cannot_be_used_is_named(tmp_path: Path, fault: str) -> None:
    make, message = FAULTS[fault]
    good, bad = encoded(LEAVES[0]), make()
    folder = write(tmp_path / "folder", a_png=good, b_png=bad, c_png=good)
    table = tmp_path / "some.parquet"
    pq.write_table(pa.table({"img": [{"bytes": each, "path": None} for each in (good, bad, good)]}), table)
    for path, name in ((folder, r"folder.b\.png"), (table, r"some\.parquet row 1")):
        with pytest.raises(ValueError, match=rf"{name} {message}.*; mend or remove it, or skip such"):
            load_images(path)
        with pytest.warns(UserWarning, match=rf"skipped 1 of 3 pictures: .*{name} {message}"):
            images, places = read_images(path, on_error="skip")
        np.testing.assert_array_equal(images, LEAVES[[0, 0]])
        assert places.tolist() == [0, 2]


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_dangling_link(path: Path) -> None:
    path.symlink_to("gone.png")


def a_link_up(path: Path) -> None:
    path.symlink_to(path.parent)


LINKS = {
    a_pipe: r"b\.png is not a file",
    a_loop: r"b\.png is a link to .*b\.png, which cannot be opened \(Too many",
    a_dangling_link: r"b\.png is a link to gone\.png, which cannot be opened \(No such file",
    a_link_up: r"b\.png is a link to a folder that holds it",
}


@pytest.mark.parametrize("make", LINKS)
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    write(tmp_path, a_png=encoded(LEAVES[0]))
    make(tmp_path / "b.png")
    with pytest.raises(ValueError, match=LINKS[make]):
        load_images(tmp_path)
    with pytest.warns(UserWarning, match=rf"skipped 1 of 2 pictures: .*{LINKS[make]}"):
        assert len(load_images(tmp_path, on_error="skip")) == 1
    if make is not a_link_up:
        for name in ("x.npy", "x.parquet"):
            make(tmp_path / name)
            with pytest.raises((ValueError, FileNotFoundError), match=rf"{name}.*(does not exist|is not a file)"):
                load_images(tmp_path / name)


def test_links_to_pictures_and_to_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", a_png=encoded(LEAVES[0]))
    folder = write(tmp_path / "folder", b_png=encoded(LEAVES[1]))
    (folder / "a").symlink_to(elsewhere)
    (folder / "c.png").symlink_to(elsewhere / "a.png")
    np.testing.assert_array_equal(load_images(folder), LEAVES[[0, 1, 0]])


def test_files_without_permission_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_png=encoded(LEAVES[0]), c_npy=b"", d_parquet=b"")
    (tmp_path / "closed").mkdir()

    def refused(path: Path, *_: object) -> None:  # root, as which some test machines run, may do anything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    for name in ("c.npy", "d.parquet"):
        with pytest.raises(ValueError, match=rf"{name} cannot be opened \(Permission denied\)"):
            load_images(tmp_path / name)
    with pytest.raises(ValueError, match=r"a\.png cannot be opened \(Permission denied\); mend"):
        load_images(tmp_path)
    monkeypatch.undo()
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: refused(path) if path.name == "closed" else listed(path))
    with pytest.raises(ValueError, match=r"closed cannot be opened \(Permission denied\); mend"):
        load_images(tmp_path)
    with pytest.warns(UserWarning, match=r"skipped 1 of 2 pictures: .*closed cannot be opened"):
        load_images(tmp_path, on_error="skip")


@pytest.mark.parametrize(
    "name", ["ä ö.png", "new\nline.png", "\udcff.png", "a%s{}.png", "-rf.png", "\u202ereversed.png"]
)
def test_odd_names_are_read_and_fit_on_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(LEAVES[0]))
    assert len(load_images(tmp_path)) == 1
    for odd in (name, name.replace("png", "parquet"), name.replace("png", "npz")):
        (tmp_path / odd).write_bytes(b"")
        with pytest.raises(ValueError, match="readable") as caught:
            load_images(tmp_path if odd == name else tmp_path / odd)
        assert str(caught.value).encode().decode().isprintable()
    write_parquet(tmp_path / "plain", LEAVES).rename(tmp_path / odd.replace("npz", "parquet"))
    assert len(load_images(tmp_path / odd.replace("npz", "parquet"))) == 12


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([None, None], pa.binary()), "row 0 holds nothing in column img; expected bytes"),
        (pa.array(["a.png", "b.png"]), "row 0 holds str, no encoded picture, in column img; expected bytes"),
        (pa.array([1, 2]), "row 0 holds int, no encoded picture,"),
        (pa.array([[1, 2], [3]]), "row 0 holds list, no encoded picture,"),
        (pa.array([{"path": "a.png", "bytes": None}] * 2), r"row 0 holds the path a\.png but no picture"),
        (pa.array([{"url": "a.png"}] * 2), "row 0 holds dict, no encoded picture,"),
        (pa.array([b"", b""]), r"row 0 is not a readable picture \(empty\)"),
        (pa.array([], pa.binary()), "holds no pictures: column img is empty"),
    ],
)
def test_columns_of_something_else_are_explained(tmp_path: Path, column: pa.Array, message: str) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"img": column}), path)
    with pytest.raises(ValueError, match=rf"a\.parquet {message}"):
        load_images(path)
    with pytest.raises(ValueError, match=r"a\.parquet holds no pictures(: column| that can be read: .*row 0.*row 1)"):
        load_images(path, on_error="skip")


def test_labels_stay_with_their_pictures(tmp_path: Path) -> None:
    rows = [None if index in (2, 3) else encoded(image) for index, image in enumerate(LEAVES)]
    pq.write_table(pa.table({"img": rows, "label": list(range(12))}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="row 2 holds nothing"):
        cifar10.load(str(tmp_path / "a.parquet"))
    with pytest.warns(UserWarning, match=r"skipped 2 of 12 pictures: .*row 2 holds nothing.*; .*row 3 holds nothing"):
        found = cifar10.load(str(tmp_path / "a.parquet"), on_error="skip")
    assert found.labels is not None
    np.testing.assert_array_equal(found.images, LEAVES[found.labels])
    assert found.labels.tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 10, 11]


def test_skipping_counts_all_names_three_and_keeps_the_commonest_size(tmp_path: Path) -> None:
    write(tmp_path, a_png=encoded(LEAVES[0, :6]), x_png=encoded(LEAVES[1]), y_png=encoded(LEAVES[2]))
    write(tmp_path, b_png=b"", c_png=b"", d_png=b"")
    with pytest.warns(UserWarning, match="skipped 4 of 6 pictures") as said:
        found = load_images(tmp_path, on_error="skip")
    np.testing.assert_array_equal(found, LEAVES[1:3])
    assert len(said) == 1
    assert said[0].filename == __file__
    text = str(said[0].message)
    assert re.match(r"skipped 4 of 6 pictures: \S*b\.png .*; \S*c\.png .*; \S*d\.png .*; and 1 more$", text)
    for name in "bcd":
        (tmp_path / f"{name}.png").unlink()
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 pictures: .*a\.png is 8×6, most are 8×8"):
        load_images(tmp_path, on_error="skip")
    assert len(load_images(tmp_path, size=4)) == 3
    with pytest.raises(ValueError, match=r"on_error must be \"raise\" or \"skip\", got 'ignore'"):
        load_images(tmp_path, on_error="ignore")  # type: ignore[arg-type]


def test_what_pillow_doubts_is_used_and_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "longer than four letters"
    data = bytearray(encoded(LEAF, "JPEG", exif=exif))
    entry = data.index(b"\x01\x0e\x00\x02")
    data[entry + 4 : entry + 8] = (2**30).to_bytes(4, "big")  # letters, as the file claims
    write(tmp_path, a_jpg=bytes(data))
    with pytest.warns(
        UserWarning, match=r"used 1 of 1 pictures though they may be damaged: .*a\.jpg \(Tag data larger"
    ):
        np.testing.assert_array_equal(load_images(tmp_path)[0], jpeg())


def test_an_array_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=LEAVES)
    np.save(tmp_path / "a.npy", LEAVES)
    np.savez(tmp_path / "objects.npz", images=np.array([LEAVES[0], None], dtype=object))
    for name in ("a.npz", "a.npy"):
        data = (tmp_path / name).read_bytes()
        for count in (len(data) // 2, 100, 3, 0):
            (tmp_path / f"cut_{name}").write_bytes(data[:count])
            for on_error in ("raise", "skip"):
                with pytest.raises(ValueError, match=rf"cut_{name} is not a readable array of pictures \(\w"):
                    load_images(tmp_path / f"cut_{name}", on_error=on_error)
    with pytest.raises(ValueError, match=r"objects\.npz is not a readable array .*allow_pickle=False"):
        load_images(tmp_path / "objects.npz")
    (tmp_path / "double.npy").write_bytes((tmp_path / "a.npy").read_bytes() * 2)
    with pytest.raises(ValueError, match=r"double\.npy is not a readable array .*it goes on after the array"):
        load_images(tmp_path / "double.npy")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"pickle\.npy is not a readable array .*not an \.npy or \.npz file"):
        load_images(tmp_path / "pickle.npy")
    np.save(tmp_path / "signed.npy", LEAVES.astype(np.int8))
    with pytest.raises(ValueError, match=r"signed\.npy must hold uint8 values from 0 to 255, got int8 in \["):
        load_images(tmp_path / "signed.npy")


def test_half_a_parquet_file_is_an_error_in_any_case(tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "a.parquet", LEAVES).read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=r"a\.parquet is not a readable parquet file \(.*magic bytes"):
            load_images(tmp_path / "a.parquet", on_error=on_error)


# Damage at random -----------------------------------------------------------------------------------------------------


def packed(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays.values()) if save is np.save else save(buffer, **arrays)
    return buffer.getvalue()


def table(kind: str) -> bytes:
    buffer = io.BytesIO()
    rows = [{"bytes": encoded(image, kind), "path": None} for image in LEAVES[:4]]
    pq.write_table(pa.table({"img": rows}), buffer)
    return buffer.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(LEAF),
    "png resealed": lambda: encoded(LEAF, exif=b"Exif\0\0II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    "png palette resealed": faint_palette,
    "png 16 bits resealed": lambda: encoded(DEEP, transparency=11),
    "jpeg": lambda: encoded(LEAF, "JPEG", exif=b"Exif\0\0II*\0\10\0\0\0\1\0\22\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    "webp": lambda: encoded(LEAF, "WEBP"),
    "gif": lambda: encoded(palette(), "GIF"),
    "gif of frames": lambda: many("GIF"),
    "bmp": lambda: encoded(LEAF, "BMP"),
    "tif": lambda: encoded(LEAF, "TIFF"),
    "tif packed": lambda: encoded(LEAF, "TIFF", compression="tiff_lzw"),
    "tif 16 bits": lambda: encoded(DEEP, "TIFF"),
    "parquet": lambda: table("PNG"),
    "parquet of jpeg": lambda: table("JPEG"),
    "npy": lambda: packed(np.save, images=LEAVES),
    "npz": lambda: packed(np.savez, images=LEAVES),
    "npz packed": lambda: packed(np.savez_compressed, images=LEAVES, labels=np.arange(12)),
}
SUFFIX = {kind: kind.split()[0] for kind in FILES}


def mutated(kind: str, seed: int) -> Iterator[bytes]:
    found = mutations(FILES[kind](), seed)
    return map(resealed, found) if "resealed" in kind else found


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_read_or_refused_by_name(tmp_path: Path, kind: str) -> None:
    """Nothing else: no other exception, no crash, no waiting."""
    path = tmp_path / f"x.{SUFFIX[kind]}"
    for index, data in enumerate(itertools.islice(mutated(kind, seed=5), 20)):
        path.write_bytes(data)
        size, start = (8, None)[index % 2], time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "used .* though they may be damaged", UserWarning)
                images = load_images(path if path.suffix in (".parquet", ".npy", ".npz") else tmp_path, size)
            named = True
        except ValueError as error:
            named, images = str(path) in str(error), LEAVES
        assert named
        assert (images.dtype, images.ndim) == (np.uint8, 4)
        assert images.size > 0
        assert images.shape[-1] in (1, 3)
        assert size is None or images.shape[1:3] == (size, size)
        assert time.perf_counter() - start < 10


def test_mutations_differ_and_repeat() -> None:
    data = encoded(LEAVES[0])
    first, again, other = (list(itertools.islice(mutations(data, seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert data not in first
    assert len(set(first)) > 40
    assert resealed(data) == data


# Floats and batches ---------------------------------------------------------------------------------------------------


def test_to_uint8_rounds_and_inverts_to_unit() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_uint8(to_unit(levels)), levels)
    just_below = to_unit(levels) - 0.9 / 255  # 0.45 of a level: truncation would lose it
    np.testing.assert_array_equal(to_uint8(just_below), levels)
    assert to_uint8(torch.tensor([-3.0, 3.0]).reshape(1, 1, 1, 2)).flatten().tolist() == [0, 255]
    with pytest.raises(ValueError, match="images must be uint8 of shape"):
        to_unit(np.zeros((1, 2, 2, 3)))


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    def pass_of(seed: int, epoch: int) -> torch.Tensor:
        torch.manual_seed(seed + 100 * epoch)  # the global state has no say
        batches = Batches(LEAVES, 5, seed=seed)
        batches.set_epoch(epoch)
        return torch.stack(list(batches))

    first = pass_of(1, 0)
    assert first.shape == (2, 5, 3, 8, 8)  # 12 pictures: the last two are dropped
    assert torch.equal(first, pass_of(1, 0))
    assert not torch.equal(first, pass_of(1, 1))
    assert not torch.equal(first, pass_of(0, 0))
    assert not torch.equal(pass_of(1, 0), pass_of(0, 1))


def test_batches_hold_every_picture_once_some_mirrored() -> None:
    pictures = {image.numpy().tobytes(): n for n, image in enumerate(to_unit(LEAVES))}
    mirrors = {image.flip(-1).contiguous().numpy().tobytes(): n for n, image in enumerate(to_unit(LEAVES))}
    drawn = [image.contiguous().numpy().tobytes() for image in torch.cat(list(Batches(LEAVES, 4, seed=2)))]
    assert sorted({**mirrors, **pictures}[image] for image in drawn) == list(range(12))
    assert 0 < sum(image in mirrors for image in drawn) < 12
    plain = torch.cat(list(Batches(LEAVES, 4, seed=2, flip=False)))
    assert all(image.contiguous().numpy().tobytes() in pictures for image in plain)
    with pytest.raises(ValueError, match=r"a batch of 13 .* got 12; use more pictures or a smaller --batch-size"):
        Batches(LEAVES, 13)
