"""Laying files down in folders that others write and wipe too: only what changed, only what is ours, never through a link.

    wanted ──► looks as we left it? ──► same bytes there? ──► new file beside it, renamed over it
               (one scan per folder)    (read, compare)

What we laid is written in a journal outside (in `DRAGON_HOME`), before it is laid: so after a crash, too, every file of ours is
known, and no other is ever taken away. A folder that is new is filled aside and appears complete; a file changes in one step;
nothing is ever missing in between. There is no fsync: what lies here is laid again from what is known.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dragon.astroport.laid_journal import LaidJournal, is_name
from dragon.astroport.placing import FOLDER, File, clear, create, differs, held, looks, remove, replace, unfinished
from dragon.errors import HomeError

STAGING: Final = ".dragon-laying"
"""Folder beside the target, in which new folders are filled. Shell patterns and `ipfs add` pass dotted names over."""

ATTEMPTS: Final = 3
"""Times that a pass begins anew when the folders vanish under it: others wipe once, and then write."""


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in a folder: the contents of the files that were asked for (plain and small ones), and names not ours."""

    contents: Mapping[str, bytes]
    strangers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Order:
    """One folder as it shall be. `render` is asked only where the folder is not as we left it for the same `token`."""

    token: Hashable
    names: frozenset[str]
    """Of all files that `render` will return."""
    render: Callable[[Found], Mapping[str, File]]
    """Gets what lies there now, returns name → file."""
    reads: tuple[str, ...] = ()
    """Names of the files whose contents `render` wants to know."""


