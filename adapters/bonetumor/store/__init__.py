"""The ledger: every study, instance, step and event, in SQLite or PostgreSQL."""
