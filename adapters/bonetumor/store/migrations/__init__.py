"""Alembic migrations of the ledger. `versions` has one file for each change of the tables."""
