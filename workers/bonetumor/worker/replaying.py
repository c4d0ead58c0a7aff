"""`replay`: letting studies that stopped run again, once what stopped them is mended."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console

from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.progress import STOPPED, StudyProgress, StudyState
from bonetumor.domain.uid import parse_uid
from bonetumor.service.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which stopped studies: in one of `states`, with `problem` in theirs, stopped at `since` or
    later (UTC where it names no time zone)."""

    states: Collection[StudyState] = STOPPED
    problem: str = ""
    since: datetime | None = None

    def fits(self, study: StudyProgress) -> bool:
        """Whether a study is meant."""
        if (
            study.state not in self.states
            or self.problem.lower() not in (study.problem or "").lower()
        ):
            return False
        if self.since is None:
            return True
        since = self.since if self.since.tzinfo else self.since.replace(tzinfo=UTC)
        return study.updated_at >= since


def replay_one(ledger: Ledger, study: str, out: Console, *, dry: bool) -> None:
    """Lets one study run again; raises InvalidInput if it was not stopped."""
    uid = parse_uid(study, name="Study Instance UID")
    found = ledger.one(uid)
    if found is None or found.state not in STOPPED or not (dry or ledger.retry(uid)):
        raise InvalidInput(f"replay: expected a held or failed study, got {study}")
    out.print(f"{study} {'would run' if dry else 'runs'} again.")


def replay(ledger: Ledger, chosen: Filter, out: Console, *, dry: bool) -> None:
    """Lets every stopped study that fits run again, and names each."""
    stopped = ledger.progress(states=STOPPED)
    fitting = [s for s in stopped if chosen.fits(s)]
    ran = 0
    for study in fitting:
        ran += dry or ledger.retry(study.study_instance_uid)
        out.print(
            f"{study.study_instance_uid} {study.state}: {study.problem}",
            markup=False,
            soft_wrap=True,
        )
    out.print(f"{ran} of {len(stopped)} stopped studies {'would run' if dry else 'run'} again.")
