// Find what became of a message: the answer of the service to a search, in a dialog. Numbers are masked, texts left out.

import { count, duration, mask, maskAll, time } from "./format.js";
import { ask } from "./session.js";
import { badge, element, topic } from "./tables.js";

const SHOWN = ["status_desc", "description", "deliver_time", "submit_time", "sender"];
const LEVELS = {
  published: "good",
  duplicate: "good",
  spooled: "warn",
  trimmed: "warn",
  "dead-lettered": "bad",
  quarantined: "bad",
  "not seen": "bad",
};

const dialog = document.getElementById("find-dialog");
const result = document.getElementById("find-result");
const input = document.getElementById("find-input");
let latest = null;

/** Let `/` move to the input, and the form search. `path()` is that of the project. */
export function setUp(path) {
  const find = (text) => search(text, path());
  document.getElementById("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) find(input.value.trim());
  });
  document.getElementById("find-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => latest?.abort());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
  });
  return find;
}

async function search(text, path) {
  document.getElementById("find-title").textContent = text;
  result.replaceChildren();
  if (!dialog.open) dialog.showModal();
  await more(`${path}/${encodeURIComponent(text)}`, "");
}

/** Search, or search on from where the last answer ended. A service that is busy is asked again, some times. */
async function more(path, query, tries = 5) {
  latest?.abort();
  const abort = (latest = new AbortController());
  const waiting = element("p", "empty", "Searching");
  result.append(waiting);
  try {
    const answer = await (await ask(path + query, { signal: abort.signal })).json();
    waiting.replaceWith(...answer.data.map(finding), ...rest(answer, path));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 503 && tries > 1) {
      await new Promise((done) => setTimeout(done, 1000 * (error.wait ?? 1)));
      waiting.remove();
      if (!abort.signal.aborted) await more(path, query, tries - 1);
    } else {
      waiting.replaceWith(retry(error.message, path, query));
    }
  }
}

function retry(reason, path, query) {
  const note = element("p", "note error", `${reason} `);
  const button = element("button", "", "Try again");
  button.type = "button";
  button.addEventListener("click", () => {
    note.remove();
    more(path, query);
  });
  note.append(button);
  return note;
}

function* rest(answer, path) {
  for (const problem of answer.problems) yield element("p", "note error", problem);
  if (answer.next_end_time === null) return;
  const note = element("p", "note soft", `Searched back to ${time(answer.searched_back_to)}. `);
  const button = element("button", "", "Search older entries");
  button.type = "button";
  button.addEventListener("click", () => {
    note.remove();
    more(path, `?end_time=${answer.next_end_time}`);
  });
  note.append(button);
  yield note;
}

function finding({ verdict, why, topic_urn: urn, entry_id: entry, spool_file: file, groups, report, event }) {
  const made = element("article", "finding");
  const head = element("h3", "verdict", verdict);
  head.dataset.level = LEVELS[verdict] ?? "";
  made.append(head, element("p", "", maskAll(why)), facts(urn, entry, file, event, report));
  if (groups.length > 0) made.append(readers(groups));
  return made;
}

/** What is known of the event, as terms and descriptions. */
function facts(urn, entry, file, event, report) {
  const data = event?.data ?? report ?? {};
  const list = element("dl", "facts");
  const add = (term, value) => {
    if (value == null || value === "") return;
    const description = element("dd", "wrap");
    description.append(value);
    list.append(element("dt", "soft", term), description);
  };
  if (event) add("Type", badge(event.type));
  add("Message id", data.message_id);
  add("Number", data.mobile && mask(data.mobile));
  add("Received", event && time(event.receivedtime));
  for (const name of SHOWN) add(name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase()), text(name, data[name]));
  for (const reason of data.reasons ?? []) add("Reason", maskAll(reason));
  add("Event id", event?.id);
  add("Topic", urn && topic(urn));
  add("Entry", entry);
  add("File on disk", file);
  return list;
}

const text = (name, value) => (value == null ? value : name.endsWith("_time") ? time(value) : maskAll(String(value)));
/** What each consumer group has done with the entry. */
function readers(groups) {
  const table = element("table");
  table.append(element("caption", "hidden-text", "What each consumer group has done with it"));
  const head = table.createTHead().insertRow();
  for (const title of ["Group", "State", "Consumer", "Since", "Deliveries"]) {
    const cell = element("th", "", title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const { group, state, consumer, idle_ms: idle, deliveries } of groups) {
    const row = body.insertRow();
    const cells = [group, state, consumer ?? "–", idle === null ? "–" : duration(idle / 1000), count(deliveries)];
    for (const value of cells) row.insertCell().textContent = value;
    row.cells[1].className = state === "acknowledged" ? "" : "warn";
  }
  const area = element("div", "scroll");
  area.append(table);
  return area;
}
