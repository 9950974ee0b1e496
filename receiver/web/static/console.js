// The console: sign in, follow the project, show what comes.

import { delayChart, rateChart } from "./charts.js";
import { EventList } from "./events.js";
import * as find from "./find.js";
import { duration, rate, zone } from "./format.js";
import { keys, tables } from "./panels.js";
import { Series } from "./series.js";
import { projects, signedIn, signInWithPassword, signInWithToken, signOut } from "./session.js";
import { Stream } from "./stream.js";
import { say } from "./tables.js";

const DESCRIBE = 15; // messages between two descriptions of the charts for screen readers
const login = document.getElementById("login");
const app = document.getElementById("app");
const form = document.getElementById("login-form");
const choice = document.getElementById("project");

let stream = null;
let view = null;

function makeView() {
  return { series: new Series(), rates: rateChart(), delays: delayChart(), events: new EventList(search), messages: 0 };
}

const search = find.setUp(() => `v2/${choice.value}/notifications/sms/events`);

/** Show a project: the one of the URL, if there is such, else the first. */
function open(ids) {
  login.hidden = true;
  app.hidden = false;
  choice.replaceChildren(...ids.map((id) => new Option(id, id)));
  choice.disabled = ids.length < 2;
  const wanted = decodeURIComponent(location.hash.slice(1));
  if (ids.includes(wanted)) choice.value = wanted;
  document.getElementById("sign-out").hidden = !signedIn();
  say("zone", `local, ${zone()}`);
  view ??= makeView();
  follow();
}

function follow() {
  stream?.stop();
  view.series.clear();
  view.events.clear();
  view.messages = 0;
  history.replaceState(null, "", `#${encodeURIComponent(choice.value)}`);
  status("waiting", "Connecting");
  stream = new Stream(`v2/${choice.value}/console/events`, {
    message,
    state: (state, reason) => status("waiting", state === "paused" ? "Paused" : "Reconnecting", reason),
    refused: (error) => close(error.message),
  });
}

function message(content) {
  status(content.reachable ? "live" : "bad", content.reachable ? "Live" : "Redis is away");
  view.series.merge(content.bins, content.window);
  view.rates.draw(view.series, content.window);
  view.delays.draw(view.series, content.window);
  keys(content, view.series);
  tables(content);
  view.events.add(content.events, content.new);
  say("version", `Version ${content.service.version}.`);
  if (view.messages++ % DESCRIBE === 0) describe(content);
}

function describe(content) {
  const total = content.providers.find((row) => row.name === null);
  view.rates.chart.describe(`Events a second in the last 15 minutes, by type; now ${rate(view.series.rate())}.`);
  view.delays.chart.describe(`Delay from handset to us: median ${duration(total?.p50)}, 95 % within ${duration(total?.p95)}.`);
}

/** Show the state of the connection; the reason is its tooltip. */
function status(state, text, reason = "") {
  const place = document.getElementById("status");
  if (place.title !== reason) place.title = reason;
  if (place.dataset.state !== state) place.dataset.state = state;
  if (place.lastElementChild.textContent !== text) place.lastElementChild.textContent = text;
}

/** Show the form, with a reason or without. */
function close(reason = "") {
  stream?.stop();
  stream = null;
  signOut();
  app.hidden = true;
  login.hidden = false;
  form.reset();
  chosen();
  say("login-error", reason);
  form.elements.token.focus();
}

function chosen() {
  for (const part of form.querySelectorAll("[data-with]")) part.hidden = part.dataset.with !== form.elements.with.value;
}

async function signIn(event) {
  event.preventDefault();
  const { with: kind, token, user, password } = form.elements;
  const button = form.querySelector("[type=submit]");
  say("login-error", "");
  button.disabled = true;
  try {
    const ids = await (kind.value === "token" ? signInWithToken(token.value.trim()) : signInWithPassword(user.value, password.value));
    form.reset();
    open(ids);
    document.getElementById("main").focus();
  } catch (error) {
    say("login-error", error.message);
    (kind.value === "token" ? token : password).focus();
  } finally {
    button.disabled = false;
  }
}

form.addEventListener("submit", signIn);
form.addEventListener("change", chosen);
choice.addEventListener("change", follow);
document.getElementById("sign-out").addEventListener("click", () => close());

if (!signedIn() && document.body.dataset.open === "no") {
  close();
} else {
  try {
    open(await projects());
  } catch (error) {
    close(error.message);
  }
}
