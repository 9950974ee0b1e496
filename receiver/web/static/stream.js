// Server-sent events over fetch: EventSource cannot send the token in a header.

import { ask } from "./session.js";

const SILENCE = 10_000; // ms without a message after which the connection counts as lost: there is one a second
const HIDDEN = 60_000; // ms after which a tab that nobody sees stops reading
const MAX_WAIT = 8_000; // ms between two attempts
const MAX_MESSAGE = 4_000_000; // characters

/** Follows the events of a project until it is stopped. */
export class Stream {
  #path;
  #handlers;
  #abort = null;
  #failures = 0;
  #retry = 0;
  #hide = 0;
  #stopped = false;
  #onVisibility = () => this.#visibility();

  /** `handlers`: `message(content)`, `state("waiting" | "paused", reason)` and `refused(error)`. */
  constructor(path, handlers) {
    this.#path = path;
    this.#handlers = handlers;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#run();
  }

  stop() {
    this.#stopped = true;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    clearTimeout(this.#retry);
    clearTimeout(this.#hide);
    this.#abort?.abort();
  }

  async #run() {
    const abort = (this.#abort = new AbortController());
    let refusal = null;
    let reason = "";
    try {
      await this.#read(await ask(this.#path, { signal: abort.signal }), abort);
    } catch (error) {
      refusal = [401, 403, 404].includes(error.status) ? error : null;
      reason = error.message;
    }
    if (this.#stopped || this.#abort !== abort) return;
    this.#abort = null;
    if (refusal !== null) {
      this.#handlers.refused(refusal);
    } else if (document.hidden && this.#hide === -1) {
      this.#handlers.state("paused", "This tab was hidden.");
    } else {
      this.#handlers.state("waiting", reason);
      const wait = Math.min(MAX_WAIT, 1000 * 2 ** this.#failures++) * (0.7 + 0.3 * Math.random());
      this.#retry = setTimeout(() => this.#run(), wait);
    }
  }

  /** Read messages until the end. A message is `data: ` and JSON on one line. */
  async #read(response, abort) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let silence = setTimeout(() => abort.abort(), SILENCE);
    let rest = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort(), SILENCE);
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        if (rest.length > MAX_MESSAGE) throw new Error("a message is too long");
        for (const line of lines) {
          if (!line.startsWith("data: ")) continue;
          this.#failures = 0;
          this.#show(JSON.parse(line.slice(6)));
        }
      }
    } finally {
      clearTimeout(silence);
      abort.abort();
    }
  }

  /** A mistake of the page stops the stream, and is told where developers look. */
  #show(message) {
    try {
      this.#handlers.message(message);
    } catch (error) {
      console.error(error);
      throw error;
    }
  }

  /** A hidden tab reads no further; it goes on as soon as it is seen. */
  #visibility() {
    clearTimeout(this.#hide);
    if (document.hidden) {
      this.#hide = setTimeout(() => {
        this.#hide = -1;
        clearTimeout(this.#retry);
        this.#abort?.abort();
      }, HIDDEN);
    } else if (this.#abort === null) {
      this.#hide = 0;
      clearTimeout(this.#retry);
      this.#handlers.state("waiting", "");
      this.#run();
    }
  }
}
