// Asking the server. Every answer becomes {ok, body} or {ok: false, trouble, message}: nothing here throws.

export const AWAY = "away";
export const UNAUTHORISED = "unauthorised";
export const REFUSED = "refused";

const TOKEN = "token";
const PATIENCE_MS = 5000;

export async function ask(method, path, { body, language, patienceMs = PATIENCE_MS } = {}) {
  const headers = { Accept: "application/json", "Accept-Language": language ?? "ko" };
  // Only for as long as this tab is open: a token that stays on the machine is one to be found.
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  let content;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(patienceMs),
      cache: "no-store",
    });
    content = await response.json();
  } catch {
    return { ok: false, trouble: AWAY };
  }
  if (response.ok) return { ok: true, body: content };
  const trouble = response.status === 401 || response.status === 403 ? UNAUTHORISED : REFUSED;
  const fields = (content.errors ?? []).map((error) => `${error.field} ${error.reason}`).join(", ");
  return { ok: false, trouble, message: [content.message, fields].filter(Boolean).join(" — ") };
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}
