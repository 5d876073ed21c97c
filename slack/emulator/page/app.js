// A small Slack: who am I, channels, messages, threads, modals, the app's Home tab, commands. The
// server's state is fetched whole after every change; only what looks different is drawn again.
import { el, $, api, keyed, clock, dayName } from "./dom.js";
import { part, pieces, valueOf } from "./blocks.js";

let state = null;
let here = { me: "", channel: "", thread: "" };
const drafts = new Map(); // what is typed but not sent, by place
let rung = null; // notifications seen so far

// ---- where we are: #user/channel/thread, or #user/home ----

const HOME = "home";

function readHash() {
  const [me = "", channel = "", thread = ""] = location.hash.slice(1).split("/").map(decodeURIComponent);
  here = { me, channel, thread };
}

function go(change) {
  here = { ...here, ...change };
  const path = [here.me, here.channel, here.thread].filter(Boolean).map(encodeURIComponent).join("/");
  history.replaceState(null, "", "#" + path);
  document.body.classList.remove("open");
  draw();
  if (here.channel === HOME) $("log").scrollTop = 0;
  else if (change.channel || change.me) toEnd($("log"));
  if (change.thread) toEnd($("replies"));
}

const user = (id) => state.users.find((u) => u.id === id) || { id, name: id, real_name: id, color: "#64748b" };
const isDM = (c) => Boolean(c.user);
const member = (c, id) => c.members.includes(id);
const people = () => state.users.filter((u) => !u.is_bot);

function visibleChannels() {
  const me = user(here.me);
  const inside = me.team_id === state.team_id && !me.is_restricted && !me.is_ultra_restricted && !me.is_stranger;
  return state.channels.filter((c) => member(c, me.id) || (inside && !c.private && !isDM(c)));
}

function settle() {
  if (!people().some((u) => u.id === here.me)) here.me = localStorage.getItem("me") || "";
  if (!people().some((u) => u.id === here.me)) here.me = people().find((u) => !u.deleted)?.id || "";
  localStorage.setItem("me", here.me);
  const open = visibleChannels();
  if (here.channel === HOME) lookAtHome();
  else looked = "";
  if (here.channel !== HOME && !open.some((c) => c.id === here.channel)) {
    here.channel = (open.find((c) => member(c, here.me)) || open[0])?.id || "";
    here.thread = "";
  }
}

const channel = () => state.channels.find((c) => c.id === here.channel);
const home = () => (state.homes || []).find((v) => v.user === here.me);
const direct = () => visibleChannels().find((c) => isDM(c) && c.user === here.me);

let looked = ""; // whose Home tab has been opened, and so asked for

/** lookAtHome tells the app that somebody looks at its Home tab, once each time they come. */
function lookAtHome() {
  if (looked === here.me) return;
  looked = here.me;
  say(api("home", { user: here.me }));
}

// ---- unread ----

const readKey = (c) => `read:${state.team_id}:${here.me}:${c.id}`;
const lastRead = (c) => localStorage.getItem(readKey(c)) || "";
const newest = (c) => c.messages.filter((m) => m.user !== here.me).at(-1)?.ts || "";
const markRead = (c) => { if (newest(c) > lastRead(c)) localStorage.setItem(readKey(c), newest(c)); };
const badge = (c) => new Set(state.notifications.filter((n) => n.user === here.me && n.channel === c.id && n.ts > lastRead(c)).map((n) => n.ts)).size;

// ---- sidebar ----

const initials = (name) => name.split(/[\s_-]+/).map((w) => [...w][0] || "").slice(0, 2).join("").toUpperCase();

function avatar(u, size) {
  if (u.is_bot) return el("span.avatar.bot." + size, { "aria-hidden": "true" }, el("img", { src: "/icon.svg", alt: "" }));
  return el("span.avatar." + size + (u.deleted ? ".gone" : ""), { color: u.color, "aria-hidden": "true" }, initials(u.real_name || u.name));
}

function kindOf(u) {
  if (u.deleted) return "deactivated";
  if (u.is_stranger || u.team_id !== state.team_id) return "external";
  if (u.is_ultra_restricted) return "single-channel guest";
  if (u.is_restricted) return "guest";
  return u.title || "member";
}

