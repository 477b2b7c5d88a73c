// Calls of the HTTP API. A problem document becomes an Error whose message says what is wrong and what to do.

const MOST_TRIES = 30;

export class ApiError extends Error {
  constructor(status, problem) {
    super([problem.detail || problem.title, problem.fix].filter(Boolean).join(" · "));
    this.status = status;
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// Fetches JSON. A busy server is asked again; `onBusy(seconds)` is told each time.
export async function call(path, options = {}, onBusy = () => {}) {
  for (let tries = 1; ; tries++) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new ApiError(0, { detail: "The server does not answer", fix: "check that it runs, then try again" });
    }
    if (response.status === 429 && tries < MOST_TRIES) {
      const seconds = Math.min(30, Number(response.headers.get("Retry-After")) || 1);
      onBusy(seconds);
      await pause(seconds);
      continue;
    }
    if (response.ok) return response.status === 204 ? null : response.json();
    const problem = await response.json().catch(() => ({ title: response.statusText }));
    throw new ApiError(response.status, problem);
  }
}

export function recognize(photo, { explain = false, near = true } = {}, onBusy) {
  const query = new URLSearchParams();
  if (explain) query.set("explain", "true");
  if (!near) query.set("near", "none");
  const body = new FormData();
  body.append("photos", photo, photo.name || "photo");
  return call(`v1/recognize?${query}`, { method: "POST", body }, onBusy).then((found) => found.answers[0]);
}

// Changes need the token, which is kept for this tab only.
export function change(method, path, body) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("token") || ""}` };
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  return call(path, { method, headers, body });
}
