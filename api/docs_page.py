"""The OpenAPI document and a page to read it, without anything from outside."""

import json
from typing import Any

from aiohttp import web

DOCUMENT = web.AppKey("openapi_document", bytes)

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Switchboard API</title><link rel="stylesheet" href="/api/docs/page.css"></head>
<body><header><h1>Switchboard API</h1><p id="about">Loading…</p>
<label>Find <input id="find" type="search" autocomplete="off"></label>
<p><a href="/api/v1/openapi.json">openapi.json</a></p></header><main id="all"></main>
<script src="/api/docs/page.js"></script></body></html>
"""

_CSS = """
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{margin:0 auto;max-width:60rem;padding:1rem}
details{border:1px solid #8886;border-radius:6px;margin:.4rem 0;padding:.3rem .7rem}summary{cursor:pointer}
summary b{display:inline-block;min-width:4.2rem;font-family:ui-monospace,monospace}
code,pre{font-family:ui-monospace,monospace}
pre{overflow:auto;background:#8882;padding:.6rem;border-radius:4px;font-size:.85rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
h2{margin:1.6rem 0 .4rem}.get{color:#1a7f37}.post{color:#0969da}.put,.patch{color:#9a6700}.delete{color:#cf222e}
.dim{opacity:.7}
"""

_JS = r"""
"use strict";
const make = (tag, text, cls) => { const e = document.createElement(tag); if (text) e.textContent = text;
  if (cls) e.className = cls; return e; };
const nameOf = (s) => !s ? "" : s.$ref ? s.$ref.split("/").pop() : s.anyOf ? s.anyOf.map(nameOf).join(" | ")
  : s.type === "array" ? nameOf(s.items || {}) + "[]" : s.enum ? s.enum.map((v) => JSON.stringify(v)).join(" | ")
  : "const" in s ? JSON.stringify(s.const) : (s.format || s.type || "any");
function shape(doc, schema, depth) {
  if (!schema) return "any";
  if (schema.$ref) {
    if (depth > 4) return nameOf(schema);
    return shape(doc, doc.components.schemas[schema.$ref.split("/").pop()], depth + 1);
  }
  if (schema.anyOf) return schema.anyOf.map((s) => shape(doc, s, depth)).join(" | ");
  if (schema.type === "array") return "[" + shape(doc, schema.items, depth) + "]";
  if (schema.properties) {
    const pad = "  ".repeat(depth);
    const need = schema.required || [];
    return "{\n" + Object.entries(schema.properties).map(([k, v]) => pad + "  " + k + (need.includes(k) ? "" : "?")
      + ": " + shape(doc, v, depth + 1)).join("\n") + "\n" + pad + "}";
  }
  return nameOf(schema);
}
function operation(doc, path, method, op) {
  const box = make("details"); box.dataset.text = (method + " " + path + " " + op.summary).toLowerCase();
  const line = make("summary"); line.append(make("b", method.toUpperCase(), method), make("code", path), " ",
    make("span", op.summary, "dim")); box.append(line);
  for (const part of op.description.split("\n\n")) box.append(make("p", part));
  if (op.parameters.length) {
    const table = make("table");
    for (const p of op.parameters) { const row = make("tr"); row.append(make("td", p.name + (p.required ? "" : "?")),
      make("td", p.in, "dim"), make("td", nameOf(p.schema)), make("td", p.description || "", "dim"));
      table.append(row); }
    box.append(table);
  }
  if (op.requestBody) for (const [type, body] of Object.entries(op.requestBody.content)) {
    box.append(make("p", "Body: " + type)); box.append(make("pre", shape(doc, body.schema, 0))); }
  for (const [status, answer] of Object.entries(op.responses)) {
    box.append(make("p", status + " " + answer.description));
    if (status < "300") for (const body of Object.values(answer.content || {}))
      box.append(make("pre", shape(doc, body.schema, 0)));
  }
  return box;
}
fetch("/api/v1/openapi.json").then((r) => r.json()).then((doc) => {
  document.getElementById("about").textContent = doc.info.description + " Version " + doc.info.version + ".";
  const all = document.getElementById("all"); const groups = new Map();
  for (const [path, methods] of Object.entries(doc.paths)) for (const [method, op] of Object.entries(methods)) {
    if (!groups.has(op.tags[0])) { const s = make("section"); s.append(make("h2", op.tags[0]));
      groups.set(op.tags[0], s); all.append(s); }
    groups.get(op.tags[0]).append(operation(doc, path, method, op));
  }
  document.getElementById("find").addEventListener("input", (e) => { const wanted = e.target.value.toLowerCase();
    for (const box of all.querySelectorAll("details")) box.hidden = !box.dataset.text.includes(wanted); });
}).catch((e) => { document.getElementById("about").textContent = "The document could not be read: " + e; });
"""


def add_docs(app: web.Application, document: dict[str, Any]) -> None:
    """Serve /api/v1/openapi.json and /api/docs."""
    app[DOCUMENT] = json.dumps(document, ensure_ascii=False).encode()

    def page(body: str, content_type: str) -> Any:
        async def show(_request: web.Request) -> web.Response:
            return web.Response(
                text=body,
                content_type=content_type,
                headers={
                    "Content-Security-Policy": _CSP,
                    "X-Content-Type-Options": "nosniff",
                    "Referrer-Policy": "no-referrer",
                },
            )

        return show

    async def openapi(request: web.Request) -> web.Response:
        return web.Response(body=request.app[DOCUMENT], content_type="application/json")

    app.router.add_get("/api/v1/openapi.json", openapi)
    app.router.add_get("/api/docs", page(_PAGE, "text/html"))
    app.router.add_get("/api/docs/page.css", page(_CSS, "text/css"))
    app.router.add_get("/api/docs/page.js", page(_JS, "text/javascript"))