function channelName(c) {
  if (isDM(c)) return user(state.bot_user_id).real_name;
  return c.name;
}

function drawSidebar() {
  const open = visibleChannels().filter((c) => !c.archived || c.id === here.channel);
  const row = (c) => ({ key: c.id, id: c.id, name: channelName(c), dm: isDM(c), private: c.private, ext: c.ext_shared, archived: c.archived,
    here: c.id === here.channel, badge: badge(c), unread: newest(c) > lastRead(c) && member(c, here.me) });
  const dm = direct();
  const bot = user(state.bot_user_id);
  const app = { key: "app", id: HOME, name: bot.real_name || bot.name, dm: true, here: here.channel === HOME || here.channel === dm?.id,
    badge: dm ? badge(dm) : 0, unread: Boolean(dm) && newest(dm) > lastRead(dm), messages: dm?.id };
  const groups = [["Channels", open.filter((c) => !isDM(c)).map(row)], ["Apps", [app]]];
  keyed($("channels"), groups.flatMap(([title, list]) => (list.length ? [{ key: title, title }, ...list] : [])), (r) => {
    if (r.title) return el("h2", {}, r.title);
    return el("button.chan" + (r.here ? ".here" : "") + (r.unread ? ".unread" : ""), { onclick: () => go({ channel: r.unread && r.messages ? r.messages : r.id, thread: "" }), "aria-current": r.here ? "page" : null },
      r.dm ? avatar(user(state.bot_user_id), "tiny") : r.private ? el("span.sigil", {}, el("i.lock")) : el("span.sigil", {}, "#"), el("span.name", {}, r.name),
      r.ext ? el("span.tag", { title: "Shared with another company" }, "shared") : null, r.archived ? el("span.tag", {}, "archived") : null,
      r.badge ? el("span.badge", { "aria-label": r.badge + " new" }, String(r.badge)) : null);
  });
  const me = user(here.me);
  $("me").replaceChildren(avatar(me, "small"), el("span.who", {}, el("strong", {}, me.real_name || "Nobody"), el("small", {}, "@" + me.name + " · " + kindOf(me))), el("span.chev", {}, "⌃"));
  $("weather").classList.toggle("down", state.outage);
  $("weather").classList.toggle("odd", !state.outage && state.faults.length > 0);
  $("weather").lastElementChild.textContent = state.outage ? "Slack is down" : state.faults.length ? `${state.faults.length} fault${state.faults.length > 1 ? "s" : ""} ahead` : "Slack is up";
}

function openMenu(anchor, ...items) {
  const menu = $("menu");
  menu.replaceChildren(...items.flat());
  menu.hidden = false;
  const box = anchor.getBoundingClientRect();
  menu.style.left = Math.max(8, box.left) + "px";
  menu.style.bottom = window.innerHeight - box.top + 6 + "px";
  menu.querySelector("button")?.focus();
}

const closeMenu = () => { $("menu").hidden = true; };
const item = (label, does, extra) => el("button.choice", { role: "menuitem", onclick: () => { closeMenu(); does(); } }, label, extra);

function chooseMe() {
  openMenu($("me"), el("h2", {}, "Who are you?"), people().map((u) =>
    item(el("span.person", {}, avatar(u, "small"), el("span.who", {}, el("strong", {}, u.real_name || u.name), el("small", {}, "@" + u.name + " · " + kindOf(u)))),
      () => go({ me: u.id, thread: "" }), u.id === here.me ? el("span.tick", {}, "✓") : null)));
}

function chooseWeather() {
  const fault = (label, f) => item(label, () => say(api("faults", f)));
  openMenu($("weather"), el("h2", {}, "Weather"),
    item(state.outage ? "Bring Slack back" : "Take Slack down", () => say(api("outage", { down: !state.outage }))),
    fault("Rate-limit the next post (5 s)", { method: "chat.postMessage", kind: "rate_limited", retry_after: 5 }),
    fault("Post the next message, lose the answer", { method: "chat.postMessage", kind: "commit_then_drop" }),
    fault("Fail the next update (500)", { method: "chat.update", kind: "server_error" }),
    fault("Let the next call hang", { method: "*", kind: "hang" }),
    item("Release what hangs, clear the rest", () => say(Promise.all([api("release", {}), api("faults", undefined, "DELETE")]))));
}

