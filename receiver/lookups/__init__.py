"""What was sent and what became of it: SMN's GetSmsMessage and ListSmsMsgReport.

``Messages`` takes what the sending side registers, ``Indexer`` what the event streams bring (``rebuild``
does it from their start), ``Reports`` answers. All that is said of a message is one record, so nothing
depends on which came first. In Redis, for each project, each key beginning with ``{lookups:<project_id>}``:

| key            | type   | what                                                                         |
|----------------|--------|------------------------------------------------------------------------------|
| :r:<bucket>    | hash   | message_id to record (msgpack, record.lua); by hash of the id, so that the   |
|                |        | hashes stay small and without pointers                                       |
| :i:<sign>:<st> | zset   | message_ids by time, for each signature (a number) and status                |
| :n:<bucket>    | zset   | national number, country code, signature, status, time, message_id as one    |
|                |        | text in byte order; by hash of the national number: a run of it is the       |
|                |        | reports of one number, newest last                                           |
| :m:<bucket>    | zset   | the same by spelling, without the country: reports that earlier versions     |
|                |        | indexed, until they expire or change                                         |
| :signs         | hash   | sign_id to number and back; 0 stands for the project's default, whatever it  |
|                |        | is at the time of a query. At most 10,000; one without reports is dropped    |
| :t:<id>        | string | the text, expires 24 hours after submit_time                                 |

A page with an offset is found by rank, never by walking: its cost grows with the logarithm of the offset.
"""

from receiver.lookups.indexer import Indexer
from receiver.lookups.messages import Messages
from receiver.lookups.rebuild import rebuild
from receiver.lookups.reports import Reports

__all__ = ["Indexer", "Messages", "Reports", "rebuild"]
