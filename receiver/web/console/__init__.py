"""The console: a web page that shows the events of a project as they are stored, and the state of the service.

The page is static files in ``static/``. Its data comes as server-sent events, behind the lookups' authentication:

    streams in Redis ─▶ tails ─▶ feed (one task for each project that is watched) ─▶ viewers ─▶ browsers

A feed runs while it has viewers; without any, the console does nothing. It reads from the streams, so its numbers cover
all workers and all replicas.
"""
