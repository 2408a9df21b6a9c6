"""The cases: what is timed, on which picture, against whom, and what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A figure to reach by a stage or a measure of rightness.

    Kind "ratio" is a ratio to the baseline of at least `value`; "at most" and "at least" bound the median of
    the stage, or the measure. `who` is the contender whose figure it is, "" for gpuseg itself.
    """

    stage: str
    kind: str
    value: float
    who: str = ""


@dataclass(frozen=True)
class Case:
    """One question to the clock.

    Attributes
    ----------
    name, what : str
        The name to choose it by, and one line of explanation.
    work : str
        What is done: "descriptors", "components", "segment", "methods", "dense", "predict", ...; see `speed`.
    size : int
        Side of the square picture in pixels; `quick_size` is that of ``--quick``.
    picture : str
        What the pictures are where they are no squares of that size.
    descriptor : {"translations", "power-spectrum", "rotation", "reflection"}
    max_num_points : int
        Of the local correlation map: 100 gives 81 translations, 1681 gives every translation of the window.
    methods : tuple of str
        The ways gpuseg computes the scores; more than one are timed beside each other.
    pystem_method : str or None
        pystem's own way, None where the case has nothing to compare with there.
    stride : int
    devices : tuple of str
        Where the case makes sense.
    goals, gpu_goals : tuple of Goal
        For the CPU with two cores, and for an H200 with image and labels on it; both for the full size.
    window_radius : int
        Of the local correlation map.
    n_operations : int or None
        How many of them a model keeps, None for all.
    """

    name: str
    what: str
    work: str
    size: int = 1024
    quick_size: int = 256
    picture: str = ""
    descriptor: str = "translations"
    max_num_points: int = 100
    methods: tuple[str, ...] = ("auto",)
    pystem_method: str | None = None
    stride: int = 5
    devices: tuple[str, ...] = ("cpu", "cuda")
    goals: tuple[Goal, ...] = ()
    gpu_goals: tuple[Goal, ...] = ()
    window_radius: int = 20
    n_operations: int | None = None

    def goals_on(self, device: str) -> tuple[Goal, ...]:
        """The goals for a device."""
        return self.goals if device == "cpu" else self.gpu_goals


WAYS = ("direct", "fft", "box")

SAME, WRITTEN, COPIED = (
    "share of the labels as on the CPU",
    "share of the write bandwidth",
    "share of the copy bandwidth",
)

VARIANCES, ANGLE, INERTIA, LEAST_INERTIA, RAND = (
    "largest relative difference of an explained variance",
    "largest angle between the subspaces, degrees",
    "inertia over gpuseg's, 2 patterns",
    "least inertia over gpuseg's, 2 to 8 patterns",
    "adjusted Rand index with gpuseg's labels, 2 patterns",
)


def _agreement(who: str) -> tuple[Goal, ...]:
    """How alike gpuseg's and another's results have to be; of many patterns either may miss the optimum."""
    return (
        Goal(VARIANCES, "at most", 1e-3, who),
        Goal(ANGLE, "at most", 1.0, who),
        Goal(INERTIA, "at least", 0.999, who),
        Goal(LEAST_INERTIA, "at least", 0.95, who),
        Goal(RAND, "at least", 0.99, who),
    )


def _learning(name: str, what: str, **choice: Any) -> Case:
    return Case(
        f"learning-{name}",
        f"5 components of {what} and 2 to 8 patterns: scikit-learn's PCA and KMeans, on a GPU cuML's",
        "learning",
        quick_size=128,
        goals=_agreement("scikit-learn"),
        gpu_goals=_agreement("cuML"),
        **choice,
    )


LEARNING = (
    _learning("81", "81 translations at every 5th pixel"),
    _learning("289", "289 translations at every 5th pixel", max_num_points=289, window_radius=24),
    _learning("841", "841 powers at every 5th pixel", descriptor="power-spectrum"),
    _learning("1681", "1681 translations at every 5th pixel", max_num_points=1681),
    _learning("dense", "289 translations at every pixel", max_num_points=289, window_radius=24, stride=1),
)

