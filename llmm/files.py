"""Files that are never half-written: everything is made beside its place and moved there at the end."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmm.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` that replaces `path` when the block ends well.

    The temporary file is removed if the block raises, so a full disk or an interrupt leaves the old file as it was.
    Raises UserError where the disk has no room.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
    os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_is_a_user_error(path):
            yield temporary
            _sync(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path` that replaces the folder `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        with full_disk_is_a_user_error(path):
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            temporary.chmod(0o755)
            if path.exists():
                path.rename(old)  # deleting it here would take long enough to be interrupted half-way
            try:
                temporary.rename(path)
            except BaseException:
                if old.exists():
                    old.rename(path)
                raise
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, atomically. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises UserError, naming the file, where it is missing or is no JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there: `dvc repro` makes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no readable JSON ({error}): delete it and run `dvc repro`") from None


def sha256_of(*parts: bytes | str | Path) -> str:
    """The sha256 of the parts one after another; a Path stands for the content of its file."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        else:
            digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def _prefix(path: Path) -> str:
    return f".{path.name}.{os.getpid()}."


def _clear_leftovers(path: Path) -> None:
    """Remove what processes that were killed in the middle of writing `path` have left beside it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        pid = leftover.name.removeprefix(f".{path.name}.").partition(".")[0]
        if not pid.isdigit() or _is_alive(int(pid)):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def full_disk_is_a_user_error(path: Path) -> Iterator[None]:
    """Whatever a library raises where the disk has no room for `path` leaves the block as a UserError."""
    try:
        yield
    except Exception as error:
        if not _is_disk_full(error):
            raise
        raise UserError(f"no room on the disk for {path}: free some and run the same command again") from None


def _is_disk_full(error: Exception) -> bool:
    """Whether `error` stands for a full disk: C++ and Rust libraries tell it in words only, numpy by a short count."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in codes:
        return True
    text = str(error)
    short_count = isinstance(error, OSError) and re.search(r"\d+ requested and \d+ written", text) is not None
    return short_count or any(os.strerror(code) in text or f"code: {code}," in text for code in codes)
