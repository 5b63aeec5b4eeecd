"""Write files and folders so that a kill, a full disk or a power cut leaves what was there or what is new, whole.

Everything is written under a hidden name beside the target, synced, and then takes the target's name in one step.
What holds, and on what it rests, is told in docs/sharing.md. Needs POSIX; imports no torch.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

LOCK_WAIT = 10.0  # seconds; a folder of modules is written in a fraction of one
_HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp-[0-9a-f]{32}|old-[0-9a-f]{32}|writing)")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


# --- single files


def write_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write one file: a reader sees the old content or the new, and when this returns the new is on disk.

    Of two writers at once one wins, whole. Folders on the way are made. The mode of a file that was there is kept.

    Raises:
        OSError: Nothing was changed; of a full disk it tells the bytes needed and free.
    """
    parts = [content] if isinstance(content, bytes) else content
    with new_file(path, len(content) if isinstance(content, bytes) else 0) as stream:
        for part in parts:
            stream.write(part)


@contextmanager
def new_file(path: Path, size: int = 0) -> Iterator[BinaryIO]:
    """The same for a file that is written piece by piece: it takes its name when the block ends well.

    Args:
        size: Bytes that must be free before it begins, where known.
    """
    make_folders(path.parent)
    _sweep_files(path)
    with _figures(path.parent, size):
        _check_room(path.parent, size)
        temporary, raw = _open_held(path)
        try:
            with io.BufferedWriter(raw, 1 << 20) as stream:
                _take_mode(raw.fileno(), path)
                yield cast(BinaryIO, stream)
                stream.flush()
                os.fsync(raw.fileno())
                os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        sync(path.parent)


class _Raw(io.RawIOBase):
    """A descriptor as a stream. Its owner holds a lock on the file, by which others see that it is in use."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def write(self, data: object) -> int:
        return os.write(self._descriptor, cast(memoryview, data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _open_held(path: Path) -> tuple[Path, _Raw]:
    while True:
        temporary = _hidden(path, "tmp")
        raw = _Raw(os.open(temporary, _NEW, 0o666))
        try:
            with suppress(BlockingIOError):
                if not _lock(raw.fileno()) or os.fstat(raw.fileno()).st_nlink:
                    return temporary, raw
        except BaseException:
            raw.close()
            os.unlink(temporary)
            raise
        raw.close()  # another process found it before it was locked, took it for a dead one's and removes it


def _sweep_files(path: Path) -> None:
    """Remove temporaries of this file whose writers are dead: nobody holds the lock on them."""
    for temporary in _left(path):
        with suppress(OSError):  # in use by another process, or gone meanwhile
            descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if _lock(descriptor):
                    os.unlink(temporary)
            finally:
                os.close(descriptor)


# --- folders


def write_folder(
    folder: Path,
    files: Mapping[str, bytes],
    last: str,
    *,
    check: Callable[[], object] = lambda: None,
    wait: float = LOCK_WAIT,
) -> None:
    """Write `files` (relative name -> content) as `folder`, in place of what is there: all of them, or nothing.

    `last` is written last, so a folder without it was never whole. On a filesystem that can exchange two names, as
    those of Linux do, there is no moment without a whole folder under the name. On others there is one between two
    renames; a kill just then leaves the old under a hidden name, where `open_folder` finds it, and the next writer
    puts it back.

    Args:
        check: Called when no other process writes this folder; what it raises ends the work.
        wait: Seconds to wait for another writer of this folder.

    Raises:
        OSError: The old folder is in place, unless only the last sync failed. BlockingIOError tells the process
            that holds the folder; of a full disk it tells the bytes needed and free.
    """
    folder = folder.absolute()
    make_folders(folder.parent)
    size, token = sum(map(len, files.values())), uuid.uuid4().hex
    staged = _hidden(folder, "tmp", token)
    with _figures(folder.parent, size), _held(folder, wait) as alone:
        if alone and _left(folder):
            _tidy(folder)
        check()
        _check_room(folder.parent, size)
        try:
            _stage(staged, files, last)
            _take_mode(staged, folder)
            _put(staged, folder, token)
        finally:
            _tidy(folder, "" if alone else token)


def remove_folder(folder: Path) -> None:
    """Remove a folder in one step: it is never seen, nor left by a kill, in part."""
    folder = folder.absolute()
    with _held(folder, LOCK_WAIT) as alone:
        token = uuid.uuid4().hex
        os.rename(folder, _hidden(folder, "tmp", token))
        _tidy(folder, "" if alone else token)


def sweep(parent: Path) -> None:
    """Tidy up after dead writers of any folder directly below `parent`; folders in use are passed by."""
    found = (_HIDDEN.fullmatch(name) for name in os.listdir(parent))
    for target in {parent.absolute() / match["name"] for match in found if match}:
        _sweep_files(target)
        with suppress(BlockingIOError), _held(target, 0) as alone:
            if alone:
                _tidy(target)


def _stage(staged: Path, files: Mapping[str, bytes], last: str) -> None:
    folders = {parent for name in files for parent in (staged / name).parents if parent.is_relative_to(staged)}
    deepest_last = sorted(folders | {staged}, key=lambda folder: len(folder.parts))
    for folder in deepest_last:
        os.mkdir(folder)
    for name in sorted(files, key=lambda name: (name == last, name)):
        with _Raw(os.open(staged / name, _NEW, 0o666)) as raw:
            left = memoryview(files[name])
            while left:
                left = left[raw.write(left) :]
            os.fsync(raw.fileno())
    for folder in reversed(deepest_last):
        sync(folder)


def _put(staged: Path, folder: Path, token: str) -> None:
    """Give the staged folder its name; what has it now gets the staged folder's, or a hidden one."""
    try:
        return os.rename(staged, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if not _exchange(staged, folder):
        os.rename(folder, _hidden(folder, "old", token))
        os.rename(staged, folder)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step (Linux, renameat2(2)); False where this system or filesystem cannot."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    if call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def _tidy(folder: Path, token: str = "") -> None:
    """Put back an old folder whose name nobody has; remove what is left, after the names are safely on disk.

    Called by the holder of the lock: whatever is left belongs to the dead, or to the caller. Without a lock only
    what has the caller's own token is touched.
    """
    for old in _left(folder, f"old-{token}"):
        if not os.path.lexists(folder):
            os.rename(old, folder)
    sync(folder.parent)
    for left in _left(folder):
        if left.name.endswith(token) and left.is_dir():
            with suppress(OSError):  # what cannot be removed stays hidden for the next writer
                if left.name.startswith(f".{folder.name}.old-"):  # under which there are whole folders only
                    left = left.rename(_hidden(folder, "tmp"))
                shutil.rmtree(left)


def open_folder(folder: Path) -> int:
    """A descriptor of a folder that others may be replacing.

    What is opened relative to it is all of one folder, whatever happens to the name. That folder may be removed while
    it is read: when something is missing there and the name has another folder by now, open again.

    Raises:
        FileNotFoundError: If there is no such folder, nor an old one whose writer was killed before it put the new
            one in its place (see `write_folder`).
        NotADirectoryError: If it is a file.
    """
    for _ in range(2):  # the old one may go while it is looked for: then the new one is there
        with suppress(FileNotFoundError):
            return os.open(folder, _FOLDER)
        with suppress(FileNotFoundError, PermissionError):
            for old in _left(folder.absolute(), "old-"):
                return os.open(old, _FOLDER)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))


