"""What it means when Redis refuses a command, and the fix: one sentence each for every code.

Codes: https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from receiver.errors import WriteFailedError


class Refusal(NamedTuple):
    """Why Redis refuses, as the end of a sentence that begins with its name; and the fix."""

    what: str
    fix: str


_CLUSTER_URL: Final = "Write redis+cluster://host:port in REDIS_URL."
#: Rights of a user that suffice for the service and all commands.
RIGHTS: Final = "ACL SETUSER NAME '~*' '&*' '+@all' '-@admin' '-@dangerous' '+info' '+config|get'"
REFUSALS: Final = {
    "OOM": Refusal(
        "has reached maxmemory and takes no new events, which go to the spool meanwhile",
        "Raise it above what CONFIG GET maxmemory shows: redis-cli CONFIG SET maxmemory BYTES, and in its "
        "configuration file. Or free memory: a consumer group that does not read holds back trimming, and a shorter "
        "RECEIVER_RETENTION trims more.",
    ),
    "READONLY": Refusal(
        "is a read-only replica",
        "Point REDIS_URL at the primary. If that is gone for good, promote this one: redis-cli REPLICAOF NO ONE.",
    ),
    "MISCONF": Refusal(
        "could not write to its disk, and takes no writes until it can",
        "Look for the cause in its log, mostly a full disk or missing rights on its `dir`. Then redis-cli BGSAVE. With "
        "appendonly yes it needs no snapshots: redis-cli CONFIG SET save ''.",
    ),
    "LOADING": Refusal(
        "has just started and loads its data from disk",
        "Wait: redis-cli INFO persistence shows loading_eta_seconds. Events go to the spool meanwhile.",
    ),
    "NOPERM": Refusal("does not allow its user this command", f"Give the user of REDIS_URL the rights: {RIGHTS}."),
    "NOAUTH": Refusal(
        "wants a password, and REDIS_URL has none",
        "Write redis://USER:PASSWORD@host:6379/0, with the password percent-encoded; the default user is default.",
    ),
    "WRONGPASS": Refusal(
        "does not know this user with this password, or the user is switched off",
        "Correct user and password in REDIS_URL, percent-encoded; redis-cli ACL LIST shows the users that are on.",
    ),
    "DENIED": Refusal(
        "is in protected mode: it has no password, and takes connections from its own machine alone",
        "Give it one, requirepass in its configuration file, and write it in REDIS_URL. In a network that nobody else "
        "reaches: redis-cli CONFIG SET protected-mode no.",
    ),
    "NOREPLICAS": Refusal(
        "has fewer replicas than min-replicas-to-write",
        "Bring its replicas back, or lower it: redis-cli CONFIG SET min-replicas-to-write 0.",
    ),
    "MASTERDOWN": Refusal(
        "is a replica that has lost its primary", "Point REDIS_URL at the primary, or bring the primary back."
    ),
    "BUSY": Refusal(
        "runs another program's script for longer than its limit",
        "End that script: redis-cli SCRIPT KILL. The scripts of this service run for milliseconds.",
    ),
    "CLUSTERDOWN": Refusal(
        "is a cluster, and has no primary for a slot, or no majority", "See redis-cli --cluster check HOST:PORT."
    ),
    "RECEIVER_REPLICAS": Refusal(
        "has too few replicas that confirm a write in time",
        "Start the missing ones, with appendonly and appendfsync as at the primary, and allow its user WAIT and "
        "WAITAOF. Or lower RECEIVER_REPLICAS.",
    ),
    "MOVED": Refusal("is one node of a cluster", _CLUSTER_URL),
    "CROSSSLOT": Refusal("is one node of a cluster", _CLUSTER_URL),
}
#: What MOVED, ASK and TRYAGAIN mean where REDIS_URL names a cluster.
MOVING_SLOT: Final = Refusal("is a cluster in which a slot moves to another node", "Run this again.")
#: Redis refuses a PING with these, and still answers what only reads.
READS_ON: Final = ("MISCONF", "NOREPLICAS", "NOPERM")
#: Codes in the text of a script's error, and errors without a code of their own.
_IN_TEXT: Final = re.compile(rf"\b({'|'.join(REFUSALS)})\b")
_WITHOUT_CODE: Final = {
    "Authentication required": "NOAUTH",
    "invalid password": "WRONGPASS",
    "without any password configured": "WRONGPASS",
    "No permissions": "NOPERM",
    "ACL failure in script": "NOPERM",
    "The user executing the script can't": "NOPERM",
}
#: Codes by the reason of a WriteFailedError, which is redis-py's class.
_BY_REASON: Final = {
    "OutOfMemory": "OOM",
    "ReadOnly": "READONLY",
    "BusyLoading": "LOADING",
    "NoPermission": "NOPERM",
    "MasterDown": "MASTERDOWN",
    "ClusterDown": "CLUSTERDOWN",
    "Moved": "MOVED",
}


def code_of(error: BaseException) -> str | None:
    """Return the code of a refusal that ``REFUSALS`` knows, or None."""
    code = getattr(error, "status_code", None)
    if code not in REFUSALS and isinstance(error, WriteFailedError):
        code = code_of(error.__cause__) if error.__cause__ else _BY_REASON.get(error.reason)
    if code in REFUSALS:
        return str(code)
    text = str(error)
    if found := _IN_TEXT.search(text):
        return found[1]
    return next((code for words, code in _WITHOUT_CODE.items() if words in text), None)


def refusal_of(error: BaseException) -> Refusal | None:
    """Return what an error means, or None if it is not a refusal with a known code."""
    code = code_of(error)
    return None if code is None else REFUSALS[code]
