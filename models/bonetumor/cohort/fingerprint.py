"""One hash for many files: whether a source is what it was when something was trained on it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bonetumor.domain.errors import InvalidInput


def fingerprint_files(paths: Iterable[Path]) -> str:
    """The SHA-256 over the sorted SHA-256 of the files, each as 64 lower-case hexadecimal digits
    and a newline.

    Names, folders and order do not count, contents do, and so does a file that is there twice
    under two names. The same path given twice counts once. By hand:
    `sha256sum FILES | cut -c1-64 | LC_ALL=C sort | sha256sum`.

    Raises:
        InvalidInput: a file cannot be read.
    """
    hashes = sorted(_hash_file(path) for path in dict.fromkeys(paths))
    return hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"sources: expected a readable {path}, got {error.strerror}") from error
