// One page: which screen is shown stands behind the # of its address, where only random identifiers appear.

import { showAdmin } from "./admin";
import { type Door, get, type Me, Problem, send, whenLoggedOut } from "./api";
import { h, mayDiscard } from "./dom";
import { showHistory } from "./history";
import { showLogin } from "./login";
import { showReading } from "./reading";
import { showWorklist } from "./worklist";
import "./style.css";

/** A screen fills `place`, and returns what to do when it is left, and what that would lose, in words. */
export type Screen = (place: HTMLElement, me: Me, ...parts: string[]) => Promise<(() => void) & { unsaved?: () => string }>;

const main = document.getElementById("main")!, top = document.getElementById("top")!;
// Of tabs and of the browser's history, which hold no name of a patient.
const TITLES: Record<string, string> = { study: "Reading", history: "History", admin: "Administration", password: "Password" };
let leave: Awaited<ReturnType<Screen>> = () => {}, me: Me | null = null, turn = 0, shown = location.hash;

// All tabs of a browser share its session: each hears who has logged in or out in another, and shows that person's page or none.
const tabs = new BroadcastChannel("bleedmap");
function know(who: Me | null): void { me = who; tabs.postMessage(who?.name ?? ""); }

function may_leave(): boolean { return mayDiscard(leave.unsaved?.() ?? ""); }

function draw_top(): void {
  const link = (to: string, words: string) => h("a", { href: to, "aria-current": (location.hash || "#/") === to ? "page" : undefined }, words);
  top.replaceChildren(...(me === null ? [] : [
    link("#/", "Worklist"), me.role === "admin" ? link("#/admin", "Administration") : "", h("span", { className: "who" }, `${me.name} (${me.role})`),
    me.password ? link("#/password", "Password") : "", h("button", { type: "button", onclick: () => void log_out() }, "Log out"),
  ]));
}

async function log_out(): Promise<void> {
  if (!may_leave()) return;
  await send("POST", "/api/logout").catch(() => {});
  know(null);
  await show();
}

async function show(): Promise<void> {
  const mine = ++turn;
  leave();
  leave = () => {};
  shown = location.hash;
  try {
    if (me === null) {
      const found = (await get<Door>("/api/login")).me;
      if (found !== null && mine === turn) know(found);
    }
  } catch (error) {
    return complain(error);
  }
  if (mine !== turn) return;
  draw_top();
  scrollTo(0, 0);
  const [name = "", ...parts] = location.hash.replace(/^#\/?/, "").split("/");
  const screens: Record<string, Screen> = { study: showReading, history: showHistory, admin: showAdmin, password: showPassword };
  // Each turn has a place of its own: a screen whose answers come late, after another was asked for, fills what nobody sees.
  const place = h("div", {}, h("p", { className: "note", role: "status" }, "Loading…"));
  main.replaceChildren(place);
  main.className = me === null ? "login" : name || "list";
  document.title = `${me === null ? "Log in" : TITLES[name] ?? "Worklist"} · bleedmap`;
  try {
    if (me === null) return void await showLogin(place, (one) => { know(one); void show(); });
    const left = await (screens[name] ?? showWorklist)(place, me, ...parts);
    if (mine === turn) leave = left; else left();
    if (mine === turn && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
  } catch (error) {
    if (mine === turn) complain(error);
  }
}

function complain(error: unknown): void {
  const words = error instanceof Problem ? error.sentence : "This page failed. Load it again; if it stays so, tell the administrator.";
  if (!(error instanceof Problem)) console.error(error);
  main.replaceChildren(h("div", { className: "problem", role: "alert" }, h("p", {}, words)), h("div", { className: "tools" }, h("button", { type: "button", onclick: () => location.reload() }, "Try again"),
    location.hash.length > 2 ? h("a", { href: "#/" }, "Back to the worklist") : ""));
}

/** The session has ended. What is not saved stays on the screen, under the log-in, so that it can still be saved. */
function ended(): void {
  if (me === null) return;
  const what = leave.unsaved?.();
  if (!what) { me = null; return void show(); }
  if (document.querySelector("dialog")) return;
  const before = me.name, dialog = h("dialog", { className: "login" });
  main.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  void showLogin(dialog, (one) => {
    dialog.close();
    know(one);
    if (one.name !== before) void show();
  }, `The session has ended. Log in to save ${what}.`).then(() => dialog.showModal(), () => dialog.remove());
}

const showPassword: Screen = async (place) => {
  const said = h("p", { role: "status" });
  const old = h("input", { type: "password", id: "old", autocomplete: "current-password", required: true });
  const next = h("input", { type: "password", id: "new", autocomplete: "new-password", minLength: 12, required: true });
  const change = async (event: SubmitEvent) => {
    event.preventDefault();
    await send("PUT", "/api/me/password", { old: old.value, new: next.value })
      .then(() => { said.textContent = "Your password was changed; your other sessions were ended."; })
      .catch((error) => { said.textContent = (error as Problem).sentence; });
  };
  place.replaceChildren(h("form", { className: "box", onsubmit: change }, h("h1", {}, "Change your password"),
    h("label", { htmlFor: "old" }, "Present password"), old, h("label", { htmlFor: "new" }, "New password, at least 12 characters"), next,
    h("button", { type: "submit", className: "main" }, "Change"), said));
  return () => {};
};

whenLoggedOut(ended);
tabs.onmessage = ({ data: name }) => {
  if (name === (me?.name ?? "")) document.querySelector("dialog")?.close();
  else if (me === null) void show();
  else ended();
};
window.addEventListener("hashchange", () => {
  if (location.hash === shown) return;
  if (may_leave()) void show(); else history.replaceState(null, "", shown || "#/");
});
void show();
