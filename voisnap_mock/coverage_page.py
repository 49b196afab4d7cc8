"""Coverage as a page for a browser: one file, no script, nothing to load."""

from __future__ import annotations

from html import escape

from voisnap_mock.coverage import Coverage, Part

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667; --line: #d9dee4; --paper: #fff; --bar: #e7ebef;
  --hit: #1a7f4b; --miss: #b3402f }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa3ad; --line: #343a41; --paper: #16191d;
  --bar: #2a2f35; --hit: #4fc38a; --miss: #f0836f } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.5rem }
h1 { font-size: 1.3rem; margin: 0 }
.percent { font-size: 3.2rem; font-weight: 650; letter-spacing: -.03em; line-height: 1.1 }
.soft, .miss, .hit span { color: var(--soft) }
.parts { display: grid; gap: 1.2rem; margin-top: 2rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)) }
section { border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem }
h2 { font-size: 1rem; margin: 0 0 .5rem; display: flex; justify-content: space-between }
.bar { height: 6px; border-radius: 3px; background: var(--bar); margin-bottom: .8rem; overflow: hidden }
.bar i { display: block; height: 100%; background: var(--hit) }
ul { list-style: none; margin: 0; padding: 0; font: 13px/1.75 ui-monospace, monospace }
li { display: flex; justify-content: space-between; gap: 1rem }
li b { font-weight: 500; overflow: hidden; text-overflow: ellipsis }
.miss b::before { content: "\\2717\\00a0"; color: var(--miss) }
.hit b::before { content: "\\2713\\00a0"; color: var(--hit) }
"""


def coverage_page(coverage: Coverage) -> str:
    """The whole page as HTML text."""
    unused = ", ".join(coverage.unused_hubs)
    note = f"Not used and not counted: {unused}." if unused else "All hubs were used."
    parts = "".join(_part(part) for part in coverage.parts().values())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Voisnap API coverage: {coverage.percent:g} %</title><style>{_STYLE}</style><main>"
        "<h1>What the tests touched of the Voisnap API</h1>"
        f"<div class=percent>{coverage.percent:g} %</div><div class=soft>{escape(note)}</div>"
        f"<div class=parts>{parts}</div></main></html>\n"
    )


def _part(part: Part) -> str:
    share = 100 * part.touched / len(part.items) if part.items else 0
    rows = "".join(map(_row, part.items, part.items.values()))
    return (
        f"<section><h2>{escape(part.title)}<span class=soft>{part.touched} of {len(part.items)}</span></h2>"
        f"<div class=bar><i style='width:{share:.1f}%'></i></div><ul>{rows}</ul></section>"
    )


def _row(name: str, count: int) -> str:
    look, shown = ("hit", f"{count:,}") if count else ("miss", "never")
    return f"<li class={look}><b>{escape(name)}</b><span>{shown}</span></li>"
