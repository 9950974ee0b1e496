// Who is signed in: a token in the storage of this tab, sent in a header. No cookie, so no other page can use it.

const TOKEN = "receiver.token";

export class ApiError extends Error {
  /** `wait`: seconds after which the service may have room; null if it did not say. */
  constructor(status, message, wait = null) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

export const signedIn = () => sessionStorage.getItem(TOKEN) !== null;
export const signOut = () => sessionStorage.removeItem(TOKEN);

/** Ask the service, with the token if there is one. Throws ApiError with the service's own words. */
export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token === null ? {} : { "X-Auth-Token": token }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The service does not answer.");
  }
  if (response.ok) return response;
  const wait = response.headers.get("Retry-After");
  throw new ApiError(response.status, await reason(response), wait === null ? null : Number(wait));
}

/** The projects that the credentials of this tab give access to. */
export async function projects() {
  const found = (await (await ask("v3/projects")).json()).projects.map((project) => project.id);
  return [...new Set(found)];
}

/** Keep a token, if the service knows it. */
export async function signInWithToken(token) {
  if (!/^[!-~]+$/.test(token)) throw new ApiError(0, token ? "A token has no blanks and no special letters." : "Enter a token.");
  sessionStorage.setItem(TOKEN, token);
  try {
    return await projects();
  } catch (error) {
    signOut();
    throw error;
  }
}

/** Exchange a user's name and password for a token of a day. */
export async function signInWithPassword(name, password) {
  signOut();
  const identity = { methods: ["password"], password: { user: { name, password } } };
  const body = JSON.stringify({ auth: { identity } });
  const response = await ask("v3/auth/tokens", { method: "POST", body, headers: { "Content-Type": "application/json" } });
  return signInWithToken(response.headers.get("X-Subject-Token"));
}

async function reason(response) {
  const wait = response.headers.get("Retry-After");
  if (response.status === 429) return `Too many wrong credentials came from this address. Try again in ${wait} s.`;
  try {
    const answer = await response.json();
    return answer.error_msg ?? answer.message ?? answer.errmsg ?? `HTTP ${response.status}`;
  } catch {
    return `HTTP ${response.status}`;
  }
}
