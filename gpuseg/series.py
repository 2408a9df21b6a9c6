"""Series: patterns are learnt from a few frames, and every frame is labelled with them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpuseg.arrays import ingest, resolve_device, to_numpy
from gpuseg.checks import check_image, check_int, check_mask
from gpuseg.clustering import sizes
from gpuseg.descriptors import as_descriptor
from gpuseg.descriptors.base import DeadImageError, prepare
from gpuseg.descriptors.choice import describe
from gpuseg.frames import Frames, open_frames
from gpuseg.io import ReadError
from gpuseg.labeller import LabelledFrame, Labeller
from gpuseg.segmentation import Segmentation, SegmentationModel, segment_together
from gpuseg.series_results import FrameSegmentation, SeriesSegmentation, label_type
from gpuseg.series_writer import SeriesWriter, fingerprint

__all__ = [
    "FrameSegmentation",
    "SeriesError",
    "SeriesIterator",
    "SeriesSegmentation",
    "iterate_series",
    "segment_series",
]

log = logging.getLogger(__name__)

UNSURE = 0.5
"""A frame whose mean certainty is below this share of what is typical shows something else than was learnt.

Measured, default descriptor: frames of a moving boundary keep 0.98 of it, those of a drifting STM movie with
islands that come and go 0.75, those of a single noisy lattice (high-speed AFM), where two patterns mean
little, 0.65. Noise, ramps and another lattice: 0.03 to 0.10; another orientation: 0.55, see `FAR`.
"""

FAR = 2.5
"""A frame whose mean squared distance from the patterns is more than so many times the typical one does, too.

