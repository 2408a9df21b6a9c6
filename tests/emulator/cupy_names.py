"""What NumPy has and CuPy has not: read off the sources of CuPy 14.2 and NumPy 2.4."""

CUPY_VERSION = "14.2.0"
NOT_IN_CUPY = {
    "numpy": frozenset(
        {
            "asmatrix",
            "block",
            "bmat",
            "busday_count",
            "datetime_as_string",
            "einsum_path",
            "emath",
            "errstate",
            "frompyfunc",
            "fromregex",
            "geomspace",
            "histogram_bin_edges",
            "insert",
            "is_busday",
            "isnat",
            "longdouble",
            "ma",
            "matrix",
            "matvec",
            "memmap",
            "nanpercentile",
            "nanquantile",
            "ndenumerate",
            "nditer",
            "nested_iters",
            "polyder",
            "polydiv",
            "polyint",
            "recarray",
            "spacing",
            "strings",
            "unstack",
            "vecdot",
            "vecmat",
            "void",
        }
    ),
    "numpy.linalg": frozenset(
        {
            "diagonal",
            "matrix_norm",
            "multi_dot",
            "outer",
            "svdvals",
            "tensordot",
            "trace",
            "vecdot",
            "vector_norm",
        }
    ),
    "numpy.fft": frozenset(),
    "numpy.random": frozenset(
        {"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "SeedSequence", "get_state", "set_state"}
    ),
}
