"""Finds what became of a message: its events in the streams, the quarantine and the spool, and who has read them.

``wanted`` knows what an id can mean, ``scope`` where it may be. ``streams`` and ``spool`` look for it. ``finder``
decides where to look first, and what the ``result`` is.
"""
