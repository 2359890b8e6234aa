"""The style sheet of the HTML report; dark where the reader's system is, one column where the page is narrow."""

CSS = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #ffffff; --fg: #1c1e21; --dim: #62676f; --line: #e2e4e7;
  --bar: #4a7ab5; --mark: #1c1e21; --good: #1a7f4b; --bad: #b3362c; --good-bg: #d9f2e3; --bad-bg: #fbdcd8; }
@media screen and (prefers-color-scheme: dark) { :root { --bg: #16181b; --card: #1e2125; --fg: #e6e7e9; --dim: #9aa0a8;
  --line: #33373d; --bar: #6d9fdc; --mark: #e6e7e9; --good: #6fd39c; --bad: #f2938a; --good-bg: #173d2a;
  --bad-bg: #4a211e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Hiragino Sans", "Noto Sans CJK JP", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 36px 0 10px; }
p { margin: 6px 0; }
.dim, dt { color: var(--dim); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.tile { min-width: 128px; } .card { overflow-x: auto; }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--dim); font-size: 13px; }
svg { display: block; width: 100%; height: auto; aspect-ratio: var(--wide); }
svg .narrow { display: none; }
svg text { font: 13px system-ui, -apple-system, "Segoe UI", "Hiragino Sans", "Noto Sans CJK JP", sans-serif;
  fill: var(--fg); font-variant-numeric: tabular-nums; }
svg .tick { fill: var(--dim); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .zero { stroke: var(--dim); }
svg .bar, svg .dot { fill: var(--bar); }
svg .better { fill: var(--good); } svg .worse { fill: var(--bad); }
svg .whisker { stroke: var(--mark); stroke-width: 1.5; fill: none; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 6px 10px; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 500; font-size: 13px; }
tr:last-child td { border-bottom: 0; }
.n { text-align: right; white-space: nowrap; }
.t { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 160px; }
.id { max-width: 270px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: 13px;
  line-height: 23px; color: var(--dim); }
ins { background: var(--good-bg); color: var(--good); text-decoration: underline; text-underline-offset: 3px; }
del { background: var(--bad-bg); color: var(--bad); text-decoration: line-through; }
.better { color: var(--good); } .worse { color: var(--bad); }
details { margin: 10px 0; }
summary { cursor: pointer; padding: 6px 0; font-weight: 500; }
summary .sign { display: inline-block; width: 1.4em; font-family: ui-monospace, monospace; color: var(--dim); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
@media screen and (max-width: 640px) {
  main { padding: 20px 14px 48px; }
  .tiles { gap: 8px; } .tile { flex: 1 1 128px; } .tile, .card { padding: 10px 12px; }
  svg { aspect-ratio: var(--narrow); max-width: 440px; }
  svg .wide { display: none; } svg .narrow { display: inline; }
  table, tbody, tr, td { display: block; } thead { display: none; }
  tr { padding: 8px 0; border-bottom: 1px solid var(--line); } tr:last-child { border-bottom: 0; }
  td { padding: 2px 0; border-bottom: 0; } .n { text-align: left; } .t { min-width: 0; }
  .id { max-width: none; overflow-x: auto; text-overflow: clip; }
  td[data-head]:not(:empty)::before { content: attr(data-head); display: inline-block; min-width: 84px;
    margin-right: 8px; font-size: 13px; color: var(--dim); }
  .t[data-head]::before { display: block; margin-top: 4px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 8px; }
}
@media print { details { break-inside: avoid; } body { background: #ffffff; } }
"""
