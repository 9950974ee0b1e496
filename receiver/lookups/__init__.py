"""Sent messages and their status reports: SMN's GetSmsMessage and ListSmsMsgReport.

``messages`` registers messages for the sender. ``indexer`` applies the events of the streams, ``rebuild`` applies them
again from the first one. ``reports`` answers. Each message has one record, so the order of arrival does not matter.
The keys in Redis, for each project; each begins with ``{lookups:<project_id>}``:

| key            | type   | what                                                                         |
|----------------|--------|------------------------------------------------------------------------------|
| :r:<bucket>    | hash   | id of a report to record (msgpack, record.lua); by hash of the id, so that   |
|                |        | the hashes stay small and without pointers                                   |
| :i:<sign>:<st> | zset   | ids of reports by time, for each signature (a number) and status             |
| :n:<bucket>    | zset   | national number, country code, signature, status, time, id as one            |
|                |        | text in byte order; by hash of the national number: a run of it is the       |
|                |        | reports of one number, newest last                                           |
| :m:<bucket>    | zset   | the same by spelling, without the country: reports that earlier versions     |
|                |        | indexed, until they expire or change                                         |
| :signs         | hash   | sign_id to number and back; 0 stands for the project's default, whatever it  |
|                |        | is at the time of a query. At most 10,000; one without reports is dropped    |
| :t:<id>        | string | the text of a message_id, expires 24 hours after submit_time                 |
| :shared        | string | there once a report has shared its message_id with other recipients          |
| :q:<bucket>    | zset   | message_id, signature, status, time, id as one text, by hash of the          |
|                |        | message_id: a run of it is the reports of one request. Only of shared ids    |
| :p:<id>        | hash   | national number to record, while a message_id was registered with several    |
|                |        | numbers and no report has shown whether they share it; 4 days               |

The id of a report is its message_id. Where the recipients of one request share that (``shared_ids`` of the event's
provider, which its source names), it is message_id and national number, as ``recipient_id`` in record.lua joins them:
two phones with one message_id are two reports, and ListSmsMsgReport with a message_id returns them all. Reports of
other providers are stored as if there were no such thing. A registration names no provider, so which id it gets
depends on what the project has received:

- No report has shared its message_id yet (no ``:shared``): registrations of a message_id are one record, and the last
  number counts. Earlier numbers are kept under ``:p``. The first report that shares the message_id makes each number a
  record of its own, as if that had been known before.
- From then on each number of a registered message_id is a record of its own. A report of a provider that does not share
  ids takes over one that has no report: that of its number, else any.

A state that is not final makes a report with status 0 where there is none with a final status, and changes nothing
else but the number. Its time is its ``submit_time``, else that of the state.

So the order in which registrations and reports arrive does not matter for a message_id.

An offset is found by rank, not by walking: the cost of a page grows with the logarithm of its offset.
"""
