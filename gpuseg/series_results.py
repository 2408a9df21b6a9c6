"""What a series of frames gives."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    certainty : (H, W) float32 array, on the host
        0 everywhere in a dead frame.
    mean_certainty : float
        Of the labelled pixels; NaN in a dead frame.
    area_fractions : (n,) float64 array
        Share of each pattern in the labelled pixels; NaN in a dead frame.
    flag : str
        Why the frame is suspicious or dead; empty for a good one.
    """

    index: int
    labels: np.ndarray = field(repr=False)
    certainty: np.ndarray = field(repr=False)
    mean_certainty: float
    area_fractions: np.ndarray
    flag: str = ""

    @property
    def is_dead(self) -> bool:
        """Whether the frame was passed over."""
        return bool(np.isnan(self.mean_certainty))


@dataclass(frozen=True, eq=False)
class SeriesSegmentation:
    """What `segment_series` found.

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
    """

    model: SegmentationModel
    certainty: np.ndarray
    area_fractions: np.ndarray
    frames_flagged: dict[int, str]
    ended_early: str = ""
    seconds: float = 0.0
    folder: Path | None = None
    stack: np.ndarray | None = field(default=None, repr=False)

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
