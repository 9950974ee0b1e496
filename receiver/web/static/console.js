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
const RETRY = 1000; // ms between two attempts to reach a service that does not answer
const DENIED = [401, 403, 429]; // the token is wrong: 429 after many wrong ones
const OPEN = document.body.dataset.open === "yes"; // a project needs no credentials
const login = document.getElementById("login");
const app = document.getElementById("app");
const form = document.getElementById("login-form");
const choice = document.getElementById("project");

const signing = document.getElementById("sign");
const openly = document.getElementById("login-open");

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
  if (ids.includes(wanted())) choice.value = wanted();
  signing.textContent = signedIn() ? "Sign out" : "Sign in";
  say("zone", `local, ${zone()}`);
  view ??= makeView();
  follow();
}

/** The project of the URL; anybody may have written it. */
function wanted() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
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
    refused: (error) => close(error),
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

/** Show the state of the connection, and below the bar its reason. */
function status(state, text, reason = "") {
  const place = document.getElementById("status");
  say("status-reason", reason);
  if (place.dataset.state !== state) place.dataset.state = state;
  if (place.lastElementChild.textContent !== text) place.lastElementChild.textContent = text;
}

/** Show the form, after an error or without one. The token is kept unless the service denies it. */
function close(error = null) {
  stream?.stop();
  stream = null;
  if (error === null || DENIED.includes(error.status)) signOut();
  app.hidden = true;
  login.hidden = false;
  form.hidden = false;
  openly.hidden = !OPEN;
  form.reset();
  chosen();
  say("login-wait", "");
  say("login-error", error?.message ?? "");
  form.elements.token.focus();
}

/** Show the projects. While the service does not answer, say so, keep the token, and try again. */
async function start() {
  for (;;) {
    try {
      const ids = await projects();
      say("login-wait", "");
      open(ids);
      return;
    } catch (error) {
      if (error.status > 0 && error.status < 500) {
        close(error);
        return;
      }
      form.hidden = true;
      login.hidden = false;
      say("login-wait", `${error.message} Trying again.`);
      await new Promise((done) => setTimeout(done, RETRY));
    }
  }
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
signing.addEventListener("click", () => close());
openly.addEventListener("click", start);

if (signedIn() || OPEN) await start();
else close();