// ---- messages ----

function context(place, errors) {
  return {
    me: here.me, groups: state.user_groups.filter((g) => g.members.includes(here.me)).map((g) => g.id), people: people(), errors,
    go: (id) => visibleChannels().some((c) => c.id === id) && go({ channel: id, thread: "" }), follow,
    act: (e, node, value) => act(place, e, node, value),
  };
}

/** follow keeps links to messages of this workspace on the page. */
function follow(event, href) {
  const m = href.match(new RegExp(`^https://${state.team_domain}\\.slack\\.com/archives/(\\w+)/p(\\d{10})(\\d{6})`));
  if (!m || !visibleChannels().some((c) => c.id === m[1])) return;
  event.preventDefault();
  go({ channel: m[1], thread: new URL(href).searchParams.get("thread_ts") || "" });
  document.querySelector(`[data-ts="${m[2]}.${m[3]}"]`)?.scrollIntoView({ block: "center" });
}

const warningFor = (place) => state.warnings.find((w) => w.current && w.user === here.me &&
  (place.view_id ? w.view_id === place.view_id : w.channel === place.channel && w.ts === place.ts && !w.view_id));

function messageNode(r) {
  const m = r.m;
  const u = user(m.user);
  const node = el("article.msg" + (m.ephemeral_to ? ".whisper" : "") + (r.compact ? ".compact" : "") + (r.mentioned ? ".mentioned" : ""), { "data-ts": m.ts },
    el("div.gutter", {}, r.compact ? el("time.small", {}, clock(m.ts)) : avatar(u, "big")),
    el("div.body", {},
      m.ephemeral_to ? el("div.only", {}, "👁 Only visible to you") : null,
      m.broadcast && !r.inThread ? el("div.only", {}, "↪ replied to a thread: ", el("button.linkish", { onclick: () => go({ thread: m.thread_ts }) }, r.parent || "earlier message")) : null,
      r.compact ? null : el("div.meta", {}, el("strong", {}, u.real_name || u.name), u.is_bot ? el("span.app", {}, "App") : null, el("time", { title: new Date(Number(m.ts) * 1000).toLocaleString() }, clock(m.ts))),
      el("div.blocks", {}, m.parts.map((p) => part(p, context({ channel: m.channel, ts: m.ts })))),
      r.warning ? el("div.warning", { role: "alert", title: r.warning.detail }, el("span.triangle", { "aria-hidden": "true" }, "⚠"), el("span", {}, r.warning.text), el("small", {}, r.warning.detail)) : null,
      r.replies && !r.inThread ? el("button.replies", { onclick: () => go({ thread: m.ts }) }, r.replyAvatars.map((id) => avatar(user(id), "tiny")), el("span", {}, `${r.replies} ${r.replies > 1 ? "replies" : "reply"}`), el("small", {}, "last " + clock(r.lastReply))) : null),
    r.inThread || m.ephemeral_to || m.thread_ts ? null : el("button.hover", { onclick: () => go({ thread: m.ts }), title: "Reply in thread", "aria-label": "Reply in thread" }, "💬"));
  return node;
}

function rows(c, list, inThread) {
  const all = [...list, ...state.ephemerals.filter((m) => m.ephemeral_to === here.me && m.channel === c.id && (inThread ? m.thread_ts === here.thread : !m.thread_ts))]
    .sort((a, b) => (a.ts < b.ts ? -1 : 1));
  const out = [];
  let before = null;
  for (const m of all) {
    if (!before || dayName(before.ts) !== dayName(m.ts)) { if (!inThread) out.push({ key: "day" + m.ts, day: dayName(m.ts) }); before = null; }
    const replies = c.messages.filter((r) => r.thread_ts === m.ts);
    out.push({
      key: (m.ephemeral_to ? "e" : "m") + m.ts, m, inThread, warning: warningFor(m), me: here.me,
      compact: Boolean(before && before.user === m.user && !before.ephemeral_to === !m.ephemeral_to && !user(m.user).is_bot && m.ts - before.ts < 300),
      mentioned: state.notifications.some((n) => n.user === here.me && n.ts === m.ts && n.channel === c.id && ["mention", "group"].includes(n.reason)),
      replies: replies.length, lastReply: replies.at(-1)?.ts, replyAvatars: [...new Set(replies.map((r) => r.user))].slice(0, 4),
      parent: m.broadcast ? c.messages.find((p) => p.ts === m.thread_ts)?.summary : "",
    });
    before = m;
  }
  return out;
}

