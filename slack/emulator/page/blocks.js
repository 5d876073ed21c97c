// Draws what the server has rendered: parts (blocks), pieces (paragraphs), spans (text runs)
// and elements (buttons, menus, inputs).
import { el, safeURL, formatDate } from "./dom.js";

function span(s, ctx) {
  let node;
  const mine = s.id && (s.id === ctx.me || ctx.groups.includes(s.id) || s.kind === "broadcast");
  switch (s.kind) {
    case "link": {
      const href = safeURL(s.url);
      node = href ? el("a", { href, title: s.url, target: "_blank", rel: "noopener noreferrer", onclick: (e) => ctx.follow(e, href) }, s.text) : el("span", {}, s.text);
      break;
    }
    case "user": case "usergroup": case "broadcast": case "channel":
      node = el("span.mention" + (mine ? ".mine" : "") + (s.kind === "channel" ? ".channel" : ""), { title: s.id }, s.text);
      if (s.kind === "channel") node.addEventListener("click", () => ctx.go(s.id));
      break;
    case "date": {
      const shown = s.format ? formatDate(s.unix, s.format) : s.text;
      const href = s.url && safeURL(s.url);
      node = el("time.date", { title: s.text }, href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, shown) : shown);
      break;
    }
    case "emoji": node = el("span.emoji", {}, s.text); break;
    default: node = document.createTextNode(s.text);
  }
  for (const [on, tag] of [[s.code, "code"], [s.strike, "s"], [s.italic, "em"], [s.bold, "strong"]]) if (on) node = el(tag, {}, node);
  return node;
}

/** pieces draws paragraphs, quotations, preformatted text and list items. */
export function pieces(list, ctx) {
  return (list || []).map((p) => {
    const spans = (p.spans || []).map((s) => span(s, ctx));
    switch (p.kind) {
      case "pre": return el("pre", {}, spans);
      case "quote": return el("blockquote", {}, spans);
      case "item": return el("div.item.indent" + Math.min(p.indent || 0, 4), {}, el("span.marker", {}, p.marker), el("span", {}, spans));
      default: return el("p", {}, spans);
    }
  });
}

/** text flattens pieces to a string, for option labels. */
export const text = (list) => (list || []).map((p) => p.spans.map((s) => s.text).join("")).join(" ");

function button(e, ctx) {
  const node = el("button.btn" + (e.style ? "." + e.style : ""), {
    type: "button", "data-action": e.action_id, "aria-label": e.label || null, title: e.label || null,
    onclick: () => { if (e.url && safeURL(e.url)) window.open(safeURL(e.url), "_blank", "noopener,noreferrer"); ctx.act(e, node, ""); },
  }, e.text);
  return node;
}

function select(e, ctx, options, onchange) {
  return el("select", { "data-action": e.action_id, "data-block": e.block_id, onchange },
    el("option", { value: "" }, e.text || "Choose…"),
    options.map((o) => el("option", { value: o.value, selected: o.value === e.value }, o.label)));
}

function boxes(e, type, onchange) {
  const picked = (e.value || "").split(",");
  return el("div.boxes", { "data-action": e.action_id, "data-block": e.block_id, onchange },
    (e.options || []).map((o) => el("label", {},
      el("input", { type, name: e.block_id + e.action_id, value: o.value, checked: picked.includes(o.value) }),
      el("span", {}, text(o.text), o.description?.length ? el("small", {}, text(o.description)) : null))));
}

/** valueOf reads what a drawn element holds, as the driver wants it. */
export function valueOf(node) {
  if (node.classList.contains("boxes")) return [...node.querySelectorAll("input:checked")].map((i) => i.value).join(",");
  return node.value;
}

/** element draws one interactive element; in inputs ctx.act is only called where Slack would send. */
export function element(e, ctx, inInput) {
  const send = inInput ? null : (ev) => ctx.act(e, ev.currentTarget, valueOf(ev.currentTarget));
  const options = (e.options || []).map((o) => ({ value: o.value, label: text(o.text) }));
  switch (e.type) {
    case "button": return button(e, ctx);
    case "static_select": return select(e, ctx, options, send);
    case "overflow": return select({ ...e, text: "⋯" }, ctx, options, send);
    case "users_select": return select(e, ctx, ctx.people.map((u) => ({ value: u.id, label: u.real_name })), send);
    case "checkboxes": return boxes(e, "checkbox", send);
    case "radio_buttons": return boxes(e, "radio", send);
    default: {
      // The limits are not given to the browser: the server checks them, as Slack's client does.
      const props = { "data-action": e.action_id, "data-block": e.block_id, placeholder: e.text || null, value: e.value || "", autofocus: e.focus || null };
      return e.multiline ? el("textarea", { ...props, rows: 4 }) : el("input", { ...props, type: "text" });
    }
  }
}

function input(p, ctx) {
  const e = p.elements[0];
  const error = ctx.errors?.[p.block_id];
  const field = element(e, ctx, true);
  if (error) field.setAttribute("aria-invalid", "true");
  const count = e.type === "plain_text_input" && e.max_length ? counter(field, e.max_length) : null;
  return el("div.field" + (error ? ".wrong" : ""), {},
    el("label", {}, text(p.flow), p.optional ? el("span.optional", {}, " (optional)") : null), field,
    el("div.under", {}, error ? el("span.error", { role: "alert" }, error) : el("span.hint", {}, p.hint || ""), count));
}

function counter(field, max) {
  const node = el("span.count", {});
  const update = () => { const left = max - [...field.value].length; node.textContent = left; node.classList.toggle("over", left < 0); };
  field.addEventListener("input", update);
  update();
  return node;
}

/** part draws one block. */
export function part(p, ctx) {
  const used = (p.elements || []).map((e) => (p.kind === "input" ? null : element(e, ctx)));
  switch (p.kind) {
    case "header": return el("h3", {}, text(p.flow));
    case "divider": return el("hr");
    case "context": return el("div.context", {}, (p.fields || []).map((f) => el("div", {}, pieces(f, ctx))));
    case "actions": return el("div.actions", {}, used);
    case "input": return input(p, ctx);
    case "image": return el("figure", {}, p.flow ? el("figcaption", {}, text(p.flow)) : null, el("img", { src: safeURL(p.image_url), alt: p.alt, loading: "lazy" }));
    default:
      return el("div.section", {}, el("div.words", {}, pieces(p.flow, ctx),
        p.fields?.length ? el("div.fields", {}, p.fields.map((f) => el("div", {}, pieces(f, ctx)))) : null), used.length ? el("div.accessory", {}, used) : null);
  }
}
