"""Kinds of option values of the command line."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["Components", "FrameNumbers", "NumberOrAuto", "Radius"]


class Radius(click.ParamType):
    """Whole pixels, one number or ROWS,COLS, or "auto"."""

    name = "PIXELS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that a text means; see `click.ParamType.convert`.

        Parameters
        ----------
        value, param, ctx
            As there.

        Returns
        -------
        object
        """
        if not isinstance(value, str):
            return value
        if value == "auto":
            return value
        parts = value.split(",")
        if len(parts) > 2 or not all(part.strip().lstrip("-").isdecimal() for part in parts):
            self.fail(
                f"{value!r} is not a radius; pixels such as 20, ROWS,COLS such as 20,15, or auto are wanted",
                param,
                ctx,
            )
        return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


class NumberOrAuto(click.ParamType):
    """A whole number, or "auto"."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that a text means; see `click.ParamType.convert`.

        Parameters
        ----------
        value, param, ctx
            As there.

        Returns
        -------
        object
        """
        if value == "auto":
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r}: a whole number, or auto to have it chosen, is wanted", param, ctx)


class Components(click.ParamType):
    """A whole number or a share."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that a text means; see `click.ParamType.convert`.

        Parameters
        ----------
        value, param, ctx
            As there.

        Returns
        -------
        object
        """
        try:
            return int(value) if str(value).lstrip("-").isdecimal() else float(value)
        except ValueError:
            self.fail(
                f"{value!r}: a number such as 5, or a share of the variance such as 0.9 is wanted", param, ctx
            )


class FrameNumbers(click.ParamType):
    """How many frames, or which."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value that a text means; see `click.ParamType.convert`.

        Parameters
        ----------
        value, param, ctx
            As there.

        Returns
        -------
        object
        """
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() for part in parts if part) or not parts[0]:
            self.fail(
                f"{value!r}: how many frames, or which, such as 0,40,80 (one: 40,) is wanted", param, ctx
            )
        return int(parts[0]) if len(parts) == 1 else [int(part) for part in parts if part]