const rowNode = (r) => (r.day ? el("div.day", {}, el("span", {}, r.day)) : messageNode(r));
const atEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
const toEnd = (log) => { log.scrollTop = log.scrollHeight; };

function fill(log, list) {
  const stick = atEnd(log);
  keyed(log, list, rowNode);
  if (stick) toEnd(log);
}

/** drawTabs shows the two sides of an app: its Home tab, and the messages with it. */
function drawTabs(c) {
  const dm = direct();
  const shown = here.channel === HOME || Boolean(c && isDM(c));
  $("tabs").hidden = !shown;
  if (!shown) return;
  const tabs = [{ key: "home", label: "Home", id: HOME }, { key: "messages", label: "Messages", id: dm?.id || "", badge: dm ? badge(dm) : 0 }];
  // Drawn anew only when it changed: a button that is replaced under the finger is not pressed.
  keyed($("tabs"), tabs.map((t) => ({ ...t, here: here.channel === t.id })), (t) => (t.id
    ? el("button.tab" + (t.here ? ".here" : ""), { role: "tab", "aria-selected": t.here ? "true" : "false", onclick: () => go({ channel: t.id, thread: "" }) }, t.label, t.badge ? el("span.badge", {}, String(t.badge)) : null)
    : el("span.tab.off", { title: "The app has not written to this person yet" }, t.label)));
}

function drawHome() {
  const bot = user(state.bot_user_id);
  const view = home();
  $("where").replaceChildren(el("strong", {}, bot.real_name || bot.name), el("small", {}, "App"));
  $("members").replaceChildren();
  $("composer").hidden = true;
  const warning = view && warningFor({ view_id: view.id });
  keyed($("log"), [{ key: "home" + here.me, hash: view?.hash, warning }], () => (view
    ? el("div.home.blocks", {}, warning ? el("div.warning", { role: "alert" }, el("span.triangle", { "aria-hidden": "true" }, "⚠"), el("span", {}, warning.text)) : null,
      view.parts.map((p) => part(p, context({ view_id: view.id }))))
    : el("div.empty", {}, el("img", { src: "/icon.svg", alt: "", width: 56 }), el("h3", {}, bot.real_name || bot.name), el("p", {}, "The app has not filled this tab yet. It does when it hears that somebody looks."))));
}

function drawPane() {
  const c = channel();
  drawTabs(c);
  if (here.channel === HOME) return drawHome();
  if (!c) {
    $("where").replaceChildren(el("strong", {}, "No channels"));
    $("log").replaceChildren(el("div.empty", {}, el("p", {}, "This person is in no channel yet.")));
    $("members").replaceChildren();
    $("composer").hidden = true;
    return;
  }
  $("where").replaceChildren(el("strong", {}, isDM(c) ? null : c.private ? el("i.lock") : "# ", channelName(c)), el("small", {}, isDM(c) ? "App" : c.topic || ""));
  const inside = c.members.filter((id) => !user(id).is_bot);
  $("members").replaceChildren(...(isDM(c) ? [] : [el("span.faces", { title: inside.map((id) => user(id).real_name).join(", ") }, inside.slice(0, 4).map((id) => avatar(user(id), "tiny")), el("small", {}, String(inside.length)))]));
  drawComposer($("composer"), c, ""); // first, because its height decides where the end is
  const list = rows(c, c.messages.filter((m) => !m.thread_ts || m.broadcast));
  if (list.length) fill($("log"), list);
  else keyed($("log"), [{ key: "empty" + c.id }], () => el("div.empty", {}, el("img", { src: "/icon.svg", alt: "", width: 56 }), el("h3", {}, isDM(c) ? channelName(c) : "# " + c.name), el("p", {}, "Nothing here yet. Cards from the app will show up as they are posted.")));
  if (document.visibilityState === "visible") markRead(c);
}

