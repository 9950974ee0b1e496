// Key figures and tables, from the newest message.

import { bytes, count, duration, rate, share, short, time } from "./format.js";
import { badge, fill, say, topic, twoLines } from "./tables.js";

const LATE = 60; // seconds after which a group that has not read or acknowledged is shown as late
const ROUTES = { redis: ["Redis", "good"], spool: ["Spool", "warn"], refuse: ["Nowhere", "bad"] };
const ORDER = ["redis", "spool", "refuse"];

const body = (id) => document.getElementById(id);
const sum = (values) => values.reduce((all, value) => all + value, 0);
const all = (row) => sum(["success", "fail", "reply", "sent", "rejected"].map((key) => row[`sms_${key}_event`]));
const number = (value, className = "") => ({ text: count(value), className: `number ${value ? className : "zero"}`.trim() });

/** Write the five key figures. */
export function keys(message, series) {
  const total = message.providers.find((row) => row.name === null);
  const delivered = total?.sms_success_event ?? 0;
  const final = delivered + (total?.sms_fail_event ?? 0);
  say("key-rate", rate(series.rate()));
  const covered = duration(message.covered);
  say("providers-about", `last ${covered}`);
  say("key-rate-about", `${short(total ? all(total) : 0)} in ${covered}`);
  say("key-success", share(delivered, final));
  say("key-success-about", final ? `of ${short(final)} final reports` : "no final report yet");
  say("key-delay", duration(total?.p50));
  say("key-delay-about", total?.p95 == null ? "no report with a time" : `95 % within ${duration(total.p95)}`);
  say("key-quarantine", short(message.quarantine.count), message.quarantine.count ? "warn" : "");
  say("key-quarantine-about", `${short(total?.sms_rejected_event ?? 0)} in ${covered}`);
  route(message.service);
}

function route({ workers, unowned_events: unowned }) {
  const worst = ORDER[Math.max(...workers.map((worker) => ORDER.indexOf(worker.route)))];
  const waiting = unowned + sum(workers.map((worker) => worker.spool_events));
  const about = worst === "refuse" ? "callbacks get 503" : waiting ? `${short(waiting)} events wait in the spool` : "the spool is empty";
  const [word, level] = ROUTES[worst];
  say("key-route", word, level === "good" && waiting ? "warn" : level);
  say("key-route-about", about);
}

/** Fill all tables but that of the events. */
export function tables(message) {
  providers(message.providers);
  quarantine(message.quarantine);
  groups(message.groups);
  fill(body("routes"), message.routes, (row) => [
    { text: `${row.type} ${row.topic}`, make: () => twoLines(badge(row.type), topic(row.topic)) },
    { text: row.origin, className: "nowrap" },
    number(row.entries),
  ]);
  workers(message.service);
}

/** The workers, and below them the files of workers that have ended, while there are any. */
function workers({ workers: living, unowned_events: unowned }) {
  const rows = unowned ? [...living, null] : living;
  fill(body("workers"), rows, (row) => row === null ? ["ended", "–", number(unowned, "warn"), "–", "–"] : [
    row.number,
    { text: row.stopping ? "stopping" : ROUTES[row.route][0], className: ROUTES[row.route][1] === "good" ? "" : ROUTES[row.route][1] },
    number(row.spool_events, "warn"),
    { text: row.spool_writable ? "writable" : "not writable", className: row.spool_writable ? "nowrap" : "nowrap bad" },
    { text: bytes(row.spool_free_bytes), className: "number" },
  ]);
}

function providers(rows) {
  const named = rows.filter((row) => row.name !== null);
  const shown = named.length > 1 ? [...named, rows.find((row) => row.name === null)] : named;
  fill(body("providers"), shown, (row) => [
    { text: row.name ?? "all", className: "nowrap" },
    number(row.sms_success_event),
    number(row.sms_fail_event),
    { text: share(row.sms_success_event, row.sms_success_event + row.sms_fail_event), className: "number" },
    number(row.sms_reply_event),
    number(row.sms_sent_event),
    number(row.sms_rejected_event, "warn"),
    { text: duration(row.p50), className: "number" },
    { text: duration(row.p95), className: "number" },
  ]);
}

function quarantine({ count: items, read, reasons }) {
  say("quarantine-about", read < items ? `of the newest ${count(read)} of ${count(items)}` : items ? `${count(items)} items` : "");
  fill(body("quarantine"), reasons, (row) => [
    number(row.count),
    { text: `${row.reason} ${row.provider} ${row.newest}`, className: "wrap", make: () => twoLines(row.reason, `${row.provider}, newest ${time(row.newest)}`) },
  ]);
}

function groups({ count: known, shown }) {
  say("groups-about", known > shown.length ? `the ${shown.length} that wait longest, of ${count(known)}` : "");
  fill(body("groups"), shown, (row) => [
    { text: `${row.group} ${row.topic}`, className: "wrap", make: () => twoLines(row.group, topic(row.topic)) },
    row.lag === null ? { text: "unknown", className: "number zero", title: "Redis does not know the lag" } : number(row.lag),
    number(row.pending),
    row.oldest_seconds < 1
      ? { text: "–", className: "number zero" }
      : { text: duration(row.oldest_seconds), className: row.oldest_seconds > LATE ? "number warn" : "number" },
  ]);
}
