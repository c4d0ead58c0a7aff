"""A bucket of an S3-compatible store, where received objects lie for all machines.

A key is the name of the object in the spool, `/` and the hour of its arrival. A sender that sends
an object again an hour later writes another key: what is older than two hours can be removed
without asking who writes at this moment, and S3 has no other way to be sure (no rename, and
deleting on a condition is not everywhere).
"""

import base64
import hashlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from bonetumor.domain.errors import StorageUnavailable

_HOUR, _HOUR_S = "%Y%m%dT%H", 3600
_SETTLED_S = 2 * _HOUR_S
_PIECE = 1024 * 1024


class Bucket:
    """Objects by name. Safe for several threads.

    `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint_url: str = "",
        region: str = "us-east-1",
        prefix: str = "",
        authority: Path | None = None,
        timeout_s: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._place = endpoint_url or "Amazon S3"
        self._prefix = prefix
        self._clock = clock
        self._endpoint_url = endpoint_url
        self._region = region
        self._authority = authority
        self._timeout_s = timeout_s

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self._endpoint_url or None,
            region_name=self._region,
            verify=str(self._authority) if self._authority else None,
            config=Config(
                connect_timeout=min(self._timeout_s, 5.0),
                read_timeout=self._timeout_s,
                retries={"mode": "standard", "total_max_attempts": 2},
                # Stores other than Amazon's know neither host names of buckets nor new checksums.
                s3={"addressing_style": "path" if self._endpoint_url else "auto"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def answers(self) -> str:
        """Where the bucket is.

        Raises:
            StorageUnavailable: it cannot be written, listed and read.
        """
        probe = f"{self._prefix}doctor-{time.time_ns()}"
        with self._reporting("to write, list and read"):
            self._client.put_object(Bucket=self.name, Key=probe, Body=b"doctor")
            found = list(self._keys(probe))
            self._client.get_object(Bucket=self.name, Key=probe)["Body"].read()
            self._client.delete_object(Bucket=self.name, Key=probe)
        if found != [probe]:
            raise StorageUnavailable(
                f"bucket: expected {self.name} at {self._place} to list what was just written, "
                f"got {len(found)} keys"
            )
        return f"bucket {self.name} at {self._place}"

    def put(self, name: str, file: Path) -> None:
        """Stores a file; the store compares its MD5, and answers when it is safe there.

        Raises:
            StorageUnavailable: the store does not take it.
        """
        hour = time.strftime(_HOUR, time.gmtime(self._clock()))
        with self._reporting("to write"), file.open("rb") as body:
            digest = hashlib.file_digest(body, lambda: hashlib.md5(usedforsecurity=False)).digest()
            body.seek(0)
            self._client.put_object(
                Bucket=self.name,
                Key=f"{self._prefix}{name}/{hour}",
                Body=body,
                ContentMD5=base64.b64encode(digest).decode(),
            )

    def has(self, name: str) -> bool:
        """Whether there is an object of this name.

        Raises:
            StorageUnavailable: the store does not say.
        """
        with self._reporting("to list"):
            return any(True for _ in self._keys(f"{self._prefix}{name}/"))

    def get(self, name: str, file: BinaryIO) -> bool:
        """Writes the newest object of this name into `file`; False where there is none.

        Raises:
            StorageUnavailable: the store does not give it.
        """
        with self._reporting("to read"):
            keys = sorted(self._keys(f"{self._prefix}{name}/"))
            if not keys:
                return False
            answer = self._client.get_object(Bucket=self.name, Key=keys[-1])
            for piece in answer["Body"].iter_chunks(_PIECE):
                file.write(piece)
        return True

    def remove(self, folder: str, kept: Collection[str] = (), *, settled: bool = True) -> bool:
        """Removes all names below `folder/` but `kept`; whether none but those is left.

        With `settled` what came in the last two hours stays as well.

        Raises:
            StorageUnavailable: the store does not let it.
        """
        start = f"{self._prefix}{folder}/"
        limit = self._clock() - _SETTLED_S if settled else float("inf")
        clean = True
        with self._reporting("to remove"):
            for key in list(self._keys(start)):
                name, _, hour = key.removeprefix(self._prefix).rpartition("/")
                if name in kept:
                    continue
                if _end(hour) > limit:
                    clean = False
                    continue
                self._client.delete_object(Bucket=self.name, Key=key)
        return clean

    def _keys(self, start: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.name, Prefix=start):
            yield from (found["Key"] for found in page.get("Contents", ()))

    @contextmanager
    def _reporting(self, wish: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {}).get("Code") or "an error without a code"
            raise StorageUnavailable(
                f"bucket: expected {self.name} at {self._place} {wish}, got {said}"
            ) from error
        except BotoCoreError as error:
            raise StorageUnavailable(
                f"bucket: expected {self.name} at {self._place} {wish}, got {type(error).__name__}"
            ) from error
        except OSError as error:
            raise StorageUnavailable(
                f"bucket: expected {wish} on both sides, got {error.strerror or error}"
            ) from error


def _end(hour: str) -> float:
    """When the hour in a key was over, in seconds since 1970; what is no hour never is."""
    try:
        return datetime.strptime(f"{hour}+0000", f"{_HOUR}%z").timestamp() + _HOUR_S
    except ValueError:
        return float("inf")
