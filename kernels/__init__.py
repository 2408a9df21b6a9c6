"""CUDA C++ sources of gpuseg, compiled at first use; this package only carries the text."""
