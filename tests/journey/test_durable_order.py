"""Every Success after fsync, rename, fsync of the folders and the ledger's commit: by strace.

A commit counts if it begins after the folder was synced and ends before the answer: another thread
may make it for several.
"""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from pydicom.uid import generate_uid

from kit import studies
from kit.plugin import Plugin, storescu
from kit.servers import answers, need, running, wait_until

SENDERS, IMAGES = 4, 25
_CALL = re.compile(r"^(\d+)\s+(?:<\.\.\. )?(\w+)(?:\((.*)| resumed>(.*))$")


def test_every_success_follows_what_it_promises(tmp_path):
    plugin = Plugin(tmp_path / "plugin", BONETUMOR_LISTENER__QUIET_S="600")
    trace = tmp_path / "trace"
    traced = ["fsync", "fdatasync", "rename", "sendto", "mkdir"]
    command = [need("strace"), "-f", "-y", "-s", "400", "-e", f"trace={','.join(traced)}"]
    command += ["-o", str(trace), sys.executable, "-m", "bonetumor.worker", "listen"]
    command.append("--supervised")  # ends with strace
    with running(command, tmp_path / "log", env=plugin.environment):
        wait_until(lambda: answers(plugin.port), 60, "listener")
        batches = [_files(tmp_path / f"from-{s}", s) for s in range(SENDERS)]
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(lambda files: storescu(plugin.port, *files), batches))
    lines, folder = trace.read_text().splitlines(), str(plugin.folder)
    assert check(lines, folder) == SENDERS * IMAGES
    for left_out in (r"fsync\(.*part>", r"rename\(", r"fsync\(.*/spool/", r"/spool>", r"-wal>"):
        with pytest.raises(AssertionError):
            check([x for x in lines if not re.search(left_out, x)], folder)
    assert len(list((plugin.folder / "spool").glob("*/*.dcm"))) == SENDERS * IMAGES


def _files(folder, sender):
    """Half of them of a study that every sender sends a part of, half of one of its own."""
    folder.mkdir()
    image = studies.dataset(70, 320)
    shared, own = "1.2.826.77", f"1.2.826.77.{sender + 1}"
    files = []
    for number in range(IMAGES):
        image.StudyInstanceUID = shared if number % 2 == 0 else own
        image.SeriesInstanceUID = f"{own}.9"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(folder / f"{number}.dcm")
        image.save_as(files[-1], enforce_file_format=True)
    return files


@dataclass
class Disk:
    """What is known to be on it, as the trace goes on. `commits` counts those that have begun."""

    folder: str
    commits: int = 0
    ended: set[int] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    lasting: set[str] = field(default_factory=set)


@dataclass
class Thread:
    """What one thread has done since its last answer, and the call that it is in."""

    text: str = ""
    steps: list[str] = field(default_factory=list)
    where: str = ""
    commit: int = 0
    commits_before: int = 0
    covers: set[str] = field(default_factory=set)


def check(lines, folder) -> int:
    """How many answers to C-STORE there were; asserts for each what came before it."""
    disk, threads, answers_seen = Disk(folder), {}, 0
    for line in lines:
        found = _CALL.match(line)
        if not found:
            continue
        thread, call = threads.setdefault(found[1], Thread()), found[2]
        if found[3] is not None:
            thread.text = found[3]
            answers_seen += _begins(disk, thread, call)
        if "<unfinished" not in line:
            _ends(disk, thread, call, succeeded=line.rstrip().endswith("= 0"))
    return answers_seen


def _begins(disk, thread, call) -> bool:
    if call == "fdatasync" and "ledger.sqlite-wal" in thread.text:
        disk.commits += 1
        thread.commit = disk.commits
    elif call == "fsync" and f"{disk.folder}/spool>" in thread.text:
        thread.covers = set(disk.made)
    elif call == "sendto" and ', "\\4\\0' in thread.text:
        assert thread.steps == ["file", "rename", "folder"], thread.steps
        assert thread.where in disk.lasting, f"{thread.where} is not synced itself"
        later = range(thread.commits_before + 1, disk.commits + 1)
        assert disk.ended & set(later), "no commit began after the sync and ended before the answer"
        thread.steps.clear()
        return True
    return False


def _ends(disk, thread, call, *, succeeded) -> None:
    text, thread.text = thread.text, ""
    if call == "mkdir" and f"{disk.folder}/spool/" in text:
        disk.made.add(text.split('"')[1])
    if not succeeded:
        return
    if call == "fdatasync" and "ledger.sqlite-wal" in text:
        disk.ended.add(thread.commit)
    elif call == "rename" and ".part" in text:
        thread.steps.append("rename")
        thread.where = text.split('"')[3].rsplit("/", 1)[0]
    elif call == "fsync" and ".part>" in text:
        thread.steps.append("file")
    elif call == "fsync" and f"{disk.folder}/spool>" in text:
        disk.lasting |= thread.covers
    elif call == "fsync" and f"{thread.where}>" in text:
        thread.steps.append("folder")
        thread.commits_before = disk.commits
