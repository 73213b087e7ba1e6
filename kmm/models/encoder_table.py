"""Table of encoders of one kind: those of kmm, those that a program registers, those that installed packages offer."""

import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import metadata
from typing import Any, Generic, TypeVar

from kmm.errors import InputError

Entry = TypeVar("Entry")
Convert = Callable[[Any, str], Entry]


class EncoderTable(MutableMapping[str, Entry], Generic[Entry]):
    """Mapping from the name of an encoder to its entry.

    An installed package offers an encoder by an entry point of the table's group: its name is that of the encoder, its
    object whatever `convert` takes. The package is imported when the name is first looked up, so an offer that cannot
    be loaded is an error only for those who ask for it. `in` and iteration know the offered names and import nothing.

    Args:
        noun: str. The kind of entry, for messages: `"image encoder"`.
        group: str. Group of the entry points: `"kmm.image_encoders"`.
        entries: mapping of name to entry, those of kmm itself.
        convert: function `(made, name)` that makes an entry of what a package offers or a program registers.

    Example:
        >>> table = EncoderTable("shape", "kmm.shapes", {"disk": 1}, lambda made, name: made)
        >>> table.add("square", 2)
        >>> sorted(table), table["square"]
        (['disk', 'square'], 2)
        >>> table.add("disk", 3)
        Traceback (most recent call last):
        kmm.errors.InputError: The name 'disk' is taken by another shape. Choose another name.
    """

    def __init__(self, noun: str, group: str, entries: Mapping[str, Entry], convert: Convert[Entry]):
        self.noun, self.group, self._convert = noun, group, convert
        self._entries: dict[str, Any] = dict(entries)
        self._unmade: dict[str, Any] = {}  # registered, but not converted before their first use
        self._added: dict[str, Any] = {}  # what was registered, by name
        self._loaded: set[str] = set()  # names whose entry came from a package

    def add(self, name: str, made: Any) -> None:
        """Adds an entry under a new name. It is converted when it is first used.

        Raises:
            InputError: if the name is taken, or has other characters than letters, digits, `.`, `_` and `-`.
        """
        if not re.fullmatch(r"[\w.-]+", name):
            raise InputError(
                f"The name of the {self.noun} may have letters, digits, '.', '_' and '-' only. Received: {name!r}."
            )
        if name in self:
            raise InputError(f"The name {name!r} is taken by another {self.noun}. Choose another name.")
        self._unmade[name] = self._added[name] = made

    def find_added(self, name: str) -> Any:
        """Returns what `add` was given for a name, as it was given; None if the name was not added."""
        return self._added.get(name)

    def loaded(self) -> dict[str, Entry]:
        """Returns the entries that can be read without importing another package."""
        return {name: self[name] for name in (*self._entries, *self._unmade)}

    def load_offer(self, name: str) -> None:
        """Imports the package that offers an encoder, so that layers of its own are registered with Keras.

        Does nothing for a name that no installed package offers.

        Raises:
            InputError: if the package cannot be imported, or several offer the name.
        """
        if name not in self._entries and name not in self._unmade and name in self._offers():
            self[name]

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            if name in self._unmade:
                self._entries[name] = self._convert(self._unmade[name], name)
                del self._unmade[name]
                return self._entries[name]
            if name in self._offers():
                self._entries[name] = self._load(name)
                self._loaded.add(name)
        elif name not in self._loaded and name in self._offers():
            raise self._make_clash(name, ["kmm or this program"])
        return self._entries[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry
        self._added.pop(name, None)

    def __delitem__(self, name: str) -> None:
        self._added.pop(name, None)
        self._unmade.pop(name, None) if name in self._unmade else self._entries.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._unmade or name in self._offers()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._entries, *self._unmade, *self._offers()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _offers(self):
        return _find_offers(self.group, tuple(sys.path))

    def _load(self, name):
        offers = self._offers()[name]
        if len(offers) > 1:
            raise self._make_clash(name, [])
        (offer,) = offers
        try:
            return self._convert(offer.load(), name)
        except Exception as error:  # whatever the code of another package raises
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"The {self.noun} {name!r} of the package {_name_package(offer)} cannot be loaded "
                f"({type(error).__name__}: {reason}). Update the package, or uninstall it."
            ) from error

    def _make_clash(self, name, others):
        packages = [*others, *(f"the package {_name_package(offer)}" for offer in self._offers()[name])]
        return InputError(
            f"The {self.noun} {name!r} is offered more than once: by {' and '.join(packages)}. "
            "Uninstall a package, or rename its entry point."
        )


@functools.lru_cache(maxsize=8)
def _find_offers(group, path):
    """Lists the entry points of a group by name. Packages are sought again only where `sys.path` has changed."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for offer in metadata.entry_points(group=group):
        found.setdefault(offer.name, []).append(offer)
    return found


def _name_package(offer):
    return offer.dist.name if offer.dist else offer.module
