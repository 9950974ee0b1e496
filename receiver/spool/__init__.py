"""Events on local disk that Redis has not taken yet: files in SQLite, and what happens when a disk fails."""
