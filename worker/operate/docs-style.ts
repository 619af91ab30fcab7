/** Style sheet of the documentation page. It loads no external fonts or images. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --raised: #ffffff; --ink: #1d2126; --quiet: #616a75; --line: #e2e4e7; --tint: #f1f2f4;
  --accent: #0b6e69; --get: #0a63b8; --post: #17783b; --put: #96590a; --patch: #6d4bb8; --delete: #b3261e;
  --mono: ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, monospace;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", "Microsoft YaHei", sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --raised: #1b1f23; --ink: #e6e8ea; --quiet: #9aa4af; --line: #2d3339; --tint: #23282d;
    --accent: #56c9c0; --get: #73b6f2; --post: #6fcf8f; --put: #e2a95c; --patch: #b79bf0; --delete: #f2938c;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 var(--sans); overflow-wrap: break-word; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
code, pre { font-family: var(--mono); font-size: .87em; }
p code, li code, td code, dd code { background: var(--tint); padding: .1em .35em; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .5rem 0 0; }

nav { position: sticky; top: 0; z-index: 2; background: var(--paper); border-bottom: 1px solid var(--line); overflow-x: auto; }
nav > ul { display: flex; gap: 1.1rem; list-style: none; margin: 0; padding: .7rem 1rem; white-space: nowrap; }
nav ul ul { display: none; }
nav .brand { font-weight: 700; color: var(--ink); letter-spacing: .01em; }
main { padding: 1rem 1rem 5rem; max-width: 60rem; margin: 0 auto; }

h1 { font-size: 2rem; line-height: 1.2; margin: 1.2rem 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.4rem; line-height: 1.3; margin: 3.2rem 0 .2rem; letter-spacing: -.01em; }
h3 { font-size: 1.05rem; line-height: 1.4; margin: 0; }
h4 { font-size: .78rem; text-transform: uppercase; letter-spacing: .07em; color: var(--quiet); margin: 1.3rem 0 .3rem; }
.lead { color: var(--quiet); margin: 0 0 1rem; max-width: 46rem; }
article { background: var(--raised); border: 1px solid var(--line); border-radius: 12px; padding: 1.1rem 1.2rem 1.2rem; margin: 1rem 0; }
article:target { border-color: var(--accent); }
.call { display: flex; flex-wrap: wrap; align-items: baseline; gap: .3rem .7rem; margin: .35rem 0 0; font-family: var(--mono); font-size: .92rem; }
.call .path { overflow-wrap: anywhere; }
.method { font: 700 .74rem/1 var(--mono); letter-spacing: .04em; text-transform: uppercase; }
.get, .head { color: var(--get); } .post { color: var(--post); } .put { color: var(--put); } .patch { color: var(--patch); } .delete { color: var(--delete); }
.call .method { border: 1px solid currentColor; border-radius: 5px; padding: .28em .5em; }
.who { color: var(--quiet); font-size: .88rem; margin: .5rem 0 0; }
article p { margin: .6rem 0 0; }
.anchor { color: inherit; }

.fields { list-style: none; margin: 0; padding: 0; }
.fields > li { border-top: 1px solid var(--line); padding: .45rem 0; }
.fields > li:first-child { border-top: 0; }
.fields .fields { margin: .4rem 0 0; padding-left: 1rem; border-left: 2px solid var(--line); }
.name { font-family: var(--mono); font-size: .88rem; font-weight: 600; overflow-wrap: anywhere; }
.type { color: var(--quiet); font-size: .85rem; margin-left: .5rem; }
.needed { color: var(--delete); font-size: .75rem; margin-left: .5rem; }
.says { display: block; font-size: .92rem; }
.limits { display: block; color: var(--quiet); font-size: .85rem; overflow-wrap: anywhere; }
details { border-top: 1px solid var(--line); }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .5rem 0; }
summary .status { font: 600 .88rem var(--mono); margin-right: .5rem; }
.ok { color: var(--post); } .no { color: var(--delete); } .other { color: var(--quiet); }
.inside { padding: 0 0 .8rem 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
dl { margin: 0; } dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; color: var(--quiet); }

@media (min-width: 64rem) {
  body { display: grid; grid-template-columns: 19rem minmax(0, 1fr); }
  html { scroll-padding-top: 1rem; }
  nav { height: 100vh; overflow-y: auto; border-bottom: 0; border-right: 1px solid var(--line); font-size: .9rem; }
  nav > ul { display: block; white-space: normal; padding: 1.4rem 1.2rem; }
  nav > ul > li { margin-bottom: 1rem; font-weight: 600; }
  nav ul ul { display: block; list-style: none; padding: 0; margin: .2rem 0 0; font-weight: 400; }
  nav ul ul li { padding: .12rem 0; line-height: 1.4; }
  nav ul ul a { display: flex; align-items: baseline; color: var(--quiet); }
  nav ul ul .method { flex: none; width: 3.6rem; font-size: .66rem; }
  nav .brand { font-size: 1.15rem; }
  main { padding: 1.4rem 3rem 6rem; margin: 0; }
}
@media fingerprint { nav { display: none; } article { break-inside: avoid; } }
`;