# --- what both need


def sync(folder: Path) -> None:
    """Have the names in a folder written to disk. A filesystem that knows no such thing (EINVAL) has it done."""
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, safely on disk."""
    folder = folder.absolute()
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(each)
        sync(each.parent)


@contextmanager
def _held(target: Path, wait: float) -> Iterator[bool]:
    """Keep other writers of `target` out, by a lock that dies with its process; False where there are no locks."""
    path, deadline = target.with_name(f".{target.name}.writing"), time.monotonic() + wait
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            alone = _lock(descriptor)
            if not alone or _same(descriptor, path):
                break
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise BlockingIOError(errno.EWOULDBLOCK, f"held by pid {holder}, which is writing it") from None
            time.sleep(0.01)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    try:
        with suppress(OSError):  # for the message above only; the disk may be full
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield alone
    finally:
        with suppress(OSError):  # one that stays is held by nobody
            os.unlink(path)
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file, or BlockingIOError; False on a filesystem without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _check_room(folder: Path, size: int) -> None:
    status = os.statvfs(folder)
    if status.f_blocks and status.f_bavail * status.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _figures(folder: Path, size: int) -> Iterator[None]:
    """Say a full disk in figures."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        status = os.statvfs(folder)
        need, have = f"need {size:,} bytes, " if size else "", status.f_bavail * status.f_frsize
        raise OSError(error.errno, f"{os.strerror(error.errno)}: {need}have {have:,} bytes") from error


def _take_mode(new: int | Path, old: Path) -> None:
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(old).st_mode)
        if mode != stat.S_IMODE(os.stat(new).st_mode):
            os.chmod(new, mode)


def _hidden(target: Path, kind: str, token: str = "") -> Path:
    return target.with_name(f".{target.name}.{kind}-{token or uuid.uuid4().hex}")


def _left(target: Path, kind: str = "") -> list[Path]:
    """Hidden files and folders of a target, but its lock."""
    found = ((_HIDDEN.fullmatch(name), name) for name in sorted(os.listdir(target.parent)))
    return [
        target.with_name(name)
        for match, name in found
        if match and match["name"] == target.name and match["kind"] != "writing" and match["kind"].startswith(kind)
    ]
