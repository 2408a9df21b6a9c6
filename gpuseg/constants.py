"""Thresholds with a meaning, each named once."""

FLAT_VARIANCE = 1e-10
"""A patch whose variance is at most this fraction of the image's variance is flat: it scores 0.

A contrast of 1e-5 of the image's standard deviation is below what any detector resolves, and still a
hundred times above the rounding of float32, so real structure is never called flat and rounding noise
never called structure."""

VALID_FRACTION = 0.5
"""A score is taken only where at least this fraction of the patch's pixel pairs is valid."""

CUML_SERVES = frozenset({"PCA", "KMeans"})
"""What cuML does on a GPU where it is installed; the rest is gpuseg's own work in CuPy.

The faster of both should do it: ``python -m benchmarks cuml`` measures which one that is."""
