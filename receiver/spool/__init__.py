"""The spool: SQLite files on the local disk with the events that Redis has not taken yet."""