@dataclass(frozen=True, slots=True)
class Laid:
    """What one pass did: names as `folder/file`, or bare ones where there is one folder only.

    `changed`: new content; `refreshed`: only newer times, nothing worth telling anybody; `removed`: taken away.
    """

    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refreshed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed that others should hear of."""
        return bool(self.changed or self.removed)


class Layer:
    """Lays folders below `root`. Every method blocks; none may run at the same time as another."""

    def __init__(self, root: Path, journal: Path, *, within: Path) -> None:
        """`within`: the folder around `root` that must be there already; what is missing between the two is made."""
        self._root = root
        self._within = within
        self._journal = LaidJournal(journal, root)
        self._ours: dict[str, set[str]] | None = None
        self._left: dict[str, tuple[Hashable, int]] = {}
        self._untold = _Done()

    @property
    def ours(self) -> Mapping[str, Collection[str]]:
        """Folder → the names that we laid there, also before a restart."""
        if self._ours is None:
            self._ours = self._journal.read()
        return self._ours

    def lay(self, orders: Mapping[str, Order], *, keep: Collection[str] = ()) -> Laid:
        """Make the folders as `orders` say, and take away ours of any other, except those to `keep`.

        Raises `HomeError` in one line where a place cannot be written; folders that could be are then done all the same.
        """
        self._ours = {folder: set(names) for folder, names in self.ours.items()}
        done = self._untold  # what earlier passes did before they failed is told with this one
        for attempt in range(1, ATTEMPTS + 1):
            with _explained(self._root), self._opened() as root:
                try:
                    self._pass(root, orders, keep, done)
                    self._untold = _Done()
                    return Laid(tuple(dict.fromkeys(done.changed)), tuple(dict.fromkeys(done.removed)))
                except FileNotFoundError:
                    if attempt == ATTEMPTS:
                        raise
                    self._left.clear()
        raise AssertionError("unreachable")

    def adopt(self, folder: str, names: Iterable[str]) -> None:
        """Count files as ours that a lost journal knew: the next pass takes them away unless they are wanted."""
        self._ours = {each: set(known) for each, known in self.ours.items()}
        self._ours.setdefault(folder, set()).update(name for name in names if is_name(name))

    def forget(self) -> None:
        """Look at every folder anew at the next pass."""
        self._left.clear()

    @contextmanager
    def _opened(self) -> Iterator[int]:
        if not self._within.is_dir():
            raise HomeError(f"{self._within} is missing: nothing is laid there", "install Astroport.ONE, or set ZEN_HOME")
        self._root.mkdir(parents=True, exist_ok=True)
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield root
        finally:
            os.close(root)

    def _pass(self, root: int, orders: Mapping[str, Order], keep: Collection[str], done: _Done) -> None:
        """Go once through all folders, counting in `done`. Raises `FileNotFoundError` where they vanish meanwhile."""
        assert self._ours is not None
        differing = [folder for folder, order in orders.items() if self._left.get(folder) != (order.token, looks(root, folder))]
        for folder in differing:
            self._ours.setdefault(folder, set()).update(_checked(self._root, folder, orders[folder].names))
        self._journal.write(self._ours)
        done.troubles.clear()
        with closing(_Staging(root)) as staging:
            for folder in differing:
                if self._lay_folder(root, staging, folder, orders[folder], done):
                    self._left[folder] = (orders[folder].token, looks(root, folder))
        for folder in [each for each in self._ours if each not in orders and each not in keep]:
            try:
                self._clear_folder(root, folder, done)
            except OSError as error:
                done.troubles.append((folder, error))
        self._journal.write(self._ours)
        if done.troubles:
            _raise(self._root, done.troubles)

    # -- one folder ---------------------------------------------------------------------------------------------------

    def _lay_folder(self, root: int, staging: _Staging, folder: str, order: Order, done: _Done) -> bool:
        """Make one folder as `order` says, and tell whether all of it could be done."""
        assert self._ours is not None
        contents, names = held(root, folder, order.reads)
        files = order.render(Found(contents, names - self._ours[folder]))
        if files.keys() != order.names:
            raise ValueError(f"{folder}: {sorted(files.keys() ^ order.names)} were not announced, or not made")
        troubles = len(done.troubles)
        with done.noting(folder):
            place = self._place(root, staging, folder, files)
            if place is None:
                done.changed += [f"{folder}/{name}" for name in sorted(files)]
            else:
                try:
                    self._renew(place, folder, files, done)
                finally:
                    os.close(place)
            self._ours[folder] = set(files)
        return len(done.troubles) == troubles

    def _renew(self, place: int, folder: str, files: Mapping[str, File], done: _Done) -> None:
        """Replace in an open folder what differs, and take away ours that are not wanted any more."""
        assert self._ours is not None
        for name, file in sorted(files.items()):
            with done.noting(f"{folder}/{name}"):
                if differs(place, name, file):
                    replace(place, name, file)
                    done.changed.append(f"{folder}/{name}")
        done.removed += [f"{folder}/{name}" for name in sorted(self._ours[folder] - files.keys()) if remove(place, name)]

    def _place(self, root: int, staging: _Staging, folder: str, files: Mapping[str, File]) -> int | None:
        """Return the open folder, None where there was none and it now has `files`."""
        try:
            return os.open(folder, FOLDER, dir_fd=root)
        except FileNotFoundError:
            pass
        aside = staging.opened()
        clear(aside, folder)
        os.mkdir(folder, 0o755, dir_fd=aside)
        place = os.open(folder, FOLDER, dir_fd=aside)
        try:
            os.fchmod(place, 0o755)  # like its files, whatever the umask is
            for name, file in files.items():
                create(place, name, file)
        finally:
            os.close(place)
        try:
            os.rename(folder, folder, src_dir_fd=aside, dst_dir_fd=root)  # complete at once: nobody sees half of it
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            clear(aside, folder)
            return os.open(folder, FOLDER, dir_fd=root)  # somebody else brought one meanwhile
        return None

    def _clear_folder(self, root: int, folder: str, done: _Done) -> None:
        """Take away our files of `folder`, and the folder itself where nothing else is in it."""
        assert self._ours is not None
        self._left.pop(folder, None)
        try:
            place = os.open(folder, FOLDER, dir_fd=root)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            self._ours.pop(folder)  # gone, or somebody else's file or link now
            return
        try:
            done.removed += [f"{folder}/{name}" for name in sorted(self._ours[folder]) if remove(place, name)]
            for name in self._ours[folder]:
                remove(place, unfinished(name))
        finally:
            os.close(place)
        self._ours.pop(folder)
        with suppress(OSError):  # others' files are in it
            os.rmdir(folder, dir_fd=root)


@dataclass(slots=True)
class _Done:
    """What a pass did so far: names as `folder/file`, and what kept it from the rest."""

    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    troubles: list[tuple[str, OSError]] = field(default_factory=list)

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note an error of the disk instead of raising it, except that something vanished: then the pass begins anew."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            self.troubles.append((name, error))


def _checked(root: Path, folder: str, names: frozenset[str]) -> frozenset[str]:
    for name in (folder, *names):
        if not is_name(name):
            raise HomeError(f"{root}: {name[:60]!r} is no name for a file", "report this: such names are made by Dragon alone")
    return names


class _Staging:
    """The folder in which new ones are filled, on the same file system as their places: made when one is, gone after."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._descriptor: int | None = None

    def opened(self) -> int:
        if self._descriptor is None:
            with suppress(FileExistsError):
                os.mkdir(STAGING, 0o700, dir_fd=self._root)
            self._descriptor = os.open(STAGING, FOLDER, dir_fd=self._root)
        return self._descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            with suppress(OSError):  # what could not be moved is still in it: taken away the next time
                os.rmdir(STAGING, dir_fd=self._root)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _raise(path, [("", error)])


def _raise(root: Path, troubles: list[tuple[str, OSError]]) -> None:
    """Raise one line for all `troubles`: the first, and how many more there are."""
    folder, error = troubles[0]
    path = root / folder
    more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
    why = error.strerror or str(error)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        raise HomeError(
            f"{path} is a link or no folder{more}: nothing is laid there", "remove it, or make it a folder"
        ) from error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise HomeError(
            f"the disk of {path} is full{more}", "free some space; the files are laid again by themselves"
        ) from error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise HomeError(f"{path} cannot be written: {why}{more}", "run as the station's user, or set ZEN_HOME") from error
    raise HomeError(f"{path}: {why}{more}", "set ZEN_HOME to a folder of your own") from error
