"""What a series of frames gives."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from gpuseg.segmentation import SegmentationModel

__all__ = ["FrameSegmentation", "SeriesSegmentation", "label_type"]


@dataclass(frozen=True, eq=False)
class FrameSegmentation:
    """What was found in one frame of a series.

    Parameters
    ----------
    index : int
        Number of the frame, from 0.
    labels : (H, W) array of int8 (int16 for more than 127 patterns), on the host
        Pattern of every pixel as in `gpuseg.Segmentation.labels`; -1 everywhere in a dead frame.
    certainty : (H, W) float32 array, on the host, or None
        0 everywhere in a dead frame. None where it was not kept, in a frame of a series in a folder.
    mean_certainty : float
        Of the labelled pixels; NaN in a dead frame.
    area_fractions : (n,) float64 array
        Share of each pattern in the labelled pixels; NaN in a dead frame.
    flag : str
        Why the frame is suspicious or dead; empty for a good one.
    point_certainty : (h, w) float32 array or None
        Certainty of every grid point; None in a dead frame and where it was not kept.
    """

    index: int
    labels: np.ndarray = field(repr=False)
    certainty: np.ndarray | None = field(repr=False)
    mean_certainty: float
    area_fractions: np.ndarray
    flag: str = ""
    point_certainty: np.ndarray | None = field(default=None, repr=False)

    @property
    def is_dead(self) -> bool:
        """Whether the frame was passed over."""
        return bool(np.isnan(self.mean_certainty))


@dataclass(frozen=True, eq=False)
class SeriesSegmentation:
    """What `segment_series` found.

    ``series[k]`` is frame k as a `FrameSegmentation`, with the labels (and, in memory, the certainty) that
    ``series.model.predict(frames[k])`` gives; negative numbers count from the end, a slice gives a list, and
    iterating gives one frame after the other.

    Parameters
    ----------
    model : SegmentationModel
        What was learnt; ``model.predict(frame).labels`` equals the labels of the frame. Its `accuracy` is the
        share of grid points labelled as with all operations, where some were selected.
    certainty : (T,) float64 array
        Mean certainty of each frame; NaN for a dead one.
    area_fractions : (T, n) float64 array
        Share of each pattern in each frame; NaN for a dead one.
    frames_flagged : dict of int to str
        Number of each dead or suspicious frame -> reason.
    ended_early : str
        Why the series broke off before its end; empty if it did not.
    seconds : float
        For everything, learning included.
    folder : pathlib.Path or None
        Where the result was written.
    stack : (T, H, W) array or None
        The labels, where they were not written to a folder.
    point_certainty : list of T (h, w) arrays, or None
        Certainty of the grid points of each frame, None for a dead one, where it is in memory.
    """

    model: SegmentationModel
    certainty: np.ndarray
    area_fractions: np.ndarray
    frames_flagged: dict[int, str]
    ended_early: str = ""
    seconds: float = 0.0
    folder: Path | None = None
    stack: np.ndarray | None = field(default=None, repr=False)
    point_certainty: list[np.ndarray | None] | None = field(default=None, repr=False)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """(T, H, W) int8 (int16 for more than 127 patterns): pattern of every pixel of every frame.

        -1 where masked and in dead frames. Read from the folder where they were written to one.
        """
        if self.stack is not None:
            return self.stack
        import tifffile

        assert self.folder is not None  # one of the two is there
        number = label_type(self.n_patterns)
        with tifffile.TiffFile(self.folder / "labels.tif") as tif:
            plane, labels = tif.pages[0].shape, tif.asarray()
        return labels.reshape(len(self), *plane).astype(number) - number(1)

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return int(self.model.cluster_centers.shape[0])

    def __len__(self) -> int:
        return len(self.certainty)

    def __iter__(self) -> Iterator[FrameSegmentation]:
        return (self[k] for k in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> FrameSegmentation: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameSegmentation]: ...

    def __getitem__(self, index: int | slice) -> FrameSegmentation | list[FrameSegmentation]:
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        try:
            k = range(len(self))[operator.index(index)]
        except IndexError:
            raise IndexError(f"frame {index} is wanted, the series has {len(self)} frames") from None
        labels = self.labels[k]
        points = None if self.point_certainty is None else self.point_certainty[k]
        certainty = None
        if points is not None:
            shown = points
            if self.model.upsampling:
                shown = self.model.descriptor.grid(labels.shape, self.model.stride).upsample(points)
            certainty = np.where(labels >= 0, shown, np.float32(0))
        elif self.point_certainty is not None:
            certainty = np.zeros(labels.shape, np.float32)
        flag = self.frames_flagged.get(k, "")
        return FrameSegmentation(
            k, labels, certainty, float(self.certainty[k]), self.area_fractions[k], flag, points
        )

    def __repr__(self) -> str:
        flagged = f", {len(self.frames_flagged)} flagged" if self.frames_flagged else ""
        ended = ", ended early" if self.ended_early else ""
        return f"<SeriesSegmentation of {len(self)} frames into {self.n_patterns} patterns{flagged}{ended}>"


def label_type(n_patterns: int) -> Any:
    """The smallest type that holds the labels of so many patterns, -1 included.

    Parameters
    ----------
    n_patterns : int

    Returns
    -------
    numpy.int8 or numpy.int16
    """
    return np.int8 if n_patterns <= np.iinfo(np.int8).max else np.int16
