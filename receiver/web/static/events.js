// The list of the latest events: at most MAX_ROWS rows, which are used again.

import { duration, time } from "./format.js";
import { badge, element, say, write } from "./tables.js";

const MAX_ROWS = 50;
const FEW = 5; // new rows that are highlighted; with more, the whole list would flicker

/** Shows events until it is paused, by its button or because somebody points at it or reads it by keyboard. */
export class EventList {
  #body = document.getElementById("events");
  #button = document.getElementById("pause");
  #events = [];
  #find;
  #held = false;
  #missed = 0;

  /** `find(text)` is called with the message id that was chosen. */
  constructor(find) {
    this.#find = find;
    this.#button.addEventListener("click", () => this.#pause(this.#button.getAttribute("aria-pressed") !== "true"));
    const area = document.getElementById("events-scroll");
    const hold = () => this.#hold(area.matches(":hover") || area.contains(document.activeElement));
    for (const event of ["pointerenter", "pointerleave", "focusin"]) area.addEventListener(event, hold);
    area.addEventListener("focusout", () => queueMicrotask(hold));
    area.addEventListener("keydown", (event) => this.#move(event, { ArrowDown: 1, ArrowUp: -1 }[event.key]));
  }

  clear() {
    this.#events = [];
    this.#missed = 0;
    this.#draw(0);
  }

  /** Add events, newest first. `all` is how many there were: more than are listed, if there were too many. */
  add(events, all) {
    const known = new Set(this.#events.map((event) => event.id));
    const fresh = events.filter((event) => !known.has(event.id));
    this.#events = [...fresh, ...this.#events].slice(0, MAX_ROWS);
    if (this.#paused()) {
      this.#missed += Math.max(all, fresh.length);
    } else if (fresh.length > 0 || this.#body.rows.length !== this.#events.length) {
      this.#draw(this.#body.rows.length ? fresh.length : 0);
    }
    this.#about(all, events.length);
  }

  /** Move to the next message id: 50 stops for the Tab key would keep the rest of the page out of reach. */
  #move(event, step) {
    const ids = [...this.#body.querySelectorAll("button")];
    if (!step || ids.length === 0) return;
    event.preventDefault();
    const place = ids.indexOf(document.activeElement);
    ids[place < 0 ? 0 : Math.min(Math.max(place + step, 0), ids.length - 1)].focus();
  }

  #paused() {
    return this.#held || this.#button.getAttribute("aria-pressed") === "true";
  }

  #pause(on) {
    this.#button.setAttribute("aria-pressed", String(on));
    this.#button.textContent = on ? "Continue" : "Pause";
    this.#continue();
  }

  #hold(on) {
    this.#held = on;
    this.#continue();
  }

  #continue() {
    if (this.#paused()) return;
    this.#missed = 0;
    this.#draw(0);
    this.#about(0, 0);
  }

  #about(all, listed) {
    const paused = this.#paused() && this.#missed > 0 ? `paused, ${this.#missed.toLocaleString("en")} new` : "";
    const skipped = all > listed && listed > 0 ? `the newest ${listed} of ${all.toLocaleString("en")}` : "";
    say("events-about", paused || skipped);
  }

  #draw(fresh) {
    while (this.#body.rows.length > this.#events.length) this.#body.deleteRow(-1);
    for (let index = 0; index < fresh && this.#body.rows.length === this.#events.length; index++) {
      this.#body.prepend(this.#body.rows[this.#body.rows.length - 1]);
    }
    this.#events.forEach((event, index) => {
      const row = this.#body.rows[index] ?? this.#body.insertRow();
      row.setAttribute("role", "row");
      row.classList.toggle("fresh", index < fresh && fresh <= FEW);
      write(row, this.#cells(event));
      for (const cell of row.cells) cell.setAttribute("role", "cell");
    });
    document.getElementById("events-empty").hidden = this.#events.length > 0;
  }

  #cells(event) {
    const { nation_code: code, number } = event;
    const prefix = code && number && !/^[+0]/.test(number) && !number.startsWith(code) ? `+${code} ` : "";
    const id = event.message_id ?? "";
    return [
      { text: time(event.time), className: "nowrap", title: event.time },
      { text: event.type, make: () => badge(event.type) },
      { text: number ? prefix + number : "–", className: "nowrap" },
      { text: event.word ?? "", className: "wrap" },
      { text: event.provider, className: "nowrap" },
      { text: id, className: "mono", make: () => this.#link(id) },
      { text: duration(event.delay), className: "number" },
    ];
  }

  #link(id) {
    const made = element("button", "link", id);
    made.type = "button";
    made.tabIndex = -1;
    made.addEventListener("click", () => this.#find(id));
    return id ? made : document.createTextNode("");
  }
}
