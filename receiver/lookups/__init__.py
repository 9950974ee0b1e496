"""Sent messages and their status reports: SMN's GetSmsMessage and ListSmsMsgReport.

``messages`` registers messages for the sender. ``indexer`` applies the events of the streams, ``rebuild`` applies them
again from the first one. ``reports`` answers. Each message has one record, so the order of arrival does not matter.
The keys in Redis, for each project; each begins with ``{lookups:<project_id>}``:

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
| :signs         | hash   | sign_id to number and back; 0 stands for the project's default at the time   |
|                |        | of a query. At most 10,000; a signature without reports is dropped           |
| :t:<id>        | string | the text, expires 24 hours after submit_time                                 |

An offset is found by rank, not by walking: the cost of a page grows with the logarithm of its offset.
"""