function drawThread() {
  const c = channel();
  const parent = here.thread && c?.messages.find((m) => m.ts === here.thread);
  $("thread").hidden = !parent;
  document.body.classList.toggle("threaded", Boolean(parent));
  if (!parent) return;
  drawComposer($("reply"), c, here.thread);
  fill($("replies"), rows(c, [parent, ...c.messages.filter((m) => m.thread_ts === here.thread)], true));
}

function drawComposer(form, c, thread) {
  const may = member(c, here.me) && !c.archived && !user(here.me).deleted;
  const key = [here.me, c.id, thread, may].join("/");
  form.hidden = false;
  if (form.dataset.key === key) return;
  form.dataset.key = key;
  if (!may) {
    form.replaceChildren(el("div.readonly", {}, c.archived ? "This channel is archived." : user(here.me).deleted ? "This account is deactivated." : "You are looking at this channel without being a member."));
    return;
  }
  const box = el("textarea", { rows: 1, placeholder: thread ? "Reply…" : `Message ${isDM(c) ? channelName(c) : "#" + c.name}, or type a /command`, "aria-label": "Message", value: drafts.get(key) || "" });
  const send = async () => {
    const text = box.value.trim();
    if (!text) return;
    box.value = ""; drafts.delete(key);
    const command = text.match(/^(\/[a-z0-9_-]+)(?:\s+([^]*))?$/i);
    if (command && !thread) await say(api("commands", { user: here.me, channel: c.id, command: command[1], text: command[2] || "" }));
    else await say(api("messages", { user: here.me, channel: c.id, text, thread_ts: thread }));
    toEnd(thread ? $("replies") : $("log"));
  };
  box.addEventListener("input", () => { drafts.set(key, box.value); box.style.height = "auto"; box.style.height = Math.min(box.scrollHeight, 160) + "px"; });
  box.addEventListener("keydown", (e) => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); } });
  form.replaceChildren(box, el("button.send", { type: "submit", "aria-label": "Send" }, "➤"));
  form.onsubmit = (e) => { e.preventDefault(); send(); };
}

// ---- acting ----

// Busy is the element that was pressed, not its place: what has been drawn anew while the app was
// still answering is something else that was pressed.
async function act(place, e, node, value) {
  if (node.classList.contains("busy")) return;
  if (e.confirm && !(await ask(e.confirm))) return;
  node.classList.add("busy");
  await say(api("click", { user: here.me, ...place, action_id: e.action_id, block_id: e.block_id, value, confirm: true }));
  node.classList.remove("busy");
}

function ask(c) {
  const box = $("confirm");
  return new Promise((resolve) => {
    const end = (yes) => { box.onclose = null; box.close(); resolve(yes); };
    box.replaceChildren(el("div.sheet", {}, el("header", {}, el("h2", {}, c.title)), el("div.content", {}, pieces(c.text, context({}))),
      el("footer", {}, el("button.btn", { type: "button", onclick: () => end(false) }, c.deny),
        el("button.btn." + (c.style || "primary"), { type: "button", onclick: () => end(true) }, c.confirm))));
    box.onclose = () => resolve(false);
    box.showModal();
  });
}

function toast(title, text, onclick) {
  const node = el("button.toast", { onclick: () => { node.remove(); onclick?.(); } }, el("strong", {}, title), el("span", {}, text));
  $("toasts").append(node);
  setTimeout(() => node.remove(), 7000);
}

/** say shows what went wrong with a call, if anything. */
async function say(call) {
  try {
    return await call;
  } catch (e) {
    toast("That did not work", e.message);
    return null;
  }
}

// ---- modals ----

function values(form) {
  const out = {};
  for (const n of form.querySelectorAll("[data-block]")) (out[n.dataset.block] ||= {})[n.dataset.action] = valueOf(n);
  return out;
}

async function submit(view, form) {
  if (form.classList.contains("busy")) return;
  form.classList.add("busy");
  await say(api(`views/${view.id}/submit`, { user: here.me, values: values(form) }));
  form.classList.remove("busy");
}

const close = (view) => say(api(`views/${view.id}/close`, { user: here.me }));

