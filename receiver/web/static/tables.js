// Tables whose rows are used again, so that the page does not grow.

import { typeOf } from "./format.js";

/** Make an element with a class and a text. */
export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A type as a dot and a word. */
export function badge(type) {
  const { key, word } = typeOf(type);
  const made = element("span", "type");
  made.dataset.type = key;
  made.append(element("i"), word);
  return made;
}

/** A topic, which may wrap at its colons. On a phone, lists of groups show its name alone. */
export function topic(urn) {
  const made = element("span", "under mono");
  const prefix = element("span", "prefix");
  const parts = urn.split(/(?<=:)/);
  for (const part of parts.slice(0, -1)) prefix.append(part, document.createElement("wbr"));
  made.append(prefix, parts.at(-1));
  return made;
}

/** A first line, an element or a text, and a softer one under it. */
export function twoLines(first, second) {
  const made = document.createDocumentFragment();
  made.append(first, typeof second === "string" ? element("span", "under", second) : second);
  return made;
}

/**
 * Show rows in a table's body. `cells(row)` returns a cell for each column: a text, or `{ text, className, title, make }`.
 * `make()` returns an element in place of the text, which stays as long as `text` does.
 */
export function fill(body, rows, cells) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, index) => write(body.rows[index] ?? body.insertRow(), cells(row)));
  const empty = document.getElementById(`${body.id}-empty`);
  if (empty) {
    empty.hidden = rows.length > 0;
    body.parentElement.hidden = rows.length === 0;
  }
}

/** Write cells into a row, and touch only what has changed. */
export function write(row, cells) {
  cells.forEach((given, index) => {
    const cell = row.cells[index] ?? row.insertCell();
    const { text, className = "", title = "", make } = typeof given === "object" ? given : { text: given };
    if (cell.className !== className) cell.className = className;
    if (cell.title !== title) cell.title = title;
    if (cell.dataset.text === String(text)) return;
    cell.dataset.text = text;
    if (make) cell.replaceChildren(make());
    else cell.textContent = text;
  });
}

/** Set the text of an element, if it is another one. */
export function say(id, text, level) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
  if (level !== undefined && place.dataset.level !== level) place.dataset.level = level;
}
