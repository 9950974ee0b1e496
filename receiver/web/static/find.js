// Find a message or a number: the answer of the service, in a dialog.

import { ask } from "./session.js";
import { element } from "./tables.js";

const dialog = document.getElementById("find-dialog");
const result = document.getElementById("find-result");
const input = document.getElementById("find-input");

/** Let `/` move to the input, and the form search. `path()` is that of the project. */
export function setUp(path) {
  const find = (text) => show(text, path());
  document.getElementById("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) find(input.value.trim());
  });
  document.getElementById("find-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
  });
  return find;
}

async function show(text, path) {
  document.getElementById("find-title").textContent = text;
  result.replaceChildren(element("p", "empty", "Searching"));
  if (!dialog.open) dialog.showModal();
  try {
    const answer = await (await ask(`${path}/${encodeURIComponent(text)}`)).json();
    result.replaceChildren(element("pre", "", JSON.stringify(answer, null, 2)));
  } catch (error) {
    result.replaceChildren(element("p", "empty error", error.message));
  }
}