function drawModal() {
  const box = $("modal");
  const stack = state.views.filter((v) => v.user === here.me);
  const view = stack.at(-1);
  if (!view) {
    box.dataset.sig = "";
    if (box.open) box.close();
    return;
  }
  const warning = warningFor({ view_id: view.id });
  const sig = JSON.stringify([view.id, view.hash, view.errors, warning, view.title]);
  if (box.dataset.sig !== sig) {
    const typed = box.dataset.view === view.id ? values(box) : {};
    box.dataset.sig = sig;
    box.dataset.view = view.id;
    box.replaceChildren(modalNode(view, stack.length, warning));
    retype(box, typed);
    if (!box.open) box.showModal();
    (box.querySelector("[aria-invalid]") || box.querySelector("[autofocus]"))?.focus();
  }
  box.oncancel = (e) => { e.preventDefault(); close(view); };
  if (!box.open) box.showModal();
}

/** retype puts back what was typed before the modal was drawn again. */
function retype(box, typed) {
  for (const n of box.querySelectorAll("input[data-block], textarea[data-block]")) {
    const before = typed[n.dataset.block]?.[n.dataset.action];
    if (before) { n.value = before; n.dispatchEvent(new Event("input")); }
  }
}

function modalNode(view, depth, warning) {
  const form = el("form.sheet", { novalidate: true },
    el("header", {}, el("img", { src: "/icon.svg", alt: "", width: 28 }), el("h2", {}, view.title), depth > 1 ? el("span.tag", {}, `${depth} of 3`) : null,
      el("button.icon", { type: "button", "aria-label": "Close", onclick: () => close(view) }, "✕")),
    warning ? el("div.warning", { role: "alert" }, el("span.triangle", { "aria-hidden": "true" }, "⚠"), el("span", {}, warning.text), el("small", {}, warning.detail)) : null,
    el("div.content.blocks", {}, view.parts.map((p) => part(p, context({ view_id: view.id }, view.errors)))),
    el("footer", {}, el("button.btn", { type: "button", onclick: () => close(view) }, view.close), view.submit ? el("button.btn.primary", { type: "submit" }, view.submit) : null));
  form.addEventListener("submit", (e) => { e.preventDefault(); submit(view, form); });
  return form;
}

// ---- living ----

function ring() {
  const mine = state.notifications.filter((n) => n.user === here.me);
  const fresh = rung === null ? [] : mine.filter((n) => !rung.has(n.user + n.channel + n.ts));
  rung = new Set(state.notifications.map((n) => n.user + n.channel + n.ts));
  for (const n of fresh.slice(-3)) {
    const c = state.channels.find((x) => x.id === n.channel);
    if (n.channel !== here.channel && c) toast((isDM(c) ? "" : "#") + channelName(c), n.text, () => go({ channel: n.channel, thread: "" }));
  }
}

function draw() {
  if (!state) return;
  settle();
  drawThread(); // first, because it narrows the pane
  drawPane();
  drawSidebar();
  drawModal();
  ring();
  const waiting = visibleChannels().reduce((n, c) => n + badge(c), 0);
  document.title = (waiting ? `(${waiting}) ` : "") + state.team_name + " · local Slack";
}

const pause = (ms) => new Promise((r) => setTimeout(r, ms));

async function live() {
  for (;;) {
    try {
      state = await api("state");
      document.body.classList.remove("lost");
      draw();
      await api("wait?since=" + state.seq);
    } catch {
      document.body.classList.add("lost");
      await pause(1000);
    }
  }
}

$("me").addEventListener("click", chooseMe);
$("weather").addEventListener("click", chooseWeather);
$("unthread").addEventListener("click", () => go({ thread: "" }));
$("burger").addEventListener("click", () => document.body.classList.add("open"));
$("shade").addEventListener("click", () => document.body.classList.remove("open"));
document.addEventListener("click", (e) => { if (!$("menu").contains(e.target) && !e.target.closest("#me, #weather")) closeMenu(); });
document.addEventListener("keydown", (e) => { if (e.key === "Escape") { if (!$("menu").hidden) closeMenu(); else if (here.thread && !$("modal").open && !$("confirm").open) go({ thread: "" }); } });
document.addEventListener("visibilitychange", draw);
addEventListener("hashchange", () => { readHash(); draw(); });
readHash();
live();
