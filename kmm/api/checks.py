"""Checks of what the functions of the front door are given, before they compute anything."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from kmm.data.study import Collection
from kmm.errors import InputError


def check_films(*collections: Collection | None, reads_films: bool = True, stacklevel: int = 3) -> None:
    """Warns of studies that lack a film which was named for them and would be used with their reports alone.

    Args:
        collections: `Collection`s; None is skipped.
        reads_films: bool. Whether films are read at all; nothing is checked if not.
        stacklevel: int. Of the warning, as for `warnings.warn`; 2 is the caller.

    Raises:
        InputError: if a column of films is named, and no study has any of its films.

    Warns:
        UserWarning: if some studies lack films.
    """
    for collection in collections if reads_films else ():
        if collection is None or not collection.problems:
            continue
        lacking = {problem.study for problem in collection.problems if problem.kept_on}
        count = sum(study.id in lacking for study in collection)
        none_left = not any(study.images for study in collection)
        first = collection.problems[0]
        if none_left and "image" in collection.columns and (count or any(study.report is None for study in collection)):
            raise InputError(
                f"None of the {len(collection)} studies has a film, though the column of films names some. The first: "
                f"{first}. Give paths from the current folder or absolute paths, or leave out the films."
            )
        if count:
            first = next(problem for problem in collection.problems if problem.kept_on)
            message = (
                f"{count} of {len(collection)} studies lack films that were named for them, and are used with what "
                f"else they have: see `problems`. The first: {first}"
            )
            warnings.warn(message, UserWarning, stacklevel=stacklevel)


def check_callbacks(callbacks: Sequence[Any] | None) -> None:
    """Checks that the callbacks of a fit are a list of instances of `keras.callbacks.Callback`.

    Raises:
        InputError: if they are not.

    Example:
        >>> check_callbacks([7])
        Traceback (most recent call last):
        kmm.errors.InputError: `callbacks` must be a list of keras.callbacks.Callback. It contains: int.
    """
    if callbacks is None:
        return
    if not isinstance(callbacks, list | tuple):
        raise InputError(
            f"`callbacks` must be a list of keras.callbacks.Callback. Received: {type(callbacks).__name__}."
        )
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InputError(
                f"`callbacks` must be a list of keras.callbacks.Callback. It contains: {type(callback).__name__}."
            )
