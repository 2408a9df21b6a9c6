"""Labels of frames as they come: everything that does not depend on the frame is planned once."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuseg.arrays import home_of, is_out_of_memory, move, namespace, resolve_device, to_numpy
from gpuseg.checks import check_image, check_int, check_mask, check_radius
from gpuseg.descriptors.base import DeadImageError, valid_pixels
from gpuseg.descriptors.translation import Translations, choose_method
from gpuseg.engines import engine_for
from gpuseg.large import MemoryPlan, describe_image, plan_memory, within_memory
from gpuseg.prediction import PatternPlan
from gpuseg.stages import label_components, mean_misfit, project_points, shown_labels

__all__ = ["LabelledFrame", "Labeller"]

log = logging.getLogger("gpuseg")


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """What a `Labeller` tells of a frame; arrays live where the frame lives.

    Parameters
    ----------
    labels : (H, W) or (h, w) int32 array
        As in `gpuseg.Segmentation`.
    certainty : (H, W) or (h, w) float32 array
    point_labels : (h, w) int32 array
    point_certainty : (h, w) float32 array
    misfit : float
        As `gpuseg.Segmentation.misfit`; NaN where it was not asked for.
    """

    labels: Any
    certainty: Any
    point_labels: Any
    point_certainty: Any
    misfit: float


class Labeller:
    """Labels frames of one shape with the patterns of a model: ``SegmentationModel.labeller`` makes it.

    Calling it gives what ``model.predict(frame).labels`` is, without descriptors, which are never kept and on
    a GPU never written. For translations (`gpuseg.LocalCorrelationMap`, `gpuseg.PreselectedTranslations`)
    one pass goes from the image to the labels; on a GPU its launches are a CUDA graph. Other descriptors, and
    frames with pixels that are not finite, take the stages of `predict` that labels need.

    Parameters
    ----------
    model : gpuseg.SegmentationModel
    image_shape : (H, W) of int
        Of all frames.
    mask : (H, W) array_like of bool, optional
        True where a pixel may be used, of all frames.
    device : {"auto", "cpu", "cuda", "cuda:i"}
    max_memory : int or str, optional
        As in `gpuseg.segment`, of a frame.

    Raises
    ------
    TypeError, ValueError
        For a shape or mask that makes no sense, and a shape too small for the descriptor.
    gpuseg.DeviceError
        If a GPU is asked for and cannot be used.

    Attributes
    ----------
    model : gpuseg.SegmentationModel
    image_shape : (H, W) of int
    device : gpuseg.arrays.Device
        Where it works.
    fused : bool
        Whether one pass goes from the image to the labels.

    Examples
    --------
    >>> import gpuseg
    >>> first = gpuseg.synthetic.bicrystal((200, 200), random_state=0).image
    >>> label = gpuseg.segment(first, random_state=0, device="cpu").model.labeller((200, 200), device="cpu")
    >>> label(first).shape
    (200, 200)
    """

    def __init__(
        self,
        model: Any,
        image_shape: tuple[int, int],
        mask: Any = None,
        device: Any = "auto",
        *,
        max_memory: int | str | None = None,
    ) -> None:
        self.model, self.image_shape = model, _check_shape(image_shape)
        self.device, self._max_memory = resolve_device(device), max_memory
        mask = check_mask(mask, self.image_shape)
        self._mask = None if mask is None or bool(namespace(mask).all(mask)) else to_numpy(mask)
        with self.device.current:
            self._plan = self._planned()
        self._free: list[Any] = []

    @property
    def fused(self) -> bool:
        """Whether one pass goes from the image to the labels."""
        return self._plan is not None

    def __call__(self, frame: Any, certainty: bool = False) -> Any:
        """Label a frame.

        Parameters
        ----------
        frame : (H, W) array_like
            Of the shape that was planned for; any real dtype, NumPy, CuPy or what speaks DLPack.
        certainty : bool
            Whether the certainty is wanted too.

        Returns
        -------
        labels : (H, W) int32 array
            As ``model.predict(frame).labels``: (h, w) if the model does not upsample.
        certainty : (H, W) float32 array
            Only if asked for.

        Raises
        ------
        TypeError, ValueError
            For a frame of another shape or kind, a constant one, and one without a finite pixel.
        """
        found = self._finish(self._start(frame, certainty, False))
        return (found.labels, found.certainty) if certainty else found.labels

    def frame(self, frame: Any) -> LabelledFrame:
        """Label a frame and tell all that was found.

        Parameters
        ----------
        frame : (H, W) array_like

        Returns
        -------
        LabelledFrame

        Raises
        ------
        TypeError, ValueError
            As calling it.
        """
        return self._finish(self._start(frame, True, True))

    def stream(self, frames: Iterable[Any], certainty: bool = False) -> Iterator[Any]:
        """Label frames as they come.

        On a GPU the next frame is fetched and copied there while one is worked on, so labels come one frame
        later; memory on the host that the copies use is pinned. The memory of a frame may be used again as
        soon as the next one is asked for.

        Parameters
        ----------
        frames : iterable of (H, W) array_like
        certainty : bool
            Whether the certainty is wanted too.

        Yields
        ------
        labels, or (labels, certainty)
            As calling it; -1 everywhere for a frame that is constant or has no finite pixel.

        Raises
        ------
        TypeError, ValueError
            For a frame of another shape or kind, when those before it are done.
        """
        waiting: deque[_Started] = deque()
        at_a_time = engine_for(self.device).FRAMES_AT_A_TIME if self.fused else 1
        try:
            source, error = iter(frames), None
            while error is None:
                try:
                    waiting.append(self._start(next(source), certainty, False))
                except StopIteration:
                    break
                except Exception as reason:  # whatever it is, the frames before it are whole
                    error = reason
                    break
                while len(waiting) >= at_a_time:
                    yield self._shown(waiting.popleft(), certainty)
            while waiting:
                yield self._shown(waiting.popleft(), certainty)
            if error is not None:
                raise error
        finally:  # also if nobody asks for the rest
            for each in waiting:
                self._finish(each)

    def __repr__(self) -> str:
        how = "in one pass" if self.fused else "stage by stage"
        rows, cols = self.image_shape
        return f"<Labeller of frames of {rows} x {cols} pixels, {how}, on {self.device}>"

    def _shown(self, started: _Started, certainty: bool) -> Any:
        try:
            found = self._finish(started)
            labels, sure = found.labels, found.certainty
        except DeadImageError:
            shape = self.image_shape if self.model.upsampling else self._grid().shape
            labels, sure = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
            labels, sure = move(labels, started.home), move(sure, started.home)
        return (labels, sure) if certainty else labels

    def _grid(self) -> Any:
        return self.model.descriptor.grid(self.image_shape, self.model.stride)

    def _start(self, frame: Any, certainty: bool, details: bool) -> _Started:
        """Begin with a frame; on a GPU without waiting for it."""
        image = check_image(frame)
        if tuple(image.shape) != self.image_shape:
            raise ValueError(
                f"`frame` has shape {tuple(image.shape)}; this labeller is for frames of shape "
                f"{self.image_shape}; make one for others with model.labeller({tuple(image.shape)})"
            )
        home, path = home_of(image), self._path()
        if path is not None:
            with self.device.current:
                path.submit(image if home.kind == "cpu" else move(image, self.device), certainty, details)
        return _Started(image if path is None else None, home, path, details)

    def _finish(self, started: _Started) -> LabelledFrame:
        """Wait for a frame."""
        path = started.path
        if path is None:
            return self._by_stages(started.image, started.details)
        with self.device.current:
            try:
                found = path.result()
            finally:
                self._free.append(path)
        if found.n_broken:
            return self._by_stages(move(found.frame, started.home), started.details)
        if found.constant:
            raise DeadImageError(
                f"`image` of shape {self.image_shape} is constant; there is nothing to tell apart"
            )
        parts = found.labels, found.certainty, found.point_labels, found.point_certainty
        return _at_home(parts, found.misfit, started.home)

    def _by_stages(self, image: Any, details: bool) -> LabelledFrame:
        """The stages of `SegmentationModel.predict` that labels need."""
        model, where, home = self.model, self.device, home_of(image)
        mask = None if self._mask is None else move(self._mask, where)
        memory = self._memory()

        def run(memory: MemoryPlan | None) -> LabelledFrame:
            with where.current:
                described = describe_image(model.descriptor, image, model.stride, mask, where, memory)
                mean, axes, centers = (
                    move(each, where) for each in (model.mean, model.components, model.cluster_centers)
                )
                components = project_points(described, mean, axes)
                complete = described.n_usable == described.grid.size
                points, sure = label_components(components, centers, described.grid, complete)
                valid = valid_pixels(move(image, where), mask)
                shown = shown_labels(described.grid, points, sure, valid, model.upsampling, complete)
                misfit = mean_misfit(described, components, mean, centers) if details else math.nan
                return _at_home((*shown, points, sure), misfit, home)

        return within_memory(run, memory, where)

    def _memory(self) -> MemoryPlan | None:
        model = self.model
        n_components = int(model.components.shape[0])
        return plan_memory(
            model.descriptor, self.image_shape, model.stride, n_components, self._max_memory, self.device
        )

    def _planned(self) -> PatternPlan | None:
        """What one pass from the image to the labels needs; None where there is no such pass."""
        model, descriptor, engine = self.model, self.model.descriptor, engine_for(self.device)
        if not isinstance(descriptor, Translations):
            if hasattr(descriptor, "grid"):
                self._grid()  # tells if the frames are too small
            return None
        grid, radius = self._grid(), check_radius(descriptor.patch_radius, "patch_radius")
        shifts = np.array([(t.d_row, t.d_col) for t in descriptor.operations()], np.int64)
        memory = self._memory()
        in_memory = memory is None or memory.n_bands == 1 or self.device.kind != "cpu"
        if len(shifts) != model.components.shape[1] or not in_memory:
            return None
        method = descriptor.method
        plan = PatternPlan(
            grid,
            shifts,
            radius,
            choose_method(grid, shifts, radius) if method == "auto" else method,
            np.asarray(model.mean),
            np.asarray(model.components),
            np.asarray(model.cluster_centers),
            valid=self._mask,
            fills=descriptor.border == "full" or self._mask is not None,
        )
        return plan if plan.scores_something and engine.can_label(plan) else None

    def _path(self) -> Any:
        """A way to the labels that no other frame is on; None where frames go from stage to stage."""
        if self._plan is None or self._free:
            return self._free.pop() if self._free else None
        try:
            with self.device.current:
                return engine_for(self.device).frame_path(self._plan, self.model.upsampling)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("no memory to label frames in one pass (%s): stage by stage", error)
            self._plan = None
            return None


@dataclass(frozen=True, eq=False)
class _Started:
    """A frame that is worked on: on its way, or itself where it goes from stage to stage."""

    image: Any
    home: Any
    path: Any
    details: bool


def _at_home(parts: tuple[Any, Any, Any, Any], misfit: float, home: Any) -> LabelledFrame:
    labels, certainty, point_labels, point_certainty = (
        None if each is None else move(each, home) for each in parts
    )
    return LabelledFrame(labels, certainty, point_labels, point_certainty, misfit)


def _check_shape(shape: Any) -> tuple[int, int]:
    if not isinstance(shape, tuple | list | np.ndarray) or len(shape) != 2:
        raise TypeError(f"`image_shape` is {shape!r}; a pair (rows, columns) is needed, such as image.shape")
    rows, cols = (check_int(n, "image_shape", 1) for n in shape)
    return rows, cols
