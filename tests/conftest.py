"""Fixtures for all tests: engines, the emulated GPU, namespaces."""

from __future__ import annotations

import os

import hypothesis
import pytest

from tests.emulator import emulated_cuda_fixture  # noqa: F401

hypothesis.settings.register_profile(
    "gpuseg", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("gpuseg")
