"""The cases: what is timed, on which picture, against whom, and what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True)
class Goal:
    """A figure to reach by a stage or a measure of rightness.

    Kind "ratio" is a ratio to the baseline of at least `value`; "at most" and "at least" bound the median of
    the stage, or the measure.
    """

    stage: str
    kind: str
    value: float


@dataclass(frozen=True)
class Case:
    """One question to the clock.

    Attributes
    ----------
    name, what : str
        The name to choose it by, and one line of explanation.
    work : {"descriptors", "components", "segment", "methods", "dense", "predict", "zernike", "series", ...}
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
    goals : tuple of Goal
        For the CPU with two cores and the full size.
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


WAYS = ("direct", "fft", "box")

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
        goals=(Goal("descriptors", "ratio", 12.0),),
    ),
    Case(
        "predict-50",
        "4 frames labelled by the best 50 of 441 translations learnt from another: a labeller, and predict",
        "predict",
        max_num_points=441,
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
        "a process that segments for the first time ever: empty numba cache, everything compiles",
        "first-call",
        devices=("cpu",),
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
