"""Series past one machine: the frames of a dask array, labelled some at a time by whatever workers dask has.

What is learnt is learnt where it is called, from the few frames it is learnt from, as of any other series.
The rest is labelled on the workers, each of which gets the model and some whole frames: a frame has to fit
into the memory of a worker, the series nowhere. See `gpuseg.dask` for workers and GPUs.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from gpuseg.arrays import to_numpy
from gpuseg.segmentation import SegmentationModel
from gpuseg.series import SeriesError, SeriesIterator, collect
from gpuseg.series_results import FrameSegmentation, SeriesSegmentation, label_type

__all__ = ["DaskSeriesIterator", "DaskSeriesSegmentation"]

LEAST_PIXELS, MOST_PIXELS = 1 << 22, 1 << 26
"""Frames are worked on together until they have so many pixels, and chunks of more than so many are cut."""

PARTS_AT_A_TIME = 16
"""Where frames are asked for one after the other, so many tasks are under way beside each other."""


class DaskSeriesIterator(SeriesIterator):
    """The frames of a dask array, labelled some at a time and given one by one.

    Parameters
    ----------
    frames : (T, H, W) dask array
    model, image_shape, label_shape, mask, device, max_memory
        As in `gpuseg.series.SeriesIterator`.
    """

    def __init__(
        self,
        frames: Any,
        model: SegmentationModel,
        image_shape: tuple[int, int],
        label_shape: tuple[int, int],
        mask: Any,
        device: Any,
        max_memory: int | str | None = None,
    ) -> None:
        super().__init__(iter(()), model, image_shape, label_shape, mask, device, max_memory)
        self.length = int(frames.shape[0])
        self.spans = _spans(frames)
        self.parts = self._tasks(frames)
        self._ready: list[FrameSegmentation] = []

    def __next__(self) -> FrameSegmentation:
        following = self._index + 1
        if following >= self.length:
            raise StopIteration
        if not self._ready:
            self._ready = self._compute(following)
        self._index = following
        return self._ready.pop()

    def skip(self, n_frames: int) -> None:
        """Pass over frames without labelling them.

        Parameters
        ----------
        n_frames : int

        Raises
        ------
        SeriesError
            If the series has fewer.
        """
        if self._index + 1 + n_frames > self.length:
            raise SeriesError(
                f"the series has {self.length} frames, but {n_frames} were done before; "
                "give the same series, or start again with force (--force)"
            )
        self._index += n_frames
        self._ready = []

    def _compute(self, frame: int) -> list[FrameSegmentation]:
        """Some frames from this one on, the first one last."""
        import dask

        first = self.part_of(frame)
        parts = self.parts[first : first + PARTS_AT_A_TIME]
        try:
            found = dask.compute(*parts)
        except Exception:
            try:  # those before the broken one are whole
                found = dask.compute(parts[0])
            except Exception as error:
                begin, end = self.spans[first]
                told = " ".join(str(error).split()) or type(error).__name__
                raise SeriesError(
                    f"the series broke off in frames {begin} to {end - 1}: {told}; "
                    "the frames before are whole"
                ) from error
        frames = list(itertools.chain.from_iterable(found))
        return (
            frames[: frame - self.spans[first][0] - 1 : -1] if frame > self.spans[first][0] else frames[::-1]
        )

    def part_of(self, frame: int) -> int:
        """The part that holds a frame.

        Parameters
        ----------
        frame : int

        Returns
        -------
        int
        """
        return int(np.searchsorted([end for _, end in self.spans], frame, side="right"))

    def _tasks(self, frames: Any) -> list[Any]:
        """One delayed list of `FrameSegmentation` for each span."""
        import dask
        import dask.array

        task = dask.delayed(label_frames, pure=False)
        model = dask.delayed(self.model, pure=False, traverse=False)
        mask, one = self._mask, None
        several = mask is not None and np.ndim(mask) == 3
        if mask is not None and not several:
            one = dask.delayed(to_numpy(mask), pure=False, traverse=False)
        if several and not hasattr(mask, "dask"):
            mask = dask.array.from_array(np.asarray(mask), chunks=(1, -1, -1))
        return [
            task(
                _whole(frames[begin:end]),
                _whole(mask[begin:end]) if several else one,
                begin,
                model,
                self.image_shape,
                self.label_shape,
                self._device,
                self._max_memory,
            )
            for begin, end in self.spans
        ]


def label_frames(
    frames: Any,
    mask: Any,
    first: int,
    model: SegmentationModel,
    image_shape: tuple[int, int],
    label_shape: tuple[int, int],
    device: Any,
    max_memory: int | str | None,
) -> list[FrameSegmentation]:
    """Label some frames; runs on a worker.

    Parameters
    ----------
    frames : (t, H, W) array
    mask : (H, W) or (t, H, W) array, or None
    first : int
        Number of the first of them in the series.
    model, image_shape, label_shape, device, max_memory
        As in `gpuseg.series.SeriesIterator`.

    Returns
    -------
    list of FrameSegmentation
    """
    walk = SeriesIterator(iter(frames), model, image_shape, label_shape, mask, device, max_memory)
    return [replace(frame, index=first + frame.index) for frame in walk]


@dataclass(frozen=True, eq=False)
class DaskSeriesSegmentation:
    """What `gpuseg.segment_series` gives of a dask array: learnt, with the labels still to be computed.

    ``series[k]`` computes frame k, a `FrameSegmentation`; iterating gives one after the other, computed many
    at a time.

    Parameters
    ----------
    model : SegmentationModel
        What was learnt.
    labels : (T, H, W) dask array of int8 (int16 for more than 127 patterns)
        As in `gpuseg.SeriesSegmentation`.
    pixel_certainty : (T, H, W) float32 dask array
        Certainty of every label, 0 where masked and in dead frames.
    certainty : (T,) float64 dask array
        Mean certainty of each frame; NaN for a dead one.
    area_fractions : (T, n) float64 dask array
        Share of each pattern in each frame; NaN for a dead one.
    walk : DaskSeriesIterator
        What labels the frames.
    begin : float
        When the work began, as `time.perf_counter` tells.
    """

    model: SegmentationModel
    labels: Any
    pixel_certainty: Any
    certainty: Any
    area_fractions: Any
    walk: DaskSeriesIterator = field(repr=False)
    begin: float = field(repr=False, default=0.0)

    @classmethod
    def of(cls, walk: DaskSeriesIterator, begin: float) -> DaskSeriesSegmentation:
        """What an iterator is going to give.

        Parameters
        ----------
        walk : DaskSeriesIterator
            At its beginning.
        begin : float
            When the work began, as `time.perf_counter` tells.

        Returns
        -------
        DaskSeriesSegmentation
        """
        n = int(walk.model.cluster_centers.shape[0])

        def array(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
            import dask
            import dask.array

            task = dask.delayed(_stacked, pure=False)
            return dask.array.concatenate(
                [
                    dask.array.from_delayed(task(part, name), (end - first, *shape), dtype)
                    for (first, end), part in zip(walk.spans, walk.parts, strict=True)
                ]
            )

        return cls(
            walk.model,
            array("labels", walk.label_shape, label_type(n)),
            array("certainty", walk.label_shape, np.float32),
            array("mean_certainty", (), np.float64),
            array("area_fractions", (n,), np.float64),
            walk,
            begin,
        )

    @functools.cached_property
    def frames_flagged(self) -> dict[int, str]:
        """Number of each dead or suspicious frame -> reason; computes all frames."""
        import dask

        task = dask.delayed(_flags, pure=False)
        found = dask.compute(*(task(part) for part in self.walk.parts))
        return {index: flag for flags in found for index, flag in flags.items()}

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return int(self.model.cluster_centers.shape[0])

    def compute(self) -> SeriesSegmentation:
        """The same in memory; a series that breaks off gives the frames before.

        Returns
        -------
        SeriesSegmentation
        """
        return collect(self._again(), None, self.begin)

    def _again(self) -> DaskSeriesIterator:
        import copy

        return copy.copy(self.walk)

    def __len__(self) -> int:
        return self.walk.length

    def __iter__(self) -> Iterator[FrameSegmentation]:
        return self._again()

    @overload
    def __getitem__(self, index: int) -> FrameSegmentation: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameSegmentation]: ...

    def __getitem__(self, index: int | slice) -> FrameSegmentation | list[FrameSegmentation]:
        import dask

        chosen = range(len(self))[index] if isinstance(index, slice) else [self._checked(index)]
        places = [(k, self.walk.part_of(k)) for k in chosen]
        found = dask.compute(*(self.walk.parts[part][k - self.walk.spans[part][0]] for k, part in places))
        return list(found) if isinstance(index, slice) else found[0]

    def _checked(self, index: int) -> int:
        try:
            return range(len(self))[operator.index(index)]
        except IndexError:
            raise IndexError(f"frame {index} is wanted, the series has {len(self)} frames") from None

    def __repr__(self) -> str:
        return f"<DaskSeriesSegmentation of {len(self)} frames into {self.n_patterns} patterns, not computed>"


def _stacked(frames: list[FrameSegmentation], name: str) -> np.ndarray:
    return np.array([getattr(frame, name) for frame in frames])


def _flags(frames: list[FrameSegmentation]) -> dict[int, str]:
    return {frame.index: frame.flag for frame in frames if frame.flag}


def _whole(array: Any) -> Any:
    """An array as one delayed NumPy or CuPy array; its chunks are read once for all that need them."""
    return array.rechunk(-1).to_delayed(optimize_graph=False).item()


def _spans(frames: Any) -> list[tuple[int, int]]:
    """First frame, and the one after the last, of each task: as the chunks are, neither tiny nor huge."""
    pixels = max(1, int(frames.shape[1]) * int(frames.shape[2]))
    least, most = -(-LEAST_PIXELS // pixels), max(1, MOST_PIXELS // pixels)
    ends = [0]
    for end in itertools.accumulate(frames.chunks[0]):
        if end - ends[-1] >= least or end == frames.shape[0]:
            parts = -(-(end - ends[-1]) // most)
            ends += np.linspace(ends[-1], end, parts + 1).round().astype(int).tolist()[1:]
    return list(itertools.pairwise(ends))