CASES = (
    Case(
        "descriptors-81",
        "scores of 81 translations at every 5th pixel (all defaults), pystem's direct",
        "descriptors",
        pystem_method="direct",
        goals=(Goal("descriptors", "ratio", 300.0),),
    ),
    Case(
        "descriptors-1681",
        "scores of all 1681 translations of the window, pystem's fft (its fastest here)",
        "descriptors",
        max_num_points=1681,
        pystem_method="fft",
        goals=(Goal("descriptors", "ratio", 40.0),),
    ),
    Case(
        "segment",
        "from the image to the labels of all its pixels, 2 patterns, 5 components; whole and stage by stage",
        "segment",
        pystem_method="direct",
        goals=(Goal("whole", "ratio", 120.0),),
        gpu_goals=(Goal("whole", "at most", 5e-3), Goal(SAME, "at least", 0.999)),
    ),
    Case(
        "power-spectrum",
        "power spectra of windows of 41x41 and their 5 principal components",
        "components",
        descriptor="power-spectrum",
        pystem_method="direct",
        goals=(Goal("whole", "ratio", 8.0),),
    ),
    Case(
        "rotation",
        "rotational symmetry by 60, 90, 120, 180 degrees and the largest score in a window of 41x41",
        "descriptors",
        descriptor="rotation",
        pystem_method="direct",
        goals=(Goal("descriptors", "ratio", 12.0),),
    ),
    Case(
        "reflection",
        "reflection symmetry about 10 axes and the largest score in a window of 41x41",
        "descriptors",
        descriptor="reflection",
        pystem_method="direct",
        goals=(Goal("descriptors", "ratio", 12.0),),
    ),
    Case("methods-81", "81 translations: gpuseg's ways beside each other", "methods", 256, 128, methods=WAYS),
    Case(
        "methods-1681",
        "all 1681 translations: gpuseg's ways beside each other",
        "methods",
        256,
        128,
        max_num_points=1681,
        methods=WAYS,
    ),
    Case(
        "methods-9-sparse",
        "9 translations at every 20th pixel: few scores, where the definition itself may win",
        "methods",
        256,
        128,
        max_num_points=9,
        stride=20,
        methods=WAYS,
    ),
    Case(
        "dense-196",
        "scores of 196 translations at every pixel; scipy.ndimage.uniform_filter makes only their box sums",
        "dense",
        quick_size=128,
        max_num_points=196,
        stride=1,
        goals=(Goal("descriptors", "ratio", 12.0), Goal(WRITTEN, "at least", 0.5)),
    ),
    Case(
        "dense-289",
        "scores of 289 translations at every pixel; scipy.ndimage.uniform_filter makes only their box sums",
        "dense",
        quick_size=128,
        max_num_points=289,
        window_radius=24,
        stride=1,
        gpu_goals=(Goal(COPIED, "at least", 0.5),),
    ),
    Case(
        "dense-fit",
        "`segment` with 289 translations at every pixel, from the image to the labels",
        "segment",
        size=4096,
        quick_size=128,
        max_num_points=289,
        window_radius=24,
        stride=1,
        devices=("cuda",),
        gpu_goals=(Goal("whole", "at most", 0.5),),
    ),
    Case(
        "large-memory",
        "peak resident memory of processes that fit and that predict 289 translations at every pixel",
        "large-memory",
        size=4096,
        quick_size=256,
        devices=("cpu",),
        goals=(Goal("fit", "at most", 2500.0), Goal("predict", "at most", 2500.0)),
    ),
    Case(
        "maps-81",
        "Pearson maps of 81 translations at every pixel, by scipy.ndimage as one would write them",
        "maps",
        quick_size=128,
        stride=1,
    ),
    Case(
        "maps-1681",
        "all 1681 translations at every 5th pixel; skimage.feature.match_template, a patch at a time",
        "maps",
        size=256,
        quick_size=128,
        max_num_points=1681,
    ),
    Case(
        "predict-81",
        "16 frames labelled by a model of all 81 translations, learnt from another frame (all defaults)",
        "predict",
        gpu_goals=(Goal("per frame", "at most", 0.5e-3), Goal(SAME, "at least", 0.999)),
    ),
    Case(
        "predict-50",
        "16 frames labelled by the best 50 of 441 translations learnt from another: a labeller, and predict",
        "predict",
        max_num_points=441,
        n_operations=50,
        goals=(Goal("per frame", "at most", 1 / 60),),
    ),
    Case(
        "zernike",
        "symmetry maps of every pixel: 2, 3, 4, 6-fold turns, 10 mirrors; motif-learn's from Zernike moments",
        "zernike",
        size=512,
        quick_size=128,
    ),
    Case(
        "dense-symmetry",
        "scores of 4 turns and 10 reflections at every pixel",
        "dense-symmetry",
        quick_size=128,
        gpu_goals=(Goal("whole", "at most", 10e-3),),
    ),
    *LEARNING,
    Case(
        "learning-first-call",
        "a process' first PCA and k-means on a GPU, cuML's import included",
        "learning-first-call",
        picture="none",
        devices=("cuda",),
    ),
    Case(
        "series",
        "163 frames of 400x300, a moving boundary, learnt from the first: the best 50 of 289 translations",
        "series",
        picture="400x300",
        goals=(
            Goal("per frame", "at most", 1 / 40),
            Goal("share of the pixels as with all translations", "at least", 0.95),
            Goal("error of the boundary's speed", "at most", 0.03),
        ),
    ),
    Case(
        "series-memory",
        "peak resident memory of a process that does the same for 163 and for 1630 frames",
        "series-memory",
        picture="400x300",
        devices=("cpu",),
        goals=(Goal("1630 frames more than 163", "at most", 5.0),),
    ),
    Case(
        "cli",
        "`gpuseg segment image.tif -n 2`: a whole process, kernels cached, all files written",
        "cli",
        devices=("cpu",),
        goals=(Goal("process", "at most", 2.0),),
    ),
    Case(
        "first-call",
        "a process that segments for the first time ever: empty caches, everything compiles",
        "first-call",
        goals=(Goal("process", "at most", 8.0),),
    ),
    Case(
        "import",
        "`import gpuseg`, beside a bare interpreter",
        "import",
        devices=("cpu",),
        goals=(Goal("import", "at most", 0.3),),
    ),
    Case(
        "memory",
        "peak resident memory of a process that segments, less that of a bare interpreter",
        "memory",
        devices=("cpu",),
        goals=(Goal("over a bare interpreter", "at most", 250.0),),
    ),
)


def chosen(patterns: list[str]) -> list[Case]:
    """The cases whose name matches one of the shell patterns; all of them for no pattern."""
    return [case for case in CASES if not patterns or any(fnmatch(case.name, p) for p in patterns)]
