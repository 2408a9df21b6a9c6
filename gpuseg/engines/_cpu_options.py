"""How numba compiles the kernels."""

# without nnan and ninf: isnan must keep working
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
# _nrt: no kernel makes an array, so none has to count who refers to one, which each would at each inner call
KERNEL = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy", "fastmath": FASTMATH}
INNER = {**KERNEL, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called by kernels only
