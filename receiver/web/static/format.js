// How numbers, times and ids are written.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
const DAY = 86_400_000;
const PLAIN = /^(?:\d{4}-\d\d-\d\d|1[5-9]\d{11}-\d{1,9}$)/;

/** The types of events, in the order in which they are stacked and listed: CSS name, type and word. */
export const TYPES = [
  { key: "success", type: "sms_success_event", word: "Delivered" },
  { key: "fail", type: "sms_fail_event", word: "Failed" },
  { key: "reply", type: "sms_reply_event", word: "Reply" },
  { key: "sent", type: "sms_sent_event", word: "Sent" },
  { key: "rejected", type: "sms_rejected_event", word: "Rejected" },
];
const BY_TYPE = new Map(TYPES.map((one) => [one.type, one]));

export const typeOf = (type) => BY_TYPE.get(type) ?? { key: "sent", type, word: type };
export const count = (value) => (value == null ? "–" : whole.format(value));
export const short = (value) => (value == null ? "–" : value < 10_000 ? whole.format(value) : compact.format(value));
export const rate = (value) => (value == null ? "–" : value >= 100 ? whole.format(value) : precise.format(value));

/** A share such as 93.2 %; never 100 % while anything is missing. */
export function share(part, all) {
  if (!all) return "–";
  const percent = (100 * part) / all;
  if (part < all && percent > 99.9) return "> 99.9 %";
  return `${percent === 100 ? "100" : percent.toFixed(1)} %`;
}

/** Seconds as a person says them: 0.8 s, 42 s, 5 min, 3 h, 2 d. */
export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 10) return `${precise.format(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** A time of today as 07:31:05, another as 24 Nov, 07:31. */
export function time(value) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return String(value);
  return Math.abs(Date.now() - date.getTime()) < DAY / 2 ? clock.format(date) : day.format(date);
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let index = 0;
  let left = value;
  while (left >= 1000 && index < units.length - 1) [left, index] = [left / 1000, index + 1];
  return `${precise.format(left)} ${units[index]}`;
}

/** A phone number as the service masks it: 138****8000, 85****88, or **** alone. */
export function mask(number) {
  if (number.length >= 11) return `${number.slice(0, 3)}****${number.slice(-4)}`;
  return number.length >= 8 ? `${number.slice(0, 2)}****${number.slice(-2)}` : "****";
}

/** Mask all numbers in a text that may be a person's: not a date, and not the id of an entry, 1795258820220-0. */
export function maskAll(words) {
  return words.replace(/\+?\d(?:[ ().-]{0,2}\d){6,}/g, (found) => (PLAIN.test(found) ? found : mask(found)));
}

/** The zone of this browser, as UTC+1. */
export function zone() {
  const minutes = -new Date().getTimezoneOffset();
  const rest = Math.abs(minutes) % 60;
  const hours = Math.floor(Math.abs(minutes) / 60);
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}
