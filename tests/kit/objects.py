"""SeaweedFS, a real S3-compatible store, on loopback."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from bonetumor.dicom.bucket import Bucket
from kit.servers import free_port, need, running, wait_until

ACCESS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "kept for tests"}


class ObjectStore:
    """One server with one bucket; the tests' environment must hold ACCESS to talk to it."""

    NAME = "studies"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("master", "volume", "filer", "s3")
        self._ports = {f"{n}.port{more}": free_port() for n in names for more in ("", ".grpc")}
        self.url = f"http://127.0.0.1:{self._ports['s3.port']}"

    @contextmanager
    def up(self) -> Iterator["ObjectStore"]:
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        keys = dict(zip(("accessKey", "secretKey"), ACCESS.values(), strict=True))
        everything = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "tester", "credentials": [keys], "actions": everything}
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        command = [
            need("weed", str(Path(sys.executable).parent)),
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=16",
            "-s3",
            "-s3.autoCreateBucket=false",
            f"-s3.config={config}",
            f"-s3.port.iceberg={free_port()}",
            f"-s3.port.lance={free_port()}",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        with running(command, self.folder / "weed.log") as server:
            wait_until(self._is_ready, 90, f"SeaweedFS, see {self.folder / 'weed.log'}")
            yield self
            server.kill()  # it takes its time to say goodbye

    @property
    def client(self):
        return boto3.session.Session(*ACCESS.values()).client(
            "s3", endpoint_url=self.url, region_name="us-east-1"
        )

    def _is_ready(self) -> bool:
        try:
            if self.NAME not in [b["Name"] for b in self.client.list_buckets()["Buckets"]]:
                self.client.create_bucket(Bucket=self.NAME)
            self.client.put_object(Bucket=self.NAME, Key="ready", Body=b"ready")
            self.client.delete_object(Bucket=self.NAME, Key="ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.5)
            return False
        return True

    def stored(self, start: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.NAME, Prefix=start)
        return [one["Key"] for one in found.get("Contents", ())]

    def bucket(self, **options) -> Bucket:
        return Bucket(self.NAME, endpoint_url=self.url, timeout_s=5, **options)
