"""pySTEM's interface over gpuseg: notebooks written for pySTEM 0.0.26 run after one changed line.

That line is ``from gpuseg.compat.pystem import segmentationSTEM``. Written from that package's parameter list
and from what it answers, not from its code.

Arrays are laid out as there: x is the row, descriptors are (h, w, N), components (h, w, K). What the methods
leave behind is there by the same names: ``paras``, ``_descriptors``, ``_PCA_components``, ``_pca``,
``_kmeans``, ``_segmentation_labels``, ``_translation_vectors``, ``_Fisher_separability``,
``_operations_with_best_sep``. What differs:

============================= =============================================================================
there                         here
============================= =============================================================================
scores                        by definition, without loss: theirs are wrong by some 1e-4, and by anything
                              for a small contrast on a high level; a flat patch scores 0, not NaN
``method``                    both are accepted and give the same numbers; the fastest way is chosen
rotational and reflection     Pearson's coefficient with area weights and cubic splines, the ``num_max``
descriptors                   largest of all pixels within window_x, window_y; theirs is a cosine at every
                              stride-th pixel: other values, on the same grid, in the same order
``power_spectrum``            the half that is not redundant: 143 values for a window of 19 x 15, not 285
margins                       labels stand where they were found; theirs are shifted by the patch for the
                              power spectrum, and for rotation and reflection unless radius = patch
``random_state``              other draws, and the best of three starts of k-means: the same labels where it
                              has one answer, else those of the smaller inertia
``n_PCA_components``          a fraction of the variance in (0, 1) is taken as well
``separability_analysis``     for every descriptor; theirs for the local correlation map only. Operations
                              that are no translations are selected as a list
``perform_soft_segmentation`` the nearer centre has the larger share; theirs gives it to the farther one.
                              (n_samples,) for two centres, as there, else (n_samples, n_clusters)
missing pixels (NaN)          are left out; the label is -1 where nothing around can be scored
errors                        ``ValueError`` and ``TypeError`` that say what was wanted
``device``                    is new: "auto", "cpu", "cuda"; results live where the image lives
============================= =============================================================================

New programs are better served by `gpuseg.segment`, which also labels the margins by their own scores, gives
a certainty, and keeps a model that can be saved.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gpuseg
from gpuseg.arrays import home_of, ingest, move, namespace, resolve_device, to_numpy
from gpuseg.checks import check_choice, check_flag, check_image, check_int
from gpuseg.clustering import KMeans, lloyd, sizes, squared_distances
from gpuseg.decomposition import PCA
from gpuseg.descriptors.base import Descriptors
from gpuseg.grid import Grid
from gpuseg.separability import separability

__all__ = ["calculate_Fisher_separability", "colorcode", "segmentationSTEM"]

METHODS = ("direct", "fft")

# Names of the entries of `paras` that the constructor calls otherwise.
_OTHER_NAMES = {"stride": "step"}

_CONSTANTS = {
    "removing_mean": True,
    "num_max": 10,
    "power_spectrum_logarithm": True,
    "soft_segmentation": False,
    "verbose": 0,
}


class segmentationSTEM:
    """Segmentation of an atomic-resolution image, with the interface of pySTEM 0.0.26.

    Parameters
    ----------
    n_patterns : int
        Number of patterns.
    stride : int
        Distance of grid points in pixels.
    descriptor_name : str
        "local_correlation_map", "preselected_translations", "power_spectrum",
        "rotational_symmetry_maximum_pooling" or "reflection_symmetry_maximum_pooling".
    n_PCA_components : int or float
        Number of principal components, or the fraction of the variance they explain.
    upsampling : bool
        Whether every pixel gets a label or only every grid point.
    preselected_translations : (n, 2) array of int, optional
        (x, y) = (rows, columns); needed by the descriptor of that name.
    window_x, window_y : int
        Half height and width of the shift window, of that of the power spectrum, or of the pooling window.
    num_reflection_plane : int
        Number of axes of the reflections.
    radius : int
        Of the circular patch of rotations and reflections.
    patch_x, patch_y : int
        Half height and width of the patch of translations.
    max_num_points : int
        Largest number of translations.
    method : {"direct", "fft"}
        Without effect: both give the same numbers.
    sort_labels_by_pattern_size : bool
        Whether label 0 is the smallest pattern.
    random_state : int or None
        Seeds k-means.
    separability_analysis : bool
        Whether `perform_clustering` finds the Fisher separability of every operation.
    num_operations_with_best_sep : int
        How many of the best operations are then kept in ``_operations_with_best_sep``.
    one_step_kmeans : bool
        Whether k-means makes a single step, as in a movie from the centres of the frame before.
    pca_fitted : object with ``transform``, optional
        The ``_pca`` of an earlier segmentation, used instead of a new one.
    kmeans_init_centers : (n_patterns, K) array, optional
        What k-means starts from.
    device : {"auto", "cpu", "cuda", "cuda:i"}
        Where to compute.

    Attributes
    ----------
    paras : dict
        The parameters; looked at by every method, so they may be changed between two.
    """

    def __init__(
        self,
        n_patterns: int = 2,
        stride: int = 5,
        descriptor_name: str = "local_correlation_map",
        n_PCA_components: int | float = 5,
        upsampling: bool = True,
        preselected_translations: Any = None,
        window_x: int = 21,
        window_y: int = 21,
        num_reflection_plane: int = 10,
        radius: int = 20,
        patch_x: int = 20,
        patch_y: int = 20,
        max_num_points: int = 100,
        method: str = "direct",
        sort_labels_by_pattern_size: bool = True,
        random_state: Any = None,
        separability_analysis: bool = False,
        num_operations_with_best_sep: int = 5,
        one_step_kmeans: bool = False,
        pca_fitted: Any = None,
        kmeans_init_centers: Any = None,
        *,
        device: Any = "auto",
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self.paras = {_OTHER_NAMES.get(name, name): value for name, value in given.items()} | _CONSTANTS
        check_choice(descriptor_name, "descriptor_name", tuple(_DESCRIPTORS))
        check_choice(method, "method", METHODS)
        check_int(n_patterns, "n_patterns", 1)
        check_int(num_operations_with_best_sep, "num_operations_with_best_sep", 1)
        for name in ("upsampling", "sort_labels_by_pattern_size", "separability_analysis", "one_step_kmeans"):
            check_flag(given[name], name)
        if pca_fitted is not None and not hasattr(pca_fitted, "transform"):
            raise TypeError(
                f"`pca_fitted` is {pca_fitted!r}; the `_pca` of an earlier segmentation, or another object "
                "with `transform`, is needed"
            )
        self._descriptor()

    # --- the stages -----------------------------------------------------------------------------------------

    def check_image_validity(self, image: Any) -> None:
        """Refuse what is no image.

        Parameters
        ----------
        image : (H, W) array

        Raises
        ------
        TypeError, ValueError
        """
        check_image(image)

    def get_descriptors(self, image: Any) -> Any:
        """The local descriptors at the grid points.

        Parameters
        ----------
        image : (H, W) array

        Returns
        -------
        (h, w, N) float32 array
            Where window and patch lie inside the image; ``_translation_vectors`` (N, 2) tells the shifts of a
            local correlation map.
        """
        found = self._describe(image)
        order = self._order()
        if self.paras["descriptor_name"] == "local_correlation_map":
            self._translation_vectors = _vectors(found.operations)
        xp = namespace(found.values)
        values = found.values if order is None else xp.take(found.values, xp.asarray(order), axis=0)
        return xp.moveaxis(values, 0, -1)

    def get_PCA_components(self, image: Any, descriptors: Any = None) -> Any:
        """The principal components of the descriptors.

        Parameters
        ----------
        image : (H, W) array
        descriptors : (h, w, N) array, optional
            Of this image; found if they are not given.

        Returns
        -------
        (h, w, K) array
            NaN where the descriptors are. ``_pca`` keeps the axes, unless ``pca_fitted`` is used.
        """
        self._descriptors = self.get_descriptors(image) if descriptors is None else descriptors
        samples, known, shape = _samples(self._descriptors, "descriptors")
        self._pca = self.paras["pca_fitted"]
        if self._pca is None:
            self._pca = PCA(self.paras["n_PCA_components"]).fit(samples)
        self._PCA_components = _spread(self._pca.transform(samples), known, shape, np.nan)
        return self._PCA_components

    def perform_clustering(self, image: Any, features: Any = None, descriptors: Any = None) -> Any:
        """Segment an image.

        Parameters
        ----------
        image : (H, W) array
        features : (h, w, K) array, optional
            From `get_PCA_components`; found from the descriptors if they are not given.
        descriptors : (h, w, N) array, optional
            From `get_descriptors`; found from the image if they are not given.

        Returns
        -------
        (H, W) int32 array, or (h, w) without upsampling
            Labels 0 .. n_patterns - 1, and -1 where there is no score.
        """
        self.check_image_validity(image)
        if features is None:
            features = self.get_PCA_components(image, descriptors)
        elif descriptors is not None:
            self._descriptors = descriptors
        samples, known, shape = _samples(features, "features")
        self._kmeans = self._fit_kmeans(samples)
        labels = _spread(self._kmeans.labels_, known, shape[:2], -1)
        if self.paras["separability_analysis"]:
            self._analyse(image, labels)
        if self.paras["upsampling"]:
            labels = self.perform_upsampling_labels(image, labels)
        elif self.paras["sort_labels_by_pattern_size"]:
            labels = self.sort_labels_by_pattern_size(labels)
        self._segmentation_labels = labels
        return labels

    def perform_upsampling_labels(self, image: Any, labels: Any) -> Any:
        """Give every pixel the label of its nearest grid point, the margins included.

        Parameters
        ----------
        image : (H, W) array
        labels : (h, w) int array

        Returns
        -------
        (H, W) int array
            Sorted by size if ``sort_labels_by_pattern_size``.
        """
        grid, labels = self._grid(tuple(check_image(image).shape)), ingest(labels)
        if tuple(labels.shape) != grid.shape:
            raise ValueError(f"`labels` has shape {labels.shape}; {grid.shape}, the grid's, is needed")
        labels = grid.upsample(labels)
        return (
            self.sort_labels_by_pattern_size(labels) if self.paras["sort_labels_by_pattern_size"] else labels
        )

    def sort_labels_by_pattern_size(self, labels: Any) -> Any:
        """Name the patterns anew, the smallest 0.

        Parameters
        ----------
        labels : int array
            Negative ones are left as they are.

        Returns
        -------
        int array of the same shape
            The centres and labels of ``_kmeans``, where there is one, are put in the same order.
        """
        labels = ingest(labels)
        xp, n_patterns = namespace(labels), self.paras["n_patterns"]
        order = np.argsort(sizes(labels[labels >= 0], n_patterns), kind="stable")
        if len(order) > n_patterns:
            raise ValueError(f"`labels` has {len(order)} patterns; `n_patterns`, {n_patterns}, are needed")
        rank = np.argsort(order)
        kmeans = getattr(self, "_kmeans", None)
        if kmeans is not None and len(kmeans.cluster_centers_) == n_patterns:
            home = namespace(kmeans.labels_)
            kmeans.cluster_centers_ = kmeans.cluster_centers_[home.asarray(order), :]
            kmeans.labels_ = home.asarray(rank.astype(np.int32))[kmeans.labels_]
        return xp.asarray(np.append(rank, -1))[labels].astype(labels.dtype)  # -1 is the last entry

    def perform_soft_segmentation(self, cluster_centers: Any, features: Any) -> Any:
        """Share of each centre in a sample: softmax of the negative squared distances.

        Parameters
        ----------
        cluster_centers : (n_clusters, n_features) array
        features : (n_samples, n_features) array

        Returns
        -------
        (n_samples,) array
            For two centres: the share of the first, near 1 where it is near.
        (n_samples, n_clusters) array
            For any other number; the rows sum to 1.
        """
        xp = namespace(features, cluster_centers)
        distances = squared_distances(features, cluster_centers)
        shares = xp.exp(xp.min(distances, axis=0) - distances)
        shares = (shares / xp.sum(shares, axis=0)).T
        return shares[:, 0] if shares.shape[1] == 2 else shares

    # --- what they are made of ------------------------------------------------------------------------------

    def _descriptor(self) -> Any:
        return _DESCRIPTORS[self.paras["descriptor_name"]](self.paras)

    def _describe(self, image: Any) -> Descriptors:
        image = check_image(image)
        device = resolve_device(self.paras["device"], image)
        more = self._further_margin(image.shape)
        # mirrored, as splines continue an image beyond its border
        wide = namespace(image).pad(image, more, mode="reflect") if more else image
        found = self._descriptor().transform(wide, stride=self.paras["step"], device=device)
        return found.on(home_of(image))

    def _grid(self, shape: tuple[int, int]) -> Grid:
        """Where pySTEM has its grid points."""
        more = self._further_margin(shape)
        wide = self._descriptor().grid((shape[0] + 2 * more, shape[1] + 2 * more), self.paras["step"])
        return Grid(shape, wide.stride, (wide.first[0] - more, wide.first[1] - more), wide.shape)

    def _further_margin(self, shape: tuple[int, int]) -> int:
        """Pixels that the splines on circular patches need around what pySTEM needs."""
        if "_symmetry_" not in self.paras["descriptor_name"]:
            return 0
        needed = self.paras["radius"] + self.paras["window_x"]
        roomy = (shape[0] + 4 * needed, shape[1] + 4 * (needed + self.paras["window_y"]))
        return int(self._descriptor().grid(roomy, 1).first[0]) - needed

    def _order(self) -> list[int] | None:
        """Which of our maps stands at each place of theirs: rank by rank; reflections go clockwise there."""
        if "_symmetry_" not in self.paras["descriptor_name"]:
            return None
        operations, ranks = self._descriptor().operations(), self.paras["num_max"]
        n = len(operations) // ranks
        reflected = "reflection" in self.paras["descriptor_name"]
        return [(-k % n if reflected else k) * ranks + rank for rank in range(ranks) for k in range(n)]

    def _fit_kmeans(self, samples: Any) -> KMeans:
        steps = {"max_iter": 1} if self.paras["one_step_kmeans"] else {}
        kmeans = KMeans(self.paras["n_patterns"], random_state=self.paras["random_state"], **steps)
        centers = self.paras["kmeans_init_centers"]
        if centers is None:
            return kmeans.fit(samples)
        wanted = (kmeans.n_clusters, samples.shape[1])
        if np.shape(centers) != wanted:
            raise ValueError(f"`kmeans_init_centers` has shape {np.shape(centers)}; {wanted} is needed")
        xp = namespace(samples)
        centers = xp.astype(xp.asarray(move(centers, home_of(samples))), samples.dtype)
        found = lloyd(
            samples, centers, kmeans.max_iter, kmeans.tol * float(xp.mean(xp.var(samples.T, axis=1)))
        )
        kmeans.cluster_centers_, kmeans.inertia_, kmeans.n_iter_ = found
        kmeans.labels_ = kmeans.predict(samples)
        return kmeans

    def _analyse(self, image: Any, labels: Any) -> None:
        """Separability of every operation, and the best of them."""
        values = getattr(self, "_descriptors", None)
        if values is None or tuple(values.shape[:2]) != tuple(labels.shape):  # only features were given
            values = self._descriptors = self.get_descriptors(image)
        xp = namespace(values)
        flat = xp.reshape(values, (-1, values.shape[2])).T
        found = to_numpy(separability(flat, xp.reshape(labels, (-1,)), self.paras["n_patterns"]))
        self._Fisher_separability = found.astype(np.float64)
        best = np.argsort(-found, kind="stable")[: self.paras["num_operations_with_best_sep"]]
        operations, order = self._descriptor().operations(), self._order()
        chosen = [operations[k if order is None else order[k]] for k in best]
        shifts = all(hasattr(each, "d_row") for each in chosen)
        self._operations_with_best_sep = _vectors(chosen) if shifts else chosen


def _vectors(operations: Any) -> np.ndarray:
    return np.array([(each.d_row, each.d_col) for each in operations], np.int64)


def _samples(maps: Any, name: str) -> tuple[Any, Any, tuple[int, ...]]:
    """The finite grid points of (h, w, N) maps as (S, N), which ones they are, and the shape."""
    if np.ndim(maps) != 3:
        raise ValueError(f"`{name}` has shape {np.shape(maps)}; (h, w, N) is needed")
    xp = namespace(maps)
    flat = xp.reshape(maps, (-1, maps.shape[2]))
    known = xp.all(xp.isfinite(flat), axis=1)
    return (flat if bool(xp.all(known)) else flat[known, :]), known, tuple(maps.shape)


def _spread(values: Any, known: Any, shape: tuple[int, ...], missing: float) -> Any:
    """Values of the known grid points among all of them."""
    xp = namespace(values)
    everywhere = xp.full((known.shape[0], *values.shape[1:]), missing, dtype=values.dtype)
    everywhere[known, ...] = values
    return xp.reshape(everywhere, (*shape[:2], *values.shape[1:]))


def _local_correlation_map(paras: dict[str, Any]) -> Any:
    return gpuseg.LocalCorrelationMap(
        (paras["patch_x"], paras["patch_y"]),
        (paras["window_x"], paras["window_y"]),
        paras["max_num_points"],
        border="valid",
    )


def _preselected_translations(paras: dict[str, Any]) -> Any:
    if paras["preselected_translations"] is None:
        raise ValueError("`preselected_translations` is None; an (n, 2) array of shifts is needed")
    patch = (paras["patch_x"], paras["patch_y"])
    return gpuseg.PreselectedTranslations(paras["preselected_translations"], patch, border="valid")


def _power_spectrum(paras: dict[str, Any]) -> Any:
    window = (paras["window_x"], paras["window_y"])
    return gpuseg.PowerSpectrum(window, logarithm=paras["power_spectrum_logarithm"], border="valid")


def _rotational_symmetry(paras: dict[str, Any]) -> Any:
    return gpuseg.RotationalSymmetry(
        radius=paras["radius"],
        angles=(60, 90, 120, 180),
        pooling_radius=(paras["window_x"], paras["window_y"]),
        n_max=paras["num_max"],
        border="valid",
    )


def _reflection_symmetry(paras: dict[str, Any]) -> Any:
    return gpuseg.ReflectionSymmetry(
        radius=paras["radius"],
        n_planes=paras["num_reflection_plane"],
        pooling_radius=(paras["window_x"], paras["window_y"]),
        n_max=paras["num_max"],
        border="valid",
    )


_DESCRIPTORS = {
    "local_correlation_map": _local_correlation_map,
    "preselected_translations": _preselected_translations,
    "power_spectrum": _power_spectrum,
    "rotational_symmetry_maximum_pooling": _rotational_symmetry,
    "reflection_symmetry_maximum_pooling": _reflection_symmetry,
}


def calculate_Fisher_separability(features: Any, classes: Any) -> np.ndarray:
    """Fisher separability of every feature, by the name of pySTEM's ``util``; see `gpuseg.separability`.

    Parameters
    ----------
    features : (n_samples, n_features) array
    classes : (n_samples,) array of int
        Labels of any numbering.

    Returns
    -------
    (n_features,) float64 array

    Raises
    ------
    ValueError
        If the shapes are others.
    """
    if np.ndim(features) != 2 or np.shape(classes) != np.shape(features)[:1]:
        raise ValueError(
            f"`features` has shape {np.shape(features)}, `classes` {np.shape(classes)}; "
            "(n_samples, n_features) and (n_samples,) are needed"
        )
    names, labels = np.unique(to_numpy(classes), return_inverse=True)
    values = np.ascontiguousarray(to_numpy(features).T, np.float32)
    return separability(values, labels.astype(np.int32), len(names)).astype(np.float64)


def colorcode(
    image: Any,
    labels: Any,
    colors: Any = None,
    saturation: float = 0.2,
    im0: float | None = None,
    im1: float | None = None,
) -> np.ndarray:
    """A picture of labels painted over their image, by the name of pySTEM's ``colorcode``.

    `gpuseg.plot.overlay` serves people with colour-blindness better.

    Parameters
    ----------
    image : (H, W) array
        Its range, or `im0` to `im1`, becomes the brightness.
    labels : (H, W) int array
        Negative ones stay grey.
    colors : sequence of float, optional
        A hue in [0, 1] for each pattern; spread evenly if they are not given.
    saturation : float
        In [0, 1].
    im0, im1 : float, optional
        Darkest and brightest intensity.

    Returns
    -------
    (H, W, 3) float64 array
        Red, green and blue in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, the labels are no whole numbers, or there are fewer hues than patterns.
    """
    from matplotlib.colors import hsv_to_rgb

    picture, labels = to_numpy(check_image(image)).astype(np.float64), np.asarray(to_numpy(labels))
    if labels.dtype.kind not in "iu":
        raise TypeError(f"`labels` has dtype {labels.dtype}; whole numbers are needed")
    if labels.shape != picture.shape:
        raise ValueError(f"`labels` has shape {labels.shape}; that of `image`, {picture.shape}, is needed")
    n_patterns = int(labels.max()) + 1
    hues = np.arange(n_patterns) / max(n_patterns, 1) if colors is None else np.asarray(colors, float)
    if len(hues) < n_patterns:
        raise ValueError(f"`colors` has {len(hues)} hues; one for each of {n_patterns} patterns is needed")
    low = np.nanmin(picture) if im0 is None else im0
    high = np.nanmax(picture) if im1 is None else im1
    value = np.clip(np.nan_to_num((picture - low) / max(high - low, np.finfo(float).tiny)), 0, 1)
    hue = np.append(hues, 0.0)[labels]
    return hsv_to_rgb(np.stack([hue, np.where(labels >= 0, saturation, 0.0), value], axis=-1))
