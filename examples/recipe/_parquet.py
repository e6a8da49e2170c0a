"""Images and labels in parquet files, as data sets of Hugging Face have them: one file, or the shards of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._decoding import FaultError, naming, open_file, shown, told

_COLUMNS = ("img", "image")


def encoded_rows(files: Sequence[Path]) -> list[tuple[str, bytes | FaultError]]:
    """Return the name and the encoded image, or its fault, of every row of every file.

    Raises:
        ValueError: a file that cannot be read, or without images; the message names the file.
    """
    rows: list[tuple[str, bytes | FaultError]] = []
    for path in files:
        with naming(path):
            column, values = _column(path, _COLUMNS)
            if not values:
                raise FaultError(f"holds no images: column {column} is empty")
        rows += [(f"{shown(path)} row {index}", _encoded(value, column)) for index, value in enumerate(values)]
    return rows


def first_image(path: Path) -> bytes:
    """Return the first encoded image of a file that `encoded_rows` can read; empty if that row has a fault."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        column = next(each for each in _COLUMNS if each in table.schema_arrow.names)
        first = next(table.iter_batches(1, columns=[column])).column(0).to_pylist()[0]
    data = _encoded(first, column)
    return data if isinstance(data, bytes) else b""


def label_column(files: Sequence[Path], names: Sequence[str]) -> list[Any]:
    """Return the labels of every row of every file, from the first of the named columns that a file has.

    Raises:
        ValueError: a file has none of these columns; the message names the file.
    """
    labels: list[Any] = []
    for path in files:
        with naming(path):
            labels += _column(path, names)[1]
    return labels


def _column(path: Path, names: Sequence[str]) -> tuple[str, list[Any]]:
    import pyarrow.parquet as pq

    with open_file(path) as file:
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as table:
                columns = table.schema_arrow.names
                column = next((each for each in names if each in columns), None)
                values = [] if column is None else table.read(columns=[column]).column(column).to_pylist()
        except Exception as error:  # damage shows in many ways, and not all are errors of Arrow
            raise FaultError(f"is not a readable parquet file ({told(error)})") from error
    if column is None:
        raise FaultError(f"has no column {' or '.join(names)}; its columns are {shown(', '.join(columns))}")
    return column, values


def _encoded(row: Any, column: str) -> bytes | FaultError:
    data = row.get("bytes") if isinstance(row, dict) else row
    if isinstance(data, bytes):
        return data
    if isinstance(row, dict) and isinstance(row.get("path"), str):
        what = f"the path {shown(row['path'])} but no image"
    else:
        what = "nothing" if row is None else f"{type(row).__name__}, no encoded image,"
    return FaultError(f"holds {what} in column {column}; expected bytes, or {{bytes, path}} with bytes")
