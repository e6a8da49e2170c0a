"""What `recipe.images` and `recipe.cifar10` take for one data set, its labels, and what they refuse to unpack."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.recipe import cifar10
from examples.recipe.images import load_images
from studies.faults.mutations import mutations
from tests.examples.image_files import LEAVES, encoded, table, write

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3072), dtype=np.uint8)
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def batch(data: np.ndarray, labels: list[int]) -> bytes:
    """Return a batch of CIFAR-10 as Python 2 wrote it: text and data are byte strings, of protocol 2."""

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|") + b"NNN" + number(-1) * 2 + b"K\0tb"
    shape = number(data.shape[0]) + number(data.shape[1]) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R(K\1" + shape
    array += dtype + b"\x89" + text(data.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\2}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def write_batches(folder: Path) -> Path:
    folder.mkdir()
    for index, name in enumerate(BATCHES):
        (folder / name).write_bytes(batch(PIXELS[2 * index : 2 * index + 2], [index, 9 - index]))
    (folder / "test_batch").write_bytes(batch(PIXELS[10:], [7, 8]))
    meta = {b"label_names": [f"class {number}".encode() for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=3))
    return folder


def test_files_that_are_not_read_are_counted_and_hidden_ones_left_out(tmp_path: Path) -> None:
    write(tmp_path, a_png=encoded(LEAVES[0]), b_txt=b"", c_TXT=b"", d_heic=b"", readme=b"")
    write(tmp_path, _png=b"hidden", e_parquet=table(LEAVES))
    write(tmp_path / ".ipynb_checkpoints", a_png=encoded(LEAVES[1]))
    with pytest.warns(UserWarning, match=r"not read: 1 without an extension, 1 \.heic, 1 \.parquet, 2 \.txt$") as told:
        np.testing.assert_array_equal(load_images(tmp_path), LEAVES[:1])
    assert (len(told), told[0].filename) == (1, __file__)
    (tmp_path / "a.png").unlink()
    (tmp_path / "e.parquet").unlink()
    with pytest.raises(ValueError, match=r"holds no images; expected .*; not read: 1 without .* 2 \.txt$"):
        load_images(tmp_path)


def test_a_folder_of_parquet_files_is_one_data_set(tmp_path: Path) -> None:
    shards = {f"train-{n:05d}-of-00003.parquet": table(LEAVES[4 * n : 4 * n + 4]) for n in (2, 0, 1)}
    (tmp_path / "data").mkdir()
    for name, data in shards.items():
        (tmp_path / "data" / name).write_bytes(data)
    found = cifar10.load(str(tmp_path), labels=True)
    np.testing.assert_array_equal(found.images, LEAVES)
    assert found.labels is not None
    assert (found.labels.tolist(), found.provenance["encoding"]) == ([0, 1, 2, 3] * 3, "PNG")

    (tmp_path / "data" / "train-00001-of-00003.parquet").unlink()
    with pytest.warns(UserWarning, match="holds 2 of 3 shards; the images in the others are missing"):
        assert len(load_images(tmp_path)) == 8
    for name in ("test-00000-of-00001.parquet", "cifar10-test.parquet"):
        write(tmp_path / "data").joinpath(name).write_bytes(table(LEAVES))
        with pytest.raises(ValueError, match="holds parquet files of the splits test, train; pass one file, or a fold"):
            load_images(tmp_path)
        (tmp_path / "data" / name).unlink()


def test_the_batches_of_cifar_10_are_read(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-py")
    images = PIXELS.reshape(12, 3, 32, 32).transpose(0, 2, 3, 1)
    training, test = (cifar10.load(str(folder), split=split, labels=True) for split in ("train", "test"))
    np.testing.assert_array_equal(training.images, images[:10])
    np.testing.assert_array_equal(test.images, images[10:])
    assert training.labels is not None
    assert test.labels is not None
    assert (training.labels.tolist(), test.labels.tolist()) == ([0, 9, 1, 8, 2, 7, 3, 6, 4, 5], [7, 8])
    assert training.provenance["class_names"] == [f"class {number}" for number in range(10)]
    assert (training.provenance["split"], test.provenance["split"]) == ("train", "test")
    np.testing.assert_array_equal(load_images(folder / "test_batch"), images[10:])
    again = {"data": np.asfortranarray(PIXELS[:2]), "labels": [3, 4]}  # as Python 3 would save it
    (folder / "test_batch").write_bytes(pickle.dumps(again, protocol=4))
    np.testing.assert_array_equal(load_images(folder / "test_batch"), images[:2])
    with pytest.raises(ValueError, match="has the splits train and test, got split 'validation'"):
        cifar10.load(str(folder), split="validation")
    (folder / "data_batch_3").unlink()
    with pytest.raises(ValueError, match="requires data_batch_1 to data_batch_5, got no data_batch_3; unpack it again"):
        load_images(folder)


class Trap:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_batch_is_run(tmp_path: Path) -> None:
    good = batch(PIXELS[:2], [3, 4])
    for data, message in {
        pickle.dumps({"data": Trap(tmp_path / "trap"), "labels": []}): r"asks for \w+\.mkdir, .*; nothing of it was ru",
        pickle.dumps({"data": 1}): r"is not a batch of CIFAR-10: no labels among \['data'\]",
        pickle.dumps({"data": 1, "labels": [1]}): r"requires 1 images of 3 × 32 × 32 bytes",
        pickle.dumps({"data": 1, "labels": [10]}): r"requires a list of labels from 0 to 9",
        batch(PIXELS[:2], [3]): r"requires 1 images of 3 × 32 × 32 bytes \(cannot reshape",
        good.replace(b"u1", b"i8"): "they are b'i8', not bytes",
        good[:-9]: "is not a readable batch of CIFAR-10",
        b"\x80\2}r\xff\xff\xff\x7f.": "place 2147483647 of a memo",
    }.items():
        (tmp_path / "test_batch").write_bytes(data)
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path / "test_batch")
    for data in itertools.islice(mutations(good, seed=5), 40):
        (tmp_path / "test_batch").write_bytes(data)
        try:
            shape, named = load_images(tmp_path / "test_batch").shape[1:], True
        except ValueError as error:
            shape, named = (32, 32, 3), str(tmp_path / "test_batch") in str(error)
        assert (shape, named) == ((32, 32, 3), True)
    assert not (tmp_path / "trap").exists()


def test_folders_and_file_names_are_classes(tmp_path: Path) -> None:
    names = ["cat_0_png", "cat_1_png", "car_0_png", "dog_x_y_png"]
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    flat.mkdir()
    for index, name in enumerate(names):
        (flat / name.replace("_png", ".png")).write_bytes(encoded(LEAVES[index]))
        (nested / name[:3] / "more").mkdir(parents=True, exist_ok=True)
        (nested / name[:3] / "more" / f"{index}.png").write_bytes(encoded(LEAVES[index]))
    for folder in (flat, nested):
        found = cifar10.load(str(folder), labels=True)
        np.testing.assert_array_equal(found.images, LEAVES[[2, 0, 1, 3]])
        assert found.labels is not None
        assert found.labels.tolist() == [0, 1, 1, 2]
        assert found.provenance["class_names"] == ["car", "cat", "dog"]
    (flat / "cat_0.png").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="skipped 1 of 4 images") as told:
        found = cifar10.load(str(flat), on_error="skip")
    assert found.labels is not None
    assert (found.labels.tolist(), told[0].filename) == ([0, 1, 2], __file__)


def test_labels_that_are_required_are_there_or_explained(tmp_path: Path) -> None:
    images = [encoded(image) for image in LEAVES[:3]]
    for name, labels in {"names": ["b", "a", "b"], "null": [1, None, 0], "negative": [0, -1, 1]}.items():
        pq.write_table(pa.table({"img": images, "label": labels}), tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"img": images, "kind": [1, 2, 3]}), tmp_path / "none.parquet")
    np.save(tmp_path / "a.npy", LEAVES)
    np.savez(tmp_path / "a.npz", images=LEAVES, kinds=LEAVES)
    np.savez(tmp_path / "one.npz", images=LEAVES, labels=3)
    for folder, stems in {"alike": ("img_1", "img_2"), "plain": ("1", "b_2"), "each": ("1_a", "2_a")}.items():
        write(tmp_path / folder)
        for stem in stems:
            (tmp_path / folder / f"{stem}.png").write_bytes(images[0])
    for name in (
        "stray/cat/a_1",
        "stray/cat/a_2",
        "stray/dog/b_3",
        "stray/b_4",
        "split/train/cat/a_1",
        "split/Test/cat/b_1",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(images[0])
    found = cifar10.load(str(tmp_path / "names.parquet"), labels=True)
    assert found.labels is not None
    assert (found.labels.tolist(), found.provenance["class_names"]) == ([1, 0, 1], ["a", "b"])
    for name, message in {
        "null.parquet": r"null\.parquet requires whole numbers from 0 as labels, or names, got None",
        "negative.parquet": "as labels, or names, got -1",
        "none.parquet": "has no column label or labels or fine_label; its columns are img, kind",
        "a.npy": "has no labels, as an .npy file holds one array",
        "a.npz": "holds no array label or labels or fine_label, but images, kinds",
        "one.npz": "requires one label for each image, got 3",
        "stray": r"has images in sub-folders and others beside them, such as b_4\.png",
        "split": r"has a sub-folder for each split \(Test, train\); pass one of them",
        **dict.fromkeys(
            ("alike", "plain", "each"), "has neither a sub-folder for each of two or more classes nor file"
        ),
    }.items():
        end = "; labels are read from a parquet column .* file names like cat_00012.png; use such data, or"
        with pytest.raises(ValueError, match=f"labels are required, but .*{message}.*{end}"):
            cifar10.load(str(tmp_path / name), labels=True)
        assert cifar10.load(str(tmp_path / name)).labels is None
    with pytest.raises(ValueError, match=r"labels=True requires labels, a\.npy has none; labels are read from"):
        cifar10.RankBatches(cifar10.load(str(tmp_path / "a.npy")), 2, labels=True)


def test_every_class_has_images_where_it_is_required(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    for labels, missing in {
        (1, 2, 3): "from 0 to 3, got none of 0;",
        (0, 1, 3, 6): "from 0 to 6, got none of 2, 4, 5;",
        (0, 2**31 - 1): "from 0 to 2147483647, got none of 1, 2, 3 and 2147483643 others;",
    }.items():
        np.savez(file, images=LEAVES, labels=np.resize(labels, 12))
        assert cifar10.load(str(file), labels=True).labels is not None  # as a part of a data set may lack some
        advice = r"number the classes from 0 without gaps: np\.unique\(labels, return_inverse=True\)\[1\]"
        with pytest.raises(ValueError, match=rf"a\.npz requires images of every class {missing} {advice}, or add"):
            cifar10.load(str(file), labels=True, every_class=True)
        np.savez(file, images=LEAVES, labels=np.unique(np.resize(labels, 12), return_inverse=True)[1])
        assert cifar10.load(str(file), labels=True, every_class=True).classes == len(labels)
    with pytest.raises(ValueError, match="every_class=True requires labels=True, got False; omit it"):
        cifar10.load(str(file), every_class=True)
    np.savez(file, images=LEAVES, labels=np.resize([0, 2, 1], 12))
    assert cifar10.load(str(file), count=2, labels=True, every_class=True).classes == 3  # though there is no 1 in it
    np.savez(file, images=LEAVES, labels=np.resize(["b", "d"], 12))
    assert cifar10.load(str(file), labels=True, every_class=True).classes == 2


def test_arrays_of_other_shapes_and_scales_are_explained(tmp_path: Path) -> None:
    scaled = LEAVES / np.float32(255)
    for array, message in (
        (LEAVES[0], r"got \(8, 8, 3\); this is one image \(H, W, C\): add the axis of the batch with image\[None\]"),
        (LEAVES.transpose(0, 3, 1, 2), r"\(N, C, H, W\): move the channels with images\.transpose\(0, 2, 3, 1\)"),
        (LEAVES[:0], r"a\.npy holds no images: its shape is \(0, 8, 8, 3\)"),
        (scaled, r"got float32 in \[0, .*\]; scale images in \[0, 1\] with \(255 \* images\)\.round\(\)"),
        (2 * scaled - 1, r"in \[-1, .*; scale images in \[-1, 1\] with \(127\.5 \* \(images \+ 1\)\)\.round\(\)"),
        (LEAVES > 9, r"got bool in \[0, 1\]; scale images in \[0, 1\]"),
        (
            (LEAVES > 9).astype(np.uint8),
            r"holds only the values 0 and 1 of 0 to 255; multiply images in \[0, 1\] by 255 before",
        ),
        (LEAVES.astype(int), r"got int64 in \[.*; save it as uint8"),
        (257 * LEAVES.astype(np.uint16), r"16-bit images with \(images / 257\)\.round\(\)\.astype\(np\.uint8\)"),
        (LEAVES.astype(int) - 400, r"scale it to 0 to 255, round, and save it as uint8, as a cast alone wraps"),
        (LEAVES.astype("S1"), r"got \|S1; save it as uint8"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path / "a.npy")


def test_arrays_that_would_fill_the_memory_are_refused_unread(tmp_path: Path) -> None:
    huge, buffer = (10**6, 64, 64, 3), io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": huge})
    header = buffer.getvalue()
    (tmp_path / "a.npy").write_bytes(header + bytes(999))
    for name, size in (("shape", len(header) + 999), ("bomb", len(header) + np.prod(huge, dtype=int))):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", header + bytes(999))
            archive.filelist[0].file_size = int(size)  # as if all of it were there
    np.savez_compressed(tmp_path / "flat.npz", images=np.full((99, 64, 64, 3), 7, dtype=np.uint8))
    assert load_images(tmp_path / "flat.npz").shape == (99, 64, 64, 3)  # small, however well it is compressed
    for name, message in {
        "a.npy": r"\(1000000, 64, 64, 3\) of uint8 takes 12,288,000,000 bytes, but 999 follow",
        "shape.npz": "takes 12,288,000,000 bytes, but 999 follow",
        "bomb.npz": r"images\.npy would expand from \d+ to 12,288,000,128 bytes, more than 100 times and 1 GiB",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_images(tmp_path / name)
