"""What a test needs from the machine: absent on a user's machine the test is skipped, in CI it fails."""

from __future__ import annotations

import os

import pytest


def in_ci() -> bool:
    """Whether this is the project's CI, where everything but a GPU has to be there (``GPUSEG_CI=1``)."""
    return os.environ.get("GPUSEG_CI", "") not in ("", "0")


def require(condition: object, reason: str) -> None:
    """Go on if `condition` holds; else skip the test with the reason, or fail it in CI.

    Parameters
    ----------
    condition : object
    reason : str
        What is missing, and how to get it.
    """
    if condition:
        return
    if in_ci():
        pytest.fail(f"missing in CI: {reason}", pytrace=False)
    pytest.skip(reason)
