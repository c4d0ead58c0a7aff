"""Deciding that a study has arrived in full."""

from collections.abc import Sequence
from datetime import timedelta

from bonetumor.domain.uid import UID
from bonetumor.service.ledger import InstanceLedger
from bonetumor.service.ports import Clock, CompletenessProof


class QuietPeriod:
    """The fallback: a study is complete when nothing came for a while. The result says so."""

    def __init__(self, *, ledger: InstanceLedger, clock: Clock, quiet: timedelta) -> None:
        self._ledger = ledger
        self._clock = clock
        self._quiet = quiet

    def studies_complete(self) -> Sequence[tuple[UID, int, str]]:
        """Studies that were quiet for long enough."""
        how = f"no image for {self._quiet.total_seconds():g} s; not proven against the archive"
        return [
            (study, revision, how)
            for study, revision in self._ledger.quiet_since(self._clock() - self._quiet)
        ]


def close_complete_studies(proof: CompletenessProof, ledger: InstanceLedger) -> int:
    """Closes every study that the proof names; answers how many."""
    return sum(
        ledger.close_study(study, revision, how)
        for study, revision, how in proof.studies_complete()
    )
