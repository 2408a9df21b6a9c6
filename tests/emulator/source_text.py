"""Reading a preprocessed CUDA source: which kernels it defines."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KERNEL = re.compile(r'extern\s*"C"\s+__global__\b(?P<rest>[^;{]*)[;{]')
_BOUNDS = re.compile(r"__launch_bounds__\s*\(")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_NAME = re.compile(r"([A-Za-z_]\w*)\s*\(")


@dataclass(frozen=True)
class KernelText:
    """A kernel as its source declares it: name, and largest block as an expression ("0": not said)."""

    name: str
    largest_block: str


def kernels_in(preprocessed: str) -> list[KernelText]:
    """The kernels of a source, in its order.

    Parameters
    ----------
    preprocessed : str
        CUDA C++ without comments and macros.

    Returns
    -------
    list of KernelText
        One for every ``extern "C" __global__ void name(...)``; templates have no name before they are
        instantiated and are not among them.
    """
    found = {}
    for match in _KERNEL.finditer(_without_strings(preprocessed)):
        rest, largest = match["rest"], "0"
        bounds = _BOUNDS.search(rest)
        if bounds:
            end = _closing(rest, bounds.end() - 1)
            largest = _first_argument(rest[bounds.end() : end])
            rest = rest[: bounds.start()] + rest[end + 1 :]
        name = _NAME.search(rest)
        if name:
            found[name[1]] = KernelText(name[1], largest)
    return list(found.values())


def _without_strings(text: str) -> str:
    """The text with string literals emptied, but for the "C" of a linkage."""
    return _STRING.sub(lambda string: string[0] if string[0] == '"C"' else '""', text)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    raise ValueError(f"no closing parenthesis in {text[opening:]!r}")


def _first_argument(arguments: str) -> str:
    depth = 0
    for position, character in enumerate(arguments):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            return arguments[:position].strip()
    return arguments.strip()
