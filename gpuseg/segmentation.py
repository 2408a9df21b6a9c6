"""Segmentation of an image by local symmetry: descriptors, components, patterns, labels."""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuseg.arrays import Device, home_of, is_dask, move, namespace, resolve_device
from gpuseg.checks import check_image, check_int_or_auto, check_mask, check_memory
from gpuseg.clustering import check_random_state
from gpuseg.decomposition import check_n_components
from gpuseg.descriptors import Descriptors, as_descriptor
from gpuseg.descriptors.base import valid_pixels
from gpuseg.descriptors.choice import describe, from_description
from gpuseg.evidence import Evidence, reach_of
from gpuseg.grid import Grid
from gpuseg.labeller import Labeller
from gpuseg.large import MemoryPlan, describe_image, memory_is_told, plan_memory, within_memory
from gpuseg.selection import select_operations
from gpuseg.separability import separability_of_parts
from gpuseg.sizes import resolve, wants_sizes
from gpuseg.stages import (
    Stopwatch,
    label_components,
    learn,
    mean_misfit,
    project_points,
    shown_labels,
    tally,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Segmentation", "SegmentationModel", "segment"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What `segment` found, every stage of it. Arrays live where the image lives.

    Parameters
    ----------
    image : (H, W) array
        As it was given.
    labels : (H, W) int32 array
        Pattern of every pixel, 0 .. n_patterns - 1, where 0 is the smallest pattern; -1 where masked or not
        finite. (h, w), one per grid point, if made with ``upsampling=False``.
    certainty : (H, W) or (h, w) float32 array
        1 - d_1 / d_2 in [0, 1], from the distances to the nearest and second nearest centre; low certainty
        inside a region is a defect. 0 where masked.
    descriptors : Descriptors or gpuseg.large.BandedDescriptors
        Values (N, h, w) per operation and grid point. Where they did not fit into memory, ``bands()`` gives
        them some rows at a time.
    components : (K, h, w) float32 array
        The descriptors' principal components.
    point_labels : (h, w) int32 array
        Pattern of every grid point, -1 where it has none.
    point_certainty : (h, w) float32 array
        Certainty of every grid point, 0 where it has no pattern.
    model : SegmentationModel
        What was learnt; ``model.predict`` labels other images alike.
    parameters : dict
        Those of the call, as JSON can hold them.
    timings : dict
        Seconds spent in each stage, in order.
    device : str
        Where it was computed, e.g. "cpu" or "cuda:0".
    evidence : Evidence, optional
        Why there are so many patterns, where ``n_patterns="auto"``.
    """

    image: Any
    labels: Any
    certainty: Any
    descriptors: Any
    components: Any
    point_labels: Any
    point_certainty: Any
    model: SegmentationModel
    parameters: dict[str, Any]
    timings: dict[str, float]
    device: str
    evidence: Evidence | None = None

    @property
    def grid(self) -> Grid:
        """The positions that were scored."""
        return self.descriptors.grid

    @property
    def operations(self) -> tuple[Any, ...]:
        """The symmetry operations that were scored (N)."""
        return self.descriptors.operations

    @property
    def n_patterns(self) -> int:
        """Number of patterns."""
        return self.model.cluster_centers.shape[0]

    @property
    def explained_variance_ratio(self) -> np.ndarray:
        """(K,) float32: fraction of the descriptors' variance that each component explains."""
        return self.model.explained_variance_ratio

    @property
    def cluster_centers(self) -> np.ndarray:
        """(n, K) float32: centre of each pattern among the components."""
        return self.model.cluster_centers

    @functools.cached_property
    def separability(self) -> Any:
        """(N,) float32: Fisher separability of each operation (paper, eq. 4); see `gpuseg.separability`."""
        xp = namespace(self.point_labels)
        labels = xp.where(self.descriptors.usable, self.point_labels, -xp.ones_like(self.point_labels))
        parts = (
            (xp.reshape(band.values, (len(self.operations), -1)), xp.reshape(labels[rows, :], (-1,)))
            for rows, band in self._bands()
        )
        return separability_of_parts(parts, self.n_patterns)

    @functools.cached_property
    def misfit(self) -> float:
        """Mean squared distance of the descriptors from their nearest pattern; see `gpuseg.misfit`.

        Far above `SegmentationModel.typical_misfit` where the image shows something that was not learnt.
        """
        model, xp, home = self.model, namespace(self.components), home_of(self.components)
        components = xp.reshape(self.components, (self.components.shape[0], -1)).T
        mean, centers = move(model.mean, home), move(model.cluster_centers, home)
        return mean_misfit(self.descriptors, components, mean, centers)

    def _bands(self) -> Iterator[tuple[slice, Descriptors]]:
        """Rows of the grid, and their descriptors."""
        for band in self.descriptors.bands():
            yield slice(*self.grid.place_of(band.grid)), band

    @functools.cached_property
    def area_fractions(self) -> np.ndarray:
        """(n,) float64: share of each pattern in the labelled pixels."""
        counts = self._tally[0]
        return counts / max(counts.sum(), 1)

    @functools.cached_property
    def _tally(self) -> np.ndarray:
        """(2, n) float64: labelled pixels of each pattern, and the sum of their certainties."""
        return tally(self.labels, self.certainty, self.n_patterns)

    def plot(self, **options: Any) -> Figure:
        """Image, overlay, certainty and what told the patterns apart, in one figure.

        Parameters
        ----------
        **options
            Passed on to `gpuseg.plot.summary`, e.g. ``pixel_size=0.012, unit="nm"``.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from gpuseg import plot

        return plot.summary(self, **options)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        pixel_size: float | None = None,
        unit: str | None = None,
        force: bool = False,
    ) -> Path:
        """Write labels.tif, certainty.tif, overlay.png, model.npz and summary.json into a folder.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        pixel_size : float, optional
            Of one pixel, in `unit`; written into the files.
        unit : str, optional
        force : bool
            Whether existing results may be replaced.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        FileExistsError
            If results are there and `force` is False.
        """
        from gpuseg import io

        io.save_segmentation(self, folder, pixel_size=pixel_size, unit=unit, force=force)
        return Path(folder)

    def to_table(self) -> list[dict[str, Any]]:
        """One record per pattern.

        Returns
        -------
        list of dict
            With ``pattern``, ``pixels``, ``area_fraction`` and ``mean_certainty`` (nan for an empty one);
            ``pandas.DataFrame(segmentation.to_table())`` makes a frame of it.
        """
        counts, certainties = self._tally
        return [
            {
                "pattern": k,
                "pixels": int(counts[k]),
                "area_fraction": float(self.area_fractions[k]),
                "mean_certainty": float(certainties[k] / counts[k]) if counts[k] else float("nan"),
            }
            for k in range(self.n_patterns)
        ]

    def select(self, n_operations: int) -> SegmentationModel:
        """A fast model of the operations that tell the patterns apart best; see `SegmentationModel.select`.

        Parameters
        ----------
        n_operations : int
            From 1 to the number of operations.

        Returns
        -------
        SegmentationModel
        """
        return self.model.select(n_operations, self)

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.1%}" for share in self.area_fractions)
        rows, cols = self.image.shape
        what = f"{rows} x {cols} pixels into {self.n_patterns} patterns ({shares})"
        return f"<Segmentation of {what} on {self.device}>"

    def _repr_png_(self) -> bytes:
        from gpuseg import plot

        return plot.png(self)


@dataclass(frozen=True, eq=False)
class SegmentationModel:
    """What was learnt from an image: enough to label others, on either device.

    Parameters
    ----------
    descriptor : descriptor
        E.g. `gpuseg.LocalCorrelationMap`.
    stride : int
        Distance of grid points in pixels.
    mean : (N,) float32
        Mean descriptor.
    components : (K, N) float32
        Principal axes.
    explained_variance_ratio : (K,) float32
    cluster_centers : (n, K) float32
        In the order of the labels.
    upsampling : bool
        Whether labels are given to pixels or to grid points.
    typical_certainty : float, optional
        Mean certainty of the grid points fitted on; an image far below it shows something else.
    accuracy : float, optional
        Of a model made by `select`: share of the grid points it was made from that it labels as all
        operations do.
    typical_misfit : float, optional
        Mean squared distance of the grid points fitted on from their nearest pattern;
        an image far above it shows something else.
    """

    descriptor: Any
    stride: int
    mean: np.ndarray
    components: np.ndarray
    explained_variance_ratio: np.ndarray
    cluster_centers: np.ndarray
    upsampling: bool = True
    typical_certainty: float | None = None
    accuracy: float | None = None
    typical_misfit: float | None = None

    def predict(
        self, image: Any, mask: Any = None, device: Any = "auto", *, max_memory: int | str | None = None
    ) -> Segmentation:
        """Label an image with the patterns of the model.

        Parameters
        ----------
        image : (H, W) array_like
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used.
        device : {"auto", "cpu", "cuda", "cuda:i"}
        max_memory : int or str, optional
            As in `gpuseg.segment`.

        Returns
        -------
        Segmentation
            Label k means the same pattern as in the image fitted on, whatever its size is here.

        Raises
        ------
        TypeError, ValueError, gpuseg.DeviceError
            As `gpuseg.segment`.
        """
        if is_dask(image):
            from gpuseg.dask import predict_dask

            return predict_dask(self, image, mask, device, max_memory)
        image, mask, where = _check_input(image, mask, device)
        n_components = int(self.components.shape[0])
        plan = plan_memory(self.descriptor, image.shape, self.stride, n_components, max_memory, where)

        def run(plan: MemoryPlan | None) -> Segmentation:
            clock = Stopwatch(where)
            with where.current:
                with clock("descriptors"):
                    descriptors = describe_image(self.descriptor, image, self.stride, mask, where, plan)
                with clock("decomposition"):
                    mean, axes = move(self.mean, where), move(self.components, where)
                    components = project_points(descriptors, mean, axes)
                return _label(self, image, mask, descriptors, components, clock, self._parameters())

        return within_memory(run, plan, where)

    def labeller(
        self,
        image_shape: tuple[int, int],
        mask: Any = None,
        device: Any = "auto",
        *,
        max_memory: int | str | None = None,
    ) -> Labeller:
        """What labels frames of one shape as they come, without descriptors: for series and live images.

        Parameters
        ----------
        image_shape : (H, W) of int
        mask : (H, W) array_like of bool, optional
            True where a pixel may be used, of all frames.
        device : {"auto", "cpu", "cuda", "cuda:i"}
        max_memory : int or str, optional
            As in `predict`.

        Returns
        -------
        gpuseg.labeller.Labeller
            To be called with a frame; its labels are those of `predict`.

        Raises
        ------
        TypeError, ValueError, gpuseg.DeviceError
            As `predict`.
        """
        return Labeller(self, image_shape, mask, device, max_memory=max_memory)

    def select(self, n_operations: int, labelled: Any, labels: Any = None) -> SegmentationModel:
        """Keep the operations of largest Fisher separability (paper, eq. 4): a fast model for series.

        Parameters
        ----------
        n_operations : int
            How many, from 1 to the number of operations.
        labelled : Segmentation, Descriptors, or a sequence of one of them
            What this model labelled, with all its operations; several are pooled.
        labels : (h, w) array of int, or a sequence of them
            With `Descriptors`: the pattern of every grid point, -1 for none.

        Returns
        -------
        SegmentationModel
            PCA and centres are those of the kept operations' scores, pattern by pattern, so that every
            pattern keeps its label. `accuracy` tells how much was lost.

        Raises
        ------
        TypeError
            If the descriptor cannot score only some of its operations, or for something else than the above.
        ValueError
            If there are not that many operations, or a pattern has no grid point.
        """
        several = isinstance(labelled, list | tuple)
        given = list(labelled) if several else [labelled]
        if all(isinstance(each, Segmentation) for each in given) and labels is None:
            return select_operations(
                self,
                n_operations,
                [each.descriptors for each in given],
                [each.point_labels for each in given],
            )
        return select_operations(self, n_operations, given, list(labels) if several else [labels])

    def _parameters(self) -> dict[str, Any]:
        return {
            "n_patterns": int(self.cluster_centers.shape[0]),
            "descriptor": describe(self.descriptor),
            "stride": self.stride,
            "n_components": int(self.components.shape[0]),
            "upsampling": self.upsampling,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as .npz: plain arrays, no pickle.

        Parameters
        ----------
        path : path
            Replaced if it exists.
        """
        settings = {
            "format": _FORMAT,
            "descriptor": describe(self.descriptor),
            "stride": self.stride,
            "upsampling": self.upsampling,
            "typical_certainty": self.typical_certainty,
            "accuracy": self.accuracy,
            "typical_misfit": self.typical_misfit,
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        text = np.array(json.dumps(settings))  # before the file is opened: nothing is lost if it fails
        with open(path, "wb") as file:
            np.savez(file, settings=text, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SegmentationModel:
        """Read a model written by `save`.

        Parameters
        ----------
        path : path

        Returns
        -------
        SegmentationModel

        Raises
        ------
        FileNotFoundError
        ValueError
            If the file is not such a model.
        """
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                content = {name: file[name] for name in (*_ARRAYS, "settings")}
            settings = json.loads(str(content.pop("settings")))
            if settings["format"] != _FORMAT:
                raise ValueError(f"format {settings['format']}")
            descriptor = from_description(settings["descriptor"])
        except FileNotFoundError:
            raise
        except Exception as error:  # zip, JSON and NumPy each have their own ways to call a file broken
            raise ValueError(f"{os.fspath(path)!r} is not a model saved by gpuseg ({error})") from error
        kept = {name: settings.get(name) for name in ("typical_certainty", "accuracy", "typical_misfit")}
        return cls(
            descriptor, int(settings["stride"]), upsampling=bool(settings["upsampling"]), **kept, **content
        )


_FORMAT = "gpuseg model 1"
_ARRAYS = ("mean", "components", "explained_variance_ratio", "cluster_centers")


def segment(
    image: Any,
    n_patterns: int | str = 2,
    *,
    descriptor: Any = None,
    stride: int | str = 5,
    n_components: int | float = 5,
    upsampling: bool = True,
    sort_labels_by_pattern_size: bool = True,
    random_state: Any = None,
    mask: Any = None,
    device: Any = "auto",
    max_memory: int | str | None = None,
) -> Segmentation:
    """Segment an atomic-resolution image into patterns by their local symmetry.

    Scores the local symmetry at every grid point, keeps the principal components of the scores, clusters
    them by k-means and gives every pixel the label of its nearest grid point (Wang et al., Microsc.
    Microanal. 27 (2021), doi 10.1017/S1431927621012770).

    Parameters
    ----------
    image : (H, W) array_like
        Intensities of any integer, floating or boolean type, at least one patch large. Gain and offset do
        not matter. NaN and infinite pixels are left out. NumPy, CuPy, torch and whatever speaks DLPack. A
        dask array is worked on in blocks and gives dask arrays, see `gpuseg.dask`.
    n_patterns : int or "auto"
        Number of patterns to find, from 1 to the number of grid points. "auto" is the largest number up to 8
        of which every two are apart and each fills a region; 1 is possible. See `Segmentation.evidence`.
    descriptor : descriptor, str, or list of them, optional
        What is scored; None is ``LocalCorrelationMap()``. A name of the paper such as
        "local-correlation-map" or "power-spectrum" works too. Several are fused, each with equal weight. Its
        radii may be "auto": from the lattice period, see `gpuseg.suggest`; 20 where there is no lattice.
    stride : int or "auto"
        Distance of grid points in pixels; "auto" is a quarter of the lattice period, at most 5.
    n_components : int or float
        Number of principal components, or the fraction of the variance they explain, in (0, 1); the paper
        recommends 0.8 to 0.9.
    upsampling : bool
        Whether every pixel gets a label (H, W), or only every grid point (h, w).
    sort_labels_by_pattern_size : bool
        Whether label 0 is the smallest pattern, counted in grid points.
    random_state : int, numpy.random.RandomState or None
        Seeds k-means. The same input, seed and device give the same labels, bit for bit.
    mask : (H, W) array_like of bool, optional
        True where a pixel may be used; the others get the label -1.
    device : {"auto", "cpu", "cuda", "cuda:i"}
        "auto" is the GPU if there is one. Results live where `image` lives.
    max_memory : int or str, optional
        Bytes that the work may take, such as 4 * 10**9 or "4GB"; None is half of what is free. Descriptors
        that do not fit are worked on in bands of grid rows, twice each: the same labels, except where two
        centres are equally near to the last digits. Python with its libraries and the tiles of each core,
        some 50 MB, come on top; on a GPU its working memory, up to 256 MB.

    Returns
    -------
    Segmentation
        With ``labels``, ``certainty`` and every stage on the way; of a dask array a
        `gpuseg.dask.DaskSegmentation`, with labels that are still to be computed.

    Raises
    ------
    TypeError, ValueError
        For an image or parameter that makes no sense; the text says what was wanted.
    gpuseg.DeviceError
        If a GPU is asked for and cannot be used.

    Examples
    --------
    >>> import gpuseg
    >>> picture = gpuseg.synthetic.bicrystal((256, 256), random_state=0)
    >>> gpuseg.segment(picture.image, n_patterns=2, random_state=0).labels.shape
    (256, 256)
    """
    if is_dask(image):
        from gpuseg.dask import segment_dask

        return segment_dask(
            image,
            n_patterns,
            descriptor=descriptor,
            stride=stride,
            n_components=n_components,
            upsampling=upsampling,
            sort_labels_by_pattern_size=sort_labels_by_pattern_size,
            random_state=random_state,
            mask=mask,
            device=device,
            max_memory=max_memory,
        )
    return segment_together(
        [image],
        n_patterns,
        descriptor=descriptor,
        stride=stride,
        n_components=n_components,
        upsampling=upsampling,
        sort_labels_by_pattern_size=sort_labels_by_pattern_size,
        random_state=random_state,
        masks=[mask],
        device=device,
        max_memory=max_memory,
    )[0]


def segment_together(
    images: Sequence[Any],
    n_patterns: int | str,
    *,
    descriptor: Any,
    stride: int | str,
    n_components: int | float,
    upsampling: bool,
    sort_labels_by_pattern_size: bool,
    random_state: Any,
    masks: Sequence[Any],
    device: Any,
    max_memory: int | str | None = None,
) -> list[Segmentation]:
    """Segment several images with one set of patterns, learnt from the descriptors of all of them.

    Parameters
    ----------
    images : sequence of (H, W) array_like
        At least one.
    n_patterns, descriptor, stride, n_components, upsampling, sort_labels_by_pattern_size, random_state
        As in `segment`; sizes that are "auto" are those of the first image.
    device : {"auto", "cpu", "cuda", "cuda:i"}
    masks : sequence of (H, W) array_like of bool or None
        One per image.
    max_memory : int or str, optional
        As in `segment`; each image has its share of it.

    Returns
    -------
    list of Segmentation
        One per image, all with the same model; `timings` are those of all images together.

    Raises
    ------
    TypeError, ValueError, gpuseg.DeviceError
        As `segment`.
    """
    n_patterns = check_int_or_auto(n_patterns, "n_patterns", 1)
    stride = check_int_or_auto(stride, "stride", 1)
    check_n_components(n_components, 1, 1)
    seeds = check_random_state(random_state)
    descriptor = as_descriptor(descriptor)
    inputs = [_check_input(image, mask, device) for image, mask in zip(images, masks, strict=True)]
    where = inputs[0][2]
    clock = Stopwatch(where)
    step: Any = stride
    sizes = None
    if wants_sizes(descriptor, stride):
        with where.current, clock("sizes"), memory_is_told("looking for the lattice period", where):
            image, valid = (None if each is None else move(each, where) for each in inputs[0][:2])
            descriptor, step, sizes = resolve(descriptor, stride, image, valid)
    parameters = {
        "n_patterns": n_patterns,
        "descriptor": describe(descriptor),
        "stride": step,
        "n_components": n_components.item() if isinstance(n_components, np.generic) else n_components,
        "upsampling": bool(upsampling),
        "sort_labels_by_pattern_size": bool(sort_labels_by_pattern_size),
        "random_state": int(random_state) if isinstance(random_state, int | np.integer) else None,
    }
    with where.current, clock("descriptors"), memory_is_told("looking for what to score", where):
        image, valid, _ = inputs[0]
        learnt = descriptor.found_in(image, valid) if hasattr(descriptor, "found_in") else descriptor
    budget = None if max_memory is None else check_memory(max_memory) // len(inputs)
    shape = max((image.shape for image, _, _ in inputs), key=math.prod)
    plan = plan_memory(learnt, shape, step, n_components, budget, where)
    state = seeds.get_state()

    def run(plan: MemoryPlan | None) -> list[Segmentation]:
        seeds.set_state(state)
        return _segment_all(inputs, learnt, plan, n_patterns, parameters, seeds, clock)

    found = within_memory(run, plan, where)
    if sizes is not None:
        for each in found:
            each.parameters["lattice_period"] = sizes.lattice_period
    return found


def _segment_all(
    inputs: list[tuple[Any, Any, Device]],
    descriptor: Any,
    plan: MemoryPlan | None,
    n_patterns: Any,
    parameters: dict[str, Any],
    seeds: np.random.RandomState,
    clock: Stopwatch,
) -> list[Segmentation]:
    """Describe, learn and label; `parameters` as of `segment`, with numbers for sizes."""
    where, stride, upsampling = clock.device, parameters["stride"], parameters["upsampling"]
    n_components, by_size = parameters["n_components"], parameters["sort_labels_by_pattern_size"]
    with where.current:
        with clock("descriptors"):
            described, learnt = [], descriptor
            for image, valid, _ in inputs:  # what is learnt from the first image holds for all
                described.append(describe_image(learnt, image, stride, valid, where, plan))
                learnt = described[-1].descriptor or learnt
        pca, components, centers, typical, evidence = learn(
            described, n_patterns, n_components, by_size, seeds, clock, reach_of(learnt)
        )
        parameters = {**parameters, "n_patterns": len(centers)}
        if evidence is not None:
            parameters["evidence"] = asdict(evidence)
        model = SegmentationModel(
            descriptor=learnt,
            stride=stride,
            mean=pca.mean_,
            components=pca.components_,
            explained_variance_ratio=pca.explained_variance_ratio_,
            cluster_centers=centers,
            upsampling=upsampling,
            **typical,
        )
        return [
            _label(model, image, valid, each, projected, clock, dict(parameters), evidence)
            for (image, valid, _), each, projected in zip(inputs, described, components, strict=True)
        ]


def _check_input(image: Any, mask: Any, device: Any) -> tuple[Any, Any, Device]:
    image = check_image(image)
    return image, check_mask(mask, image.shape), resolve_device(device, image)


def _label(
    model: SegmentationModel,
    image: Any,
    mask: Any,
    descriptors: Any,
    components: Any,
    clock: Stopwatch,
    parameters: dict[str, Any],
    evidence: Evidence | None = None,
) -> Segmentation:
    """Give every grid point and pixel its pattern."""
    where, home, grid = clock.device, home_of(image), descriptors.grid
    with clock("labels"):
        complete = descriptors.n_usable == grid.size
        points, sure = label_components(components, move(model.cluster_centers, where), grid, complete)
    with clock("upsampling"):
        valid = valid_pixels(move(image, where), None if mask is None else move(mask, where))
        labels, shown = shown_labels(grid, points, sure, valid, model.upsampling, complete)
        labels, shown = move(labels, home), move(shown, home)
    return Segmentation(
        image=image,
        labels=labels,
        certainty=shown,
        descriptors=descriptors.on(home),
        components=move(namespace(components).reshape(components.T, (-1, *grid.shape)), home),
        point_labels=move(points, home),
        point_certainty=move(sure, home),
        model=model,
        parameters=parameters,
        timings=clock.seconds,
        device=str(where),
        evidence=evidence,
    )
