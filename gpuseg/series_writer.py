"""The result of a series on disk: written frame by frame, so that an interrupted run can go on."""

from __future__ import annotations

import csv
import hashlib
import io as text
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gpuseg import io
from gpuseg.arrays import to_numpy
from gpuseg.segmentation import SegmentationModel
from gpuseg.series_results import FrameSegmentation, SeriesSegmentation

__all__ = ["SERIES_FILES", "SeriesWriter", "fingerprint"]

SERIES_FILES = ("labels.tif", "frames.csv", "model.npz", "summary.json")
PROGRESS, PART = "progress.json", "labels.part"


def fingerprint(array: Any) -> str | None:
    """What tells arrays apart.

    Parameters
    ----------
    array : array_like or None

    Returns
    -------
    str or None
    """
    if array is None:
        return None
    values = np.ascontiguousarray(to_numpy(array))
    return hashlib.sha256(f"{values.shape} {values.dtype}".encode() + values.tobytes()).hexdigest()[:16]


class SeriesWriter:
    """The folder of a series.

    While it runs, the labels grow in one file of bytes beside a table with a row for each frame: what is
    there after an interruption is cut to the last whole frame. At the end the labels become a TIFF stack.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    parameters : dict
        Of the call; an interrupted run goes on only with the same.
    force : bool
        Whether what is there may be replaced.
    pixel_size, unit : float and str, optional
        Length of a pixel.

    Attributes
    ----------
    model : SegmentationModel or None
        That of an interrupted run.
    done : int
        Frames that are written.
    image_shape, label_shape : (H, W)

    Raises
    ------
    FileExistsError
    """

    def __init__(
        self,
        folder: Path,
        parameters: Mapping[str, Any],
        force: bool,
        pixel_size: float | None = None,
        unit: str | None = None,
    ) -> None:
        self.folder, self.pixel_size, self.unit = folder, pixel_size, unit
        self.parameters = json.loads(json.dumps(parameters, default=str))
        self.model: SegmentationModel | None = None
        self.image_shape = self.label_shape = (0, 0)
        self._rows: list[list[str]] = []
        self._files: list[Any] = []
        self._made = io.make_folder(folder)
        interrupted = (folder / PROGRESS).exists() and not force
        existing = [name for name in SERIES_FILES if (folder / name).exists()]
        if existing and not interrupted and not force:
            names = ", ".join(existing)
            raise FileExistsError(f"'{folder}' already holds {names}; use force (--force) or another folder")
        if interrupted:
            self._go_on()

    @property
    def done(self) -> int:
        """Number of frames that are written."""
        return len(self._rows)

    def __enter__(self) -> SeriesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if error is not None:
            for each in self._made:
                with suppress(OSError):  # something is in it: an interrupted run
                    each.rmdir()

    def begin(
        self, model: SegmentationModel, image_shape: tuple[int, int], label_shape: tuple[int, int]
    ) -> None:
        """Start the files of a series that nothing is written of.

        Parameters
        ----------
        model : SegmentationModel
        image_shape, label_shape : (H, W)
        """
        self.model, self.image_shape, self.label_shape = model, image_shape, label_shape
        # not before: bad input leaves an older result as it was
        self._remove((*SERIES_FILES, PROGRESS, PART))
        model.save(self.folder / "model.npz")
        for name in (PART, "frames.csv"):
            (self.folder / name).write_bytes(b"")
        # last: where it stands, all of an interrupted run is there
        content = {"parameters": self.parameters, "image_shape": image_shape, "label_shape": label_shape}
        io.write_json(self.folder / PROGRESS, content)
        self._open()
        areas = [f"area_{k}" for k in range(self._n_patterns)]
        self._write_row(["frame", "mean_certainty", *areas, "flag"])

    def append(self, frame: FrameSegmentation) -> None:
        """Write a frame.

        Parameters
        ----------
        frame : FrameSegmentation
            The one after the last.
        """
        pixels, _ = self._files
        pixels.write((frame.labels.astype(np.int32) + 1).astype(self._number).tobytes())
        pixels.flush()
        flag = " ".join(frame.flag.split())
        row = [str(frame.index), repr(frame.mean_certainty), *map(repr, frame.area_fractions.tolist()), flag]
        self._write_row(row)
        self._rows.append(row)

    def finish(self, ended_early: str, seconds: float) -> SeriesSegmentation:
        """Make the TIFF stack and the summary.

        Parameters
        ----------
        ended_early : str
            Why the series broke off, if it did.
        seconds : float

        Returns
        -------
        SeriesSegmentation
        """
        self._close()
        assert self.model is not None  # begun or gone on with
        shape = (self.done, *self.label_shape)
        step = self.pixel_size
        if step is not None and self.label_shape != self.image_shape:
            step *= self.model.stride
        if self.done:
            io.write_label_stack(
                self.folder / "labels.tif", self._planes(), shape, self._number, step, self.unit
            )
        table = np.array([row[1:-1] for row in self._rows], np.float64).reshape(-1, self._n_patterns + 1)
        result = SeriesSegmentation(
            model=self.model,
            certainty=table[:, 0],
            area_fractions=table[:, 1:],
            frames_flagged={k: row[-1] for k, row in enumerate(self._rows) if row[-1]},
            ended_early=ended_early,
            seconds=seconds,
            folder=self.folder,
            stack=None if self.done else np.empty(shape, np.int8),
        )
        io.write_json(self.folder / "summary.json", self._summary(result))
        self._remove((PROGRESS, PART))
        return result

    def _go_on(self) -> None:
        try:
            content = json.loads((self.folder / PROGRESS).read_text(encoding="utf-8"))
            before = content["parameters"]
            self.image_shape, self.label_shape = (
                tuple(content[name]) for name in ("image_shape", "label_shape")
            )
            self.model = SegmentationModel.load(self.folder / "model.npz")
            self._cut()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileExistsError(
                f"'{self.folder}' holds an interrupted run that cannot be read ({error}); use force (--force)"
            ) from error
        changed = [name for name in self.parameters if before.get(name) != self.parameters[name]]
        if changed:
            name = changed[0]
            raise FileExistsError(
                f"'{self.folder}' holds an interrupted run with {name} = {before.get(name)!r}, now it is "
                f"{self.parameters[name]!r}; use the same, force (--force), or another folder"
            )
        self._open()

    def _cut(self) -> None:
        """Drop what was not written to its end."""
        table, part = self.folder / "frames.csv", self.folder / PART
        lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines[1:] if line.endswith("\n")]
        frame_size = int(np.prod(self.label_shape)) * np.dtype(self._number).itemsize
        done = min(len(whole), part.stat().st_size // frame_size)
        self._rows = list(csv.reader(whole[:done]))
        if any(len(row) != self._n_patterns + 3 for row in self._rows):
            raise ValueError("frames.csv has rows of another length")
        table.write_text("".join(lines[:1] + whole[:done]), encoding="utf-8")
        with part.open("r+b") as file:
            file.truncate(done * frame_size)

    def _open(self) -> None:
        part, table = self.folder / PART, self.folder / "frames.csv"
        self._files = [part.open("ab"), table.open("a", encoding="utf-8", newline="")]

    def _close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []

    def _write_row(self, row: list[str]) -> None:
        line = text.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        self._files[1].write(line.getvalue())
        self._files[1].flush()

    def _planes(self) -> Iterator[np.ndarray]:
        with (self.folder / PART).open("rb") as file:
            for _ in range(self.done):
                plane = np.fromfile(file, self._number, int(np.prod(self.label_shape)))
                yield plane.reshape(self.label_shape)

    def _remove(self, names: tuple[str, ...]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    @property
    def _n_patterns(self) -> int:
        assert self.model is not None  # begun or gone on with
        return int(self.model.cluster_centers.shape[0])

    @property
    def _number(self) -> type[np.unsignedinteger]:
        return np.uint8 if self._n_patterns < np.iinfo(np.uint8).max else np.uint16

    def _summary(self, result: SeriesSegmentation) -> dict[str, Any]:
        return {
            "n_frames": self.done,
            "image_shape": self.image_shape,
            "n_patterns": self._n_patterns,
            "n_operations": int(result.model.components.shape[1]),
            "accuracy_of_selection": result.model.accuracy,
            "typical_certainty": result.model.typical_certainty,
            "frames_flagged": result.frames_flagged,
            "ended_early": result.ended_early or None,
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            "seconds": result.seconds,
            "parameters": self.parameters,
            "versions": io.versions(),
        }
