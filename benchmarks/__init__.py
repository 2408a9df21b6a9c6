"""Benchmarks of gpuseg: ``python -m benchmarks --help``, run from the root of the repository.

Nothing here is part of the library, and nothing here is a timed test. See README.md in this folder.
"""
