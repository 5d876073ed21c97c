// Small building blocks. Text reaches the page only through textContent and attributes, so nothing
// that a message says is ever read as markup.

/** el makes an element: el("a.link", {href}, "text", child, …). Null children are left out. */
export function el(spec, props, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "color") node.style.setProperty("--c", value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** $ finds an element by id. */
export const $ = (id) => document.getElementById(id);

/** safeURL returns a link target, or null for schemes a message must not link to. */
export function safeURL(url) {
  try {
    const u = new URL(url);
    return ["http:", "https:", "mailto:"].includes(u.protocol) ? u.href : null;
  } catch {
    return null;
  }
}

/** api calls the emulator's driver. A refusal becomes an Error with its reason. */
export async function api(path, body, method) {
  const res = await fetch("/_emulator/" + path, body === undefined && !method ? {} : {
    method: method || "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body || {}),
  });
  const out = await res.json();
  if (!res.ok) throw new Error(out.error || res.statusText);
  return out;
}

/** keyed fills parent with nodes made by make(item), reusing those whose signature is the same. */
export function keyed(parent, items, make) {
  const old = parent.nodesByKey || new Map();
  const now = new Map();
  const nodes = items.map((item) => {
    const sig = JSON.stringify(item);
    const had = old.get(item.key);
    const entry = had && had.sig === sig ? had : { sig, node: make(item) };
    now.set(item.key, entry);
    return entry.node;
  });
  parent.nodesByKey = now;
  if (nodes.length === parent.childNodes.length && nodes.every((n, i) => n === parent.childNodes[i])) return;
  parent.replaceChildren(...nodes);
}

const day = (d, options) => d.toLocaleDateString(undefined, options);

/** clock shows a message timestamp as the time of day. */
export const clock = (ts) => new Date(Number(ts) * 1000).toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" });

/** dayName shows the day of a timestamp as a reader would say it. */
export function dayName(ts, short) {
  const d = new Date(Number(ts) * 1000);
  const near = { 0: "Today", 1: "Yesterday", "-1": "Tomorrow" }[Math.round((new Date().setHours(0, 0, 0, 0) - new Date(d).setHours(0, 0, 0, 0)) / 864e5)];
  return near || day(d, short ? { month: "short", day: "numeric", year: "numeric" } : { weekday: "long", month: "long", day: "numeric" });
}

/** formatDate fills Slack's date tokens in the reader's own time zone. */
export function formatDate(unix, format) {
  const d = new Date(unix * 1000);
  const long = { year: "numeric", month: "long", day: "numeric" };
  const short = { year: "numeric", month: "short", day: "numeric" };
  const pretty = (usual) => { const n = dayName(unix, true); return /^(Today|Yesterday|Tomorrow)$/.test(n) ? n.toLowerCase() : day(d, usual); };
  const tokens = {
    date_num: () => `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, "0")}-${String(d.getDate()).padStart(2, "0")}`,
    date: () => day(d, long), date_short: () => day(d, short), date_long: () => day(d, { weekday: "long", ...long }),
    date_pretty: () => pretty(long), date_short_pretty: () => pretty(short), date_long_pretty: () => pretty({ weekday: "long", ...long }),
    time: () => d.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit" }),
    time_secs: () => d.toLocaleTimeString(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" }),
    ago: () => { const m = Math.round((Date.now() - d) / 6e4); return m < 60 ? `${m} minutes ago` : `${Math.round(m / 60)} hours ago`; },
  };
  const text = format.replace(/\{(\w+)\}/g, (all, token) => (tokens[token] ? tokens[token]() : all));
  return text.charAt(0).toUpperCase() + text.slice(1);
}
