"""The ledger: the truth about every study. Each public method is one transaction."""

from bonetumor.store.arriving import Arriving
from bonetumor.store.attending import Attending
from bonetumor.store.deciding import Deciding
from bonetumor.store.looking import Looking
from bonetumor.store.performing import Performing
from bonetumor.store.receiving import Receiving
from bonetumor.store.retaining import Retaining
from bonetumor.store.shelving import Shelving
from bonetumor.store.upgrade import bring_up
from bonetumor.store.working import Working
from bonetumor.store.writing import Writing


class SqlLedger(
    Receiving,
    Arriving,
    Working,
    Looking,
    Deciding,
    Performing,
    Retaining,
    Attending,
    Shelving,
    Writing,
):
    """Studies, instances, steps and events in a relational database."""

    def close(self) -> None:
        """Gives the database's connections back."""
        self._plainly.close()
        self._reader.dispose()

    def prepare(self) -> None:
        """Makes the tables where they are missing, brings older versions up, refuses newer ones."""
        with self._transaction() as connection:
            bring_up(connection)
