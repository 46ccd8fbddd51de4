"""Errors that the user can act on: each states what is wrong, where, and what to do."""

from __future__ import annotations

from imaging.printable import printable, printable_lines


class NirflowError(Exception):
    """Base of every error that nirflow raises on purpose. Passwords are hidden.

    Messages contain addresses, file names and values from elsewhere, so they are made printable here.

    Parameters
    ----------
    message
        What is wrong: the thing, what was found, what was expected. One line.
    remedy
        What the user can do about it. One line.
    details
        Further information in several lines: the end of a log, the position in an expression.
    """

    def __init__(self, message: str, *, remedy: str = "", details: str = "") -> None:
        self.message = printable(message)
        self.remedy = printable(remedy)
        self.details = printable_lines(details)
        parts = (self.message, self.details, self.remedy)
        super().__init__(("\n" if details else " ").join(part for part in parts if part))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by state: subclasses have constructors of their own."""
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[NirflowError], args: tuple[object, ...], state: dict[str, object]) -> NirflowError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class FrameError(NirflowError):
    """A frame that cannot be used.

    Parameters
    ----------
    name
        The frame's file name.
    problem
        What is wrong.
    keyword, found, expected
        The header keyword, its value and the expected value, if the problem concerns a keyword.
    remedy
        What to do.

    Attributes
    ----------
    reason
        The message without file name and full stop, for use next to the name.
    """

    def __init__(
        self,
        name: str,
        problem: str,
        *,
        keyword: str | None = None,
        found: object = None,
        expected: object = None,
        remedy: str = "",
    ) -> None:
        self.name = name
        self.problem = problem
        self.keyword = keyword
        self.found = found
        self.expected = expected
        where = f" ({keyword} = {found!r}, expected {expected})" if keyword else ""
        self.reason = printable(f"{problem}{where}")
        super().__init__(f"{name}: {problem}{where}.", remedy=remedy)


class CatalogueError(NirflowError):
    """A catalogue of reference stars that cannot be used.

    Parameters
    ----------
    name
        The file, the folder or the service.
    problem
        What is wrong: the column, the value found, the expected one.
    remedy
        What to do.
    """

    def __init__(self, name: str, problem: str, *, remedy: str = "") -> None:
        self.name = name
        self.problem = printable(problem)
        super().__init__(f"{name}: {problem}.", remedy=remedy)


class GroupError(NirflowError):
    """A group of frames that cannot be combined; the message names those that differ."""


class MissingCalibrationError(NirflowError):
    """A calibration that a step needs is neither in the night nor in the store.

    Parameters
    ----------
    message, remedy
        As for every error.
    kind
        The kind of calibration that may still become available (``dark``, ``flat``, ``bpm``): the frames wait
        for it. None if waiting would not help.
    """

    def __init__(self, message: str, *, remedy: str = "", kind: str | None = None) -> None:
        self.kind = kind
        super().__init__(message, remedy=remedy)


class StoreError(NirflowError):
    """The calibration store cannot perform an operation."""
