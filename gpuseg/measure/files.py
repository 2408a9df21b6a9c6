"""Measuring what `gpuseg segment` and `gpuseg series` saved."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg import io
from gpuseg.frames import open_frames
from gpuseg.measure.table import Table
from gpuseg.segmentation import Segmentation, SegmentationModel
from gpuseg.series_results import FrameSegmentation, SeriesSegmentation

__all__ = ["Saved", "check_free", "read_saved", "write_tables"]

LEAST_EQUAL = 0.5
"""Share of neighbouring pixels with equal numbers: above 0.9 in labels, about 0.1 in a picture."""


LEAST_SAME = 0.99
"""Share of equal labels by which an image is known again; rounding of another device changes fewer."""


@dataclass(frozen=True, eq=False)
class Saved:
    """Labels from a file or a folder, and what is known about them.

    Parameters
    ----------
    labels : (H, W) array of int or None
        0, 1, ... = patterns, -1 = masked; None for a series.
    certainty : (H, W) array or None
    series : SeriesSegmentation, iterable of FrameSegmentation, or None
    n_patterns : int
    stride : int
        Distance of the scored points in pixels of the labels; 1 if it is not known.
    pixel_size, unit : float and str, or None
        Of a pixel of the labels; of a series that of the image.
    model : SegmentationModel or None
    """

    labels: np.ndarray | None = field(repr=False)
    certainty: np.ndarray | None = field(repr=False)
    series: Any
    n_patterns: int
    stride: int
    pixel_size: float | None
    unit: str | None
    model: SegmentationModel | None

    def predict(self, image: np.ndarray) -> Segmentation:
        """The segmentation that was saved, with all its stages, from the image it is of.

        Parameters
        ----------
        image : (H, W) array

        Returns
        -------
        Segmentation

        Raises
        ------
        ValueError
            Without a model, and for an image that gives other labels.
        """
        if self.model is None or self.labels is None:
            raise ValueError(
                "`image` goes with a folder that gpuseg segment wrote: labels alone have no model"
            )
        on_pixels = self.labels.shape == image.shape
        found = self.model.predict(image, mask=self.labels >= 0 if on_pixels else None)
        same = found.labels.shape == self.labels.shape and np.mean(found.labels == self.labels) > LEAST_SAME
        if not same:
            raise ValueError(
                f"`image` of shape {image.shape} is not what the labels {self.labels.shape} are of; "
                "the image, frame and binning of the segmentation are needed"
            )
        return found


def read_saved(path: Path) -> Saved:
    """Read labels with what belongs to them.

    Parameters
    ----------
    path : path
        A folder that `gpuseg segment` or `gpuseg series` wrote, its labels.tif, or another image or stack of
        labels: 0 = masked, k + 1 = pattern k.

    Returns
    -------
    Saved

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no labels.tif in it.
    gpuseg.io.ReadError
        If the file cannot be read or holds no labels.
    """
    path = Path(path)
    if path.name == "labels.tif" and (path.parent / "summary.json").exists():
        path = path.parent
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(
                f"'{path}' does not exist; a folder written by `gpuseg segment` or `gpuseg series`, or a "
                f"label image, is wanted (folder: {Path.cwd()})"
            )
        return _read_file(path)
    if not (path / "labels.tif").exists():
        raise FileNotFoundError(
            f"'{path}' holds no labels.tif; a folder written by `gpuseg segment` or `gpuseg series`, or a "
            "label image, is wanted"
        )
    if not (path / "summary.json").exists():  # an older or foreign folder: the labels speak for themselves
        return _read_file(path / "labels.tif")
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        parameters = summary["parameters"]
        model = SegmentationModel.load(path / "model.npz")
        if "n_frames" in summary:
            return _read_series(path, summary, model)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise io.ReadError(
            f"'{path}' is no complete result of gpuseg ({error}); give its labels.tif"
        ) from error
    picture = io.read_image(path / "labels.tif")
    labels, certainty = _labels(path / "labels.tif", picture.data), None
    if (path / "certainty.tif").exists():
        certainty = io.read_image(path / "certainty.tif").data
        if certainty.shape != labels.shape:
            raise io.ReadError(f"'{path}': labels.tif is {labels.shape}, certainty.tif {certainty.shape}")
    stride = int(parameters["stride"]) if parameters.get("upsampling", True) else 1
    n_patterns = int(summary["n_patterns"])
    return Saved(labels, certainty, None, n_patterns, stride, picture.pixel_size, picture.unit, model)


def _read_file(path: Path) -> Saved:
    try:
        stack = open_frames(path)
    except io.ReadError:  # a single picture, or nothing that can be read: then this says why
        picture = io.read_image(path)
        labels = _labels(path, picture.data)
        n = max(int(labels.max()) + 1, 1)
        return Saved(labels, None, None, n, 1, picture.pixel_size, picture.unit, None)
    frames = (_frame(path, index, numbers) for index, numbers in enumerate(stack))
    return Saved(None, None, frames, 0, 1, stack.pixel_size, stack.unit, None)


def _frame(path: Path, index: int, numbers: Any) -> FrameSegmentation:
    if isinstance(numbers, io.ReadError):
        raise numbers
    labels = _labels(path, np.asarray(numbers), f" in frame {index}")
    nothing = np.empty((0, 0), np.float32)
    dead = "" if (labels >= 0).any() else "dead: no pixel has a label"
    return FrameSegmentation(index, labels, nothing, float("nan"), np.empty(0), dead)


def _labels(path: Path, numbers: np.ndarray, where: str = "") -> np.ndarray:
    """Labels as gpuseg counts them, from those of a file."""
    wanted = "whole numbers, 0 = masked, k + 1 = pattern k, are wanted"
    if numbers.dtype.kind not in "iu":
        raise io.ReadError(f"'{path}' holds {numbers.dtype}{where}; {wanted}")
    lowest, highest = int(numbers.min()), int(numbers.max())
    if lowest < 0 or highest > np.iinfo(np.uint16).max:
        raise io.ReadError(f"'{path}' runs from {lowest} to {highest}{where}; {wanted}")
    equal = np.mean(numbers[:, 1:] == numbers[:, :-1]) if numbers.shape[1] > 1 else 1.0
    if equal < LEAST_EQUAL:
        raise io.ReadError(
            f"'{path}': {1 - equal:.0%} of neighbouring pixels differ{where}: a picture, not labels; {wanted}"
        )
    return numbers.astype(np.int32) - 1


def _read_series(folder: Path, summary: Mapping[str, Any], model: SegmentationModel) -> Saved:
    with (folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(rows) != summary["n_frames"]:
        raise ValueError(f"frames.csv has {len(rows)} rows for {summary['n_frames']} frames")
    n_patterns = int(summary["n_patterns"])
    areas = [[float(row[f"area_{k}"]) for k in range(n_patterns)] for row in rows]
    result = SeriesSegmentation(
        model=model,
        certainty=np.array([float(row["mean_certainty"]) for row in rows]),
        area_fractions=np.array(areas).reshape(-1, n_patterns),
        frames_flagged={k: row["flag"] for k, row in enumerate(rows) if row["flag"]},
        ended_early=summary.get("ended_early") or "",
        folder=folder,
    )
    return Saved(None, None, result, n_patterns, 1, summary["pixel_size"], summary["unit"], model)


def check_free(folder: Path, names: tuple[str, ...], force: bool) -> None:
    """Refuse to replace tables.

    Parameters
    ----------
    folder : path
        Need not exist.
    names : tuple of str
        Of the tables, without .csv.
    force : bool
        Whether they may be replaced.

    Raises
    ------
    FileExistsError
    """
    existing = [f"{name}.csv" for name in names if (folder / f"{name}.csv").exists()]
    if existing and not force:
        listed = ", ".join(existing)
        raise FileExistsError(
            f"'{folder}' already holds {listed}; use force (--force) or another folder (-o)"
        )


def write_tables(folder: Path, tables: Mapping[str, Table], force: bool) -> None:
    """Write tables as NAME.csv into a folder.

    Parameters
    ----------
    folder : path
        Made if it does not exist.
    tables : mapping of str to Table
    force : bool
        Whether existing ones may be replaced.

    Raises
    ------
    FileExistsError, NotADirectoryError, OSError
    """
    io.make_folder(folder)
    check_free(folder, tuple(tables), force)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", force=force)
