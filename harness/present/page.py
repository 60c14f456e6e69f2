"""A self-contained HTML page: inline style, no script, nothing fetched, narrow and wide, light and dark."""

import html
import re
from collections.abc import Iterable

from harness.present.words import shown

# A browser that honours it fetches and runs nothing, whatever a page may come to hold.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_JOINTS = re.compile(r"_+(?=\w)")  # browsers know the others: "/" and "-"
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #59616e; --paper: #fff; --card: #f5f6f8;
  --line: #d9dde3; --good: #116329; --bad: #a40e26; --changed: #7d4e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa3af; --paper: #14171b;
  --card: #1d2126; --line: #343a42; --good: #4ac26b; --bad: #ff8182; --changed: #eac54f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
code, .name { font: .875rem/1.5 ui-monospace, monospace; }
p, ul { margin: .25rem 0; } dl { margin: .5rem 0; } footer { margin: 2rem 0 1rem; }
ul { padding-left: 1.25rem; } ul.plain { padding: 0; list-style: none; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem;
  margin: .5rem 0; }
.soft { color: var(--soft); font-size: .875rem; }
.good { color: var(--good); } .bad, .added { color: var(--bad); } .changed { color: var(--changed); }
.removed { color: var(--soft); } .card.bad { color: inherit; border: 2px solid var(--bad); }
.tag { font-weight: 600; font-size: .8125rem; border: 1px solid; border-radius: 1rem; padding: 0 .5rem;
  display: inline-block; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .125rem .75rem; }
dt { color: var(--soft); } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--soft); font-weight: 500; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .5rem .25rem 0; vertical-align: top; }
td:first-child { width: 60%; }
@media (max-width: 40rem) { dl { display: block; } dd { margin-bottom: .5rem; }
  td { display: block; width: 100% !important; border: 0; padding: 0; }
  tr { display: block; padding: .375rem 0; border-bottom: 1px solid var(--line); } thead { display: none; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """The whole document; `body` is HTML, `title` is text."""
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{text(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        *body,
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def text(value: object) -> str:
    """Any text as HTML text or as an attribute's value."""
    return html.escape(shown(str(value)), quote=True)


def flowing(value: object) -> str:
    """Text of a page that may break where a name has a joint, rather than anywhere."""
    return _JOINTS.sub(r"\g<0><wbr>", text(value))


def code(value: object) -> str:
    return f"<code>{flowing(value)}</code>"


def tag(kind: str, value: object | None = None) -> str:
    """`kind` is one of our own words: added, removed, changed; good, bad. What was added looks bad."""
    return f'<span class="tag {kind}">{text(kind if value is None else value)}</span>'


def facts(rows: Iterable[tuple[str, object]]) -> str:
    """A list of names and values."""
    items = "".join(f"<dt>{text(name)}</dt><dd>{flowing(value)}</dd>" for name, value in rows)
    return f"<dl>{items}</dl>"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML."""
    top = "".join(f"<th>{text(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"