Certainty compares the two nearest patterns: where both are far it may be anything. Measured in the same
series: 1.2 at most for the boundary, 2.2 for the STM movie, 2.1 for the AFM lattice; its frames with scan
lines instead of the lattice have 2.9 to 100 (certainty 0.35 to 1.46 of the typical), synthetic strange
frames 4 to 190.
"""


class SeriesError(ReadError):
    """A series that broke off: the frames before are done, the text says where and why."""


class SeriesIterator(Iterator[FrameSegmentation]):
    """The frames of a series, labelled one by one. Made by `iterate_series`, which describes it.

    Parameters
    ----------
    frames : iterator of frames
    model : SegmentationModel
        What was learnt.
    image_shape : (H, W)
        Of a frame; frames of another shape are dead.
    label_shape : (H, W) or (h, w)
        Of its labels.
    mask : (H, W) or (T, H, W) array, or None
    device : {"auto", "cpu", "cuda", "cuda:i"}
    max_memory : int or str, optional
        As in `gpuseg.segment`, of a frame.
    """

    def __init__(
        self,
        frames: Iterator[Any],
        model: SegmentationModel,
        image_shape: tuple[int, int],
        label_shape: tuple[int, int],
        mask: Any,
        device: Any,
        max_memory: int | str | None = None,
    ) -> None:
        self.model, self.image_shape, self.label_shape = model, image_shape, label_shape
        self._frames, self._mask = frames, mask
        self._device, self._max_memory = device, max_memory
        self._labeller: Labeller | None = None
        self._index = -1

    def __next__(self) -> FrameSegmentation:
        image, why = _usable(self._next_frame(), self.image_shape)
        if image is None:
            return self._dead(why)
        try:
            found = self._labelled(image)
        except DeadImageError as error:
            return self._dead(str(error))
        return self._result(found)

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
        try:
            for _ in range(n_frames):
                self._next_frame()
        except StopIteration:
            raise SeriesError(
                f"the series has {self._index + 1} frames, but {n_frames} were done before; "
                "give the same series, or start again with force (--force)"
            ) from None

    def _next_frame(self) -> Any:
        try:
            frame = next(self._frames)
        except StopIteration:
            raise
        except Exception as error:  # whatever a stream breaks with, what came before it stands
            where = f"the series broke off at frame {self._index + 1}"
            raise SeriesError(f"{where}: {_line(error)}; the frames before it are whole") from error
        self._index += 1
        return frame

    def _labelled(self, image: Any) -> LabelledFrame | Segmentation:
        """The labels of a frame; nobody asks for its descriptors."""
        if self._mask is not None and np.ndim(self._mask) == 3:
            mask = mask_at(self._mask, self._index)
            return self.model.predict(image, mask, self._device, max_memory=self._max_memory)
        if self._labeller is None:
            where = resolve_device(self._device, image)
            self._labeller = self.model.labeller(
                self.image_shape, self._mask, where, max_memory=self._max_memory
            )
        return self._labeller.frame(image)

    def _result(self, found: LabelledFrame | Segmentation) -> FrameSegmentation:
        n_patterns = int(self.model.cluster_centers.shape[0])
        labels, certainty = to_numpy(found.labels), to_numpy(found.certainty)
        known = labels >= 0
        if not known.any():
            return self._dead("no pixel has a label")
        counts = sizes(labels[known], n_patterns)
        mean = float(certainty[known].mean(dtype=np.float64))
        return FrameSegmentation(
            self._index,
            labels.astype(label_type(n_patterns)),
            certainty,
            mean,
            counts / counts.sum(),
            self._unlike(mean, found.misfit),
            to_numpy(found.point_certainty),
        )

    def _unlike(self, mean: float, misfit: float) -> str:
        """What tells that a frame shows something else than was learnt; nothing if it does not."""
        sure, near = self.model.typical_certainty, self.model.typical_misfit
        if sure is not None and mean < UNSURE * sure:
            return f"unlike what was learnt: mean certainty {mean:.2f}, typical is {sure:.2f}"
        if near and misfit > FAR * near:
            return f"unlike what was learnt: {misfit / near:.1f} times as far from the patterns as is typical"
        return ""

    def _dead(self, why: str) -> FrameSegmentation:
        n_patterns = int(self.model.cluster_centers.shape[0])
        labels = np.full(self.label_shape, -1, label_type(n_patterns))
        certainty = np.zeros(self.label_shape, np.float32)
        nothing = np.full(n_patterns, np.nan)
        return FrameSegmentation(self._index, labels, certainty, float("nan"), nothing, f"dead: {why}")


def mask_at(mask: Any, index: int) -> Any:
    """The mask of a frame.

    Parameters
    ----------
    mask : (H, W) array, the same for all, (T, H, W) array, or None
    index : int

    Returns
    -------
    (H, W) array or None

    Raises
    ------
    ValueError
        If there is none for this frame.
    """
    if mask is None or np.ndim(mask) != 3:
        return mask
    if index >= len(mask):
        raise ValueError(f"`mask` has {len(mask)} frames, but the series goes on; one for each is needed")
    return mask[index]


def iterate_series(
    frames: Any,
    n_patterns: int | str = 2,
    *,
    fit_frames: int | Sequence[int] = 1,
    n_operations: int | None = None,
    descriptor: Any = None,
    stride: int | str = 5,
    n_components: int | float = 5,
    upsampling: bool = True,
    sort_labels_by_pattern_size: bool = True,
    random_state: Any = None,
    mask: Any = None,
    device: Any = "auto",
    max_memory: int | str | None = None,
    model: SegmentationModel | None = None,
    dataset: str | int | None = None,
) -> SeriesIterator:
    """Label the frames of a series one by one, however many there are.

    Learns at once from the first frames, then gives a `FrameSegmentation` per frame as it is asked for; no
    more than one frame is kept, beside those up to the last one learnt from if `frames` is an iterator.

    Parameters
    ----------
    frames, n_patterns, fit_frames, n_operations
        As in `segment_series`.
    descriptor, stride, n_components, upsampling, sort_labels_by_pattern_size, random_state, mask, device
        As in `gpuseg.segment`.
    max_memory, model, dataset
        As in `segment_series`.

    Returns
    -------
    SeriesIterator
        With `model`, before the first frame is asked for.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, gpuseg.DeviceError
        As `segment_series`, and `SeriesError` while iterating where the series breaks off.

    Examples
    --------
    >>> import gpuseg
    >>> movie = gpuseg.synthetic.boundary_movie((200, 200), n_frames=3, random_state=0)
    >>> for frame in gpuseg.iterate_series((scene.image for scene in movie), random_state=0):
    ...     print(frame.index, frame.labels.shape)
    0 (200, 200)
    1 (200, 200)
    2 (200, 200)
    """
    source = open_frames(frames, dataset=dataset)
    if np.ndim(mask) == 3 and source.length is not None and len(mask) != source.length:
        raise ValueError(
            f"`mask` has {len(mask)} frames, the series {source.length}; as many, or one mask, are needed"
        )
    images, walk = _gather(source, fit_frames if model is None else 1, mask, device)
    masks = [mask_at(mask, index) for index in images]
    if model is None:
        found = segment_together(
            list(images.values()),
            n_patterns,
            descriptor=descriptor,
            stride=stride,
            n_components=n_components,
            upsampling=upsampling,
            sort_labels_by_pattern_size=sort_labels_by_pattern_size,
            random_state=random_state,
            masks=masks,
            device=device,
            max_memory=max_memory,
        )
        model = found[0].model
        if n_operations is not None:
            model = model.select(n_operations, found)
            log.info("%d operations label %.2f %% as all do", n_operations, 100 * (model.accuracy or 0))
    elif n_operations is not None:
        raise ValueError("`n_operations` goes with learning, but `model` is given; use model.select(...)")
    first = next(iter(images.values()))
    image_shape = label_shape = tuple(first.shape)
    if not model.upsampling:
        found_once = model.predict(first, mask=masks[0], device=device, max_memory=max_memory)
        label_shape = tuple(found_once.labels.shape)
    return _iterator(source, walk, model, image_shape, label_shape, mask, device, max_memory)


def _iterator(source: Frames, walk: Iterator[Any], *rest: Any) -> SeriesIterator:
    """What labels the frames, from the beginning."""
    if source.chunked is None:
        return SeriesIterator(walk, *rest)
    from gpuseg.dask_series import DaskSeriesIterator

    return DaskSeriesIterator(source.chunked, *rest)


def segment_series(
    frames: Any,
    n_patterns: int | str = 2,
    *,
    fit_frames: int | Sequence[int] = 1,
    n_operations: int | None = None,
    descriptor: Any = None,
    stride: int | str = 5,
    n_components: int | float = 5,
    upsampling: bool = True,
    sort_labels_by_pattern_size: bool = True,
    random_state: Any = None,
    mask: Any = None,
    device: Any = "auto",
    max_memory: int | str | None = None,
    model: SegmentationModel | None = None,
    dataset: str | int | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    callback: Callable[[FrameSegmentation], Any] | None = None,
) -> SeriesSegmentation:
    """Segment a series: learn the patterns from one or a few frames, label every frame with them.

    A pattern keeps its label in every frame. A dead frame (constant, without a finite pixel, of another
    shape, unreadable) gets the label -1 and is flagged; one that is unlike what was learnt is labelled and
    flagged. A series that breaks off gives the frames before.

    Parameters
    ----------
    frames : path, (T, H, W) array, list or iterator of (H, W) arrays
        A path is a folder of images, a TIFF stack, .npy, .npz, .zarr (where zarr is installed) or another
        file of `gpuseg.io`.
    n_patterns : int or "auto"
        Number of patterns; "auto" finds it in the frames that are learnt from.
    fit_frames : int or sequence of int
        How many frames to learn from, the first ones that are not dead, or which; their descriptors are
        pooled.
    n_operations : int, optional
        Label by so many operations only, those of largest separability: faster, nearly the same labels.
        All of them if None.
    descriptor, stride, n_components, upsampling, sort_labels_by_pattern_size, random_state, mask, device
        As in `gpuseg.segment`. A mask (H, W) holds for every frame; (T, H, W) is one for each.
    max_memory : int or str, optional
        As in `gpuseg.segment`, for labelling a frame; the frames to learn from share it. The labels do not
        depend on it. Beside it a frame and its labels are in memory, and all labels where `out` is None.
    model : SegmentationModel, optional
        Learnt before; then nothing is learnt here, and what belongs to learning is not looked at.
    dataset : str or int, optional
        Name or number of the stack in a file with several.
    out : path, optional
        Folder for labels.tif, frames.csv, model.npz and summary.json. Every frame is written when it is
        done, so memory does not grow with the series, and a run that was interrupted goes on where it
        stopped when called again alike.
    force : bool
        Whether a result in `out`, whole or not, may be replaced.
    callback : callable, optional
        Called with the `FrameSegmentation` of every frame.

    Returns
    -------
    SeriesSegmentation
        Of a dask array without `out` and `callback` a `gpuseg.dask_series.DaskSeriesSegmentation`: learnt,
        with labels that are still to be computed by dask's workers.

    Raises
    ------
    TypeError, ValueError
        For frames or a parameter that make no sense, and where no frame can be learnt from.
    FileNotFoundError, FileExistsError
        If there is no such file; if `out` holds a result already, or an interrupted one of other parameters.
    gpuseg.DeviceError
        If a GPU is asked for and cannot be used.
    """
    begin = time.perf_counter()
    source = open_frames(frames, dataset=dataset)
    learning = {
        "n_operations": n_operations,
        "descriptor": descriptor,
        "stride": stride,
        "n_components": n_components,
        "upsampling": upsampling,
        "sort_labels_by_pattern_size": sort_labels_by_pattern_size,
        "random_state": random_state,
    }
    given = {"fit_frames": fit_frames, "mask": mask, "model": model}
    resources: dict[str, Any] = {"device": device, "max_memory": max_memory}
    if out is None:
        walk = iterate_series(source, n_patterns, **given, **learning, **resources)
        if source.chunked is not None and callback is None:
            from gpuseg.dask_series import DaskSeriesSegmentation

            return DaskSeriesSegmentation.of(walk, begin)  # type: ignore[arg-type,return-value]
        return collect(walk, callback, begin)
    told = {
        **learning,
        "n_patterns": n_patterns,
        "fit_frames": fit_frames,
        "descriptor": describe(as_descriptor(descriptor)),
        "mask": fingerprint(mask),
        "model": None if model is None else fingerprint(model.components),
        "frames": source.name,
    }
    with SeriesWriter(Path(out), told, force, source.pixel_size, source.unit) as writer:
        kept = writer.model
        if kept is None:
            walk = iterate_series(source, n_patterns, **given, **learning, **resources)
            writer.begin(walk.model, walk.image_shape, walk.label_shape)
        else:
            log.info("%s: going on after %d frames", out, writer.done)
            shapes = writer.image_shape, writer.label_shape
            walk = _iterator(source, iter(source), kept, *shapes, mask, device, max_memory)
            walk.skip(writer.done)
        ended = _each(walk, writer.append, callback)
        return writer.finish(ended, time.perf_counter() - begin)


def _each(walk: SeriesIterator, *consumers: Callable[[FrameSegmentation], Any] | None) -> str:
    """Give every frame to all consumers; why the series broke off, or nothing."""
    try:
        for frame in walk:
            if frame.flag:
                log.info("frame %d is flagged: %s", frame.index, frame.flag)
            for consume in consumers:
                if consume is not None:
                    consume(frame)
    except SeriesError as error:
        log.warning("%s", error)
        return str(error)
    return ""


def collect(
    walk: SeriesIterator, callback: Callable[[FrameSegmentation], Any] | None, begin: float
) -> SeriesSegmentation:
    """Everything that an iterator gives, in memory.

    Parameters
    ----------
    walk : SeriesIterator
    callback : callable or None
        As in `segment_series`.
    begin : float
        When the work began, as `time.perf_counter` tells.

    Returns
    -------
    SeriesSegmentation
    """
    labels: list[np.ndarray] = []
    sure: list[np.ndarray | None] = []
    rows: list[tuple[float, np.ndarray, str]] = []

    def keep(frame: FrameSegmentation) -> None:
        labels.append(frame.labels)
        sure.append(frame.point_certainty)
        rows.append((frame.mean_certainty, frame.area_fractions, frame.flag))

    ended = _each(walk, keep, callback)
    n_patterns = int(walk.model.cluster_centers.shape[0])
    return SeriesSegmentation(
        model=walk.model,
        certainty=np.array([certainty for certainty, _, _ in rows], np.float64),
        area_fractions=np.array([areas for _, areas, _ in rows], np.float64).reshape(-1, n_patterns),
        frames_flagged={k: flag for k, (_, _, flag) in enumerate(rows) if flag},
        ended_early=ended,
        seconds=time.perf_counter() - begin,
        stack=np.array(labels, label_type(n_patterns)).reshape(-1, *walk.label_shape),
        point_certainty=sure,
    )


def _gather(
    source: Frames, fit_frames: int | Sequence[int], mask: Any, device: Any
) -> tuple[dict[int, Any], Iterator[Any]]:
    """The frames to learn from by their number, and the whole series from its beginning."""
    wanted = _wanted(fit_frames)
    stream, passed = iter(source), []
    chosen: dict[int, Any] = {}
    broken, why, index = None, "it is empty", -1
    while len(chosen) < (wanted if isinstance(wanted, int) else len(wanted)):
        try:
            frame = next(stream)
        except StopIteration:
            break
        except Exception as error:  # raised again when the frames before it are done
            broken = error
            break
        index += 1
        if source.once:  # a camera may hand out the same memory again and again
            frame = frame if isinstance(frame, ReadError) else _copy(frame)
            passed.append(frame)
        if isinstance(wanted, int) or index in wanted:
            shape = next(iter(chosen.values())).shape if chosen else None
            image, why = _scorable(frame, shape, mask_at(mask, index), device)
            if image is not None:
                chosen[index] = image
            elif not isinstance(wanted, int):
                raise ValueError(f"`fit_frames` names frame {index}, which is dead: {why}")
    if not chosen or (not isinstance(wanted, int) and len(chosen) < len(wanted)):
        if broken is not None:
            raise SeriesError(f"the series broke off at frame {index + 1}: {_line(broken)}") from broken
        if not isinstance(wanted, int):
            raise ValueError(f"`fit_frames` names frame {max(wanted)}; the series has {index + 1} frames")
        raise ValueError(f"`frames` has no frame that can be learnt from, of {index + 1}: {why}")
    return chosen, _again(passed, stream, broken) if source.once else iter(source)


def _wanted(fit_frames: int | Sequence[int]) -> int | set[int]:
    """How many frames to learn from, or which."""
    if isinstance(fit_frames, list | tuple | range | set | np.ndarray):
        indices = {check_int(index, "fit_frames", 0) for index in fit_frames}
        if not indices:
            raise ValueError("`fit_frames` is empty; at least one frame to learn from is needed")
        return indices
    return check_int(fit_frames, "fit_frames", 1)


def _again(passed: list[Any], stream: Iterator[Any], broken: Exception | None) -> Iterator[Any]:
    passed.reverse()
    while passed:
        yield passed.pop()
    if broken is not None:
        raise broken
    yield from stream


def _copy(frame: Any) -> Any:
    try:
        return ingest(frame).copy()
    except (TypeError, ValueError):  # no array; what is wrong with it is told when its turn comes
        return frame


def _usable(frame: Any, shape: tuple[int, int] | None) -> tuple[Any, str]:
    """The frame as an array, or None and why it cannot be labelled."""
    if isinstance(frame, ReadError):
        return None, str(frame)
    try:
        image = check_image(frame)
    except (TypeError, ValueError) as error:
        return None, str(error)
    if shape is not None and tuple(image.shape) != tuple(shape):
        return None, f"the frame has shape {tuple(image.shape)}, the others {tuple(shape)}"
    return image, ""


def _scorable(frame: Any, shape: tuple[int, int] | None, mask: Any, device: Any) -> tuple[Any, str]:
    """The same, after a look at whether anything can be scored."""
    image, why = _usable(frame, shape)
    if image is None:
        return None, why
    mask = check_mask(mask, image.shape)
    try:
        prepare(image, mask, resolve_device(device, image))
    except DeadImageError as error:
        return None, str(error)
    return image, ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
