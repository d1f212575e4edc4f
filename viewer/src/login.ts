// Log in; at the very first start make the first administrator, with the token that only the server's owner can read.

import { type Door, get, type Me, type Problem, send } from "./api";
import { h } from "./dom";

export async function showLogin(place: HTMLElement, enter: (me: Me) => void, why_now = ""): Promise<void> {
  const door = await get<Door>("/api/login");
  const said = h("p", { role: "alert", className: "wrong" });
  const field = (id: string, words: string, more: Record<string, unknown>) =>
    [h("label", { htmlFor: id }, words), h("input", { id, name: id, required: true, ...more })] as const;
  const form = h("form", { className: "box" }, h("h1", {}, door.first_run ? "Make the first administrator of bleedmap" : "Log in to bleedmap"), why_now && h("p", {}, why_now));
  if (door.first_run) {
    form.append(h("p", {}, "The server wrote a token into keys/first-run-token in its data folder; ", h("code", {}, "bleedmap server token"), " shows it."),
      ...field("token", "Token", { autocomplete: "off", spellcheck: false }));
  }
  if (door.passwords || door.first_run) {
    form.append(...field("name", "Name", { autocomplete: "username", autocapitalize: "none", spellcheck: false }),
      ...field("password", door.first_run ? "Password, at least 12 characters" : "Password",
        { type: "password", autocomplete: door.first_run ? "new-password" : "current-password", minLength: door.first_run ? 12 : undefined }),
      h("button", { type: "submit", className: "main" }, door.first_run ? "Begin" : "Log in"));
  }
  if (door.oidc && !door.first_run) form.append(h("p", {}, h("a", { className: "button", href: "/api/oidc/start" }, "Log in with the hospital's account")));
  const why = new URLSearchParams(location.search).get("login");
  if (why) said.textContent = why === "refused" ? "The hospital's account was refused: it is in no group that may read here." : "Logging in with the hospital's account failed. Try again.";
  form.append(said);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const button = form.querySelector("button")!;
    button.disabled = true;
    said.textContent = "";
    const values = Object.fromEntries(new FormData(form).entries());
    send<Me>("POST", door.first_run ? "/api/first-run" : "/api/login", values).then(enter)
      .catch((error: Problem) => { said.textContent = error.sentence; button.disabled = false; form.querySelector<HTMLInputElement>("#password")?.select(); });
  });
  place.replaceChildren(form);
  form.querySelector("input")?.focus();
}
