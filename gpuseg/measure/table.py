"""Table: what was measured, a row for each thing, as records, CSV, or a pandas frame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Table"]

ROWS_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length; the unit of each stands at the end of its name.

    ``table["area_nm2"]`` is a column, ``len(table)`` the number of rows, and iterating gives the records.

    Parameters
    ----------
    columns : dict of str to (n,) array
        In the order in which they are shown and written.
    """

    columns: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, column: str) -> np.ndarray:
        try:
            return self.columns[column]
        except KeyError:
            raise KeyError(f"no column {column!r}; one of {', '.join(self.columns)} is needed") from None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records())

    def records(self) -> list[dict[str, Any]]:
        """The rows, each as a dict of plain Python numbers.

        Returns
        -------
        list of dict
        """
        rows = zip(*(column.tolist() for column in self.columns.values()), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    def to_csv(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write a comma-separated file with a line of names: whole or not at all, numbers to the last digit.

        Parameters
        ----------
        path : path
        force : bool
            Whether an existing file may be replaced.

        Raises
        ------
        FileExistsError
            If the file is there and `force` is False.
        OSError
            If it cannot be written.
        """
        from gpuseg.io import write_csv

        path = Path(path)
        if path.exists() and not force:
            raise FileExistsError(f"'{path}' is there already; use force=True or another name")
        write_csv(path, list(self.columns), (record.values() for record in self.records()))

    def to_pandas(self) -> Any:
        """The table as a pandas frame.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_pandas() needs pandas: `pip install pandas`; records() and to_csv() do without"
            ) from error
        return pandas.DataFrame(dict(self.columns))

    def __repr__(self) -> str:
        cells = [list(self.columns), *([_text(each) for each in row.values()] for row in self._shown())]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.rjust(n) for cell, n in zip(row, widths, strict=True)) for row in cells]
        more = len(self) - ROWS_SHOWN
        return "\n".join(lines + ([f"... and {more} more rows"] if more > 0 else []))

    def _shown(self) -> list[dict[str, Any]]:
        return Table({name: column[:ROWS_SHOWN] for name, column in self.columns.items()}).records()


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
