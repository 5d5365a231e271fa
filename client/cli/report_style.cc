#include "client/cli/report.h"

namespace lectern {
namespace {

constexpr std::string_view kStyle = R"css(
:root {
  --page: #f6f6f3; --paper: #ffffff; --ink: #1c1e21; --quiet: #585d66; --line: #dcdcd6;
  --link: #1d4f8c; --accent: #8a4b08; --note: #fdf0d5;
  --heat-1: #fdf3cf; --heat-2: #fbe7a4; --heat-3: #f8d673; --heat-4: #f4c04a; --heat-5: #efa92f;
  --on-heat: #1c1300;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --paper: #1c1f25; --ink: #e6e7ea; --quiet: #a2a8b3; --line: #333842;
    --link: #8fbdf5; --accent: #f0b35a; --note: #3a2c12;
    --heat-1: #3a3014; --heat-2: #4f3f12; --heat-3: #69520f; --heat-4: #755708; --heat-5: #8a6303;
    --on-heat: #fff7e2;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 30vh; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
}
header, main { max-width: 84rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 1.75rem; padding-bottom: 1.25rem; }
.brand { margin: 0 0 .9rem; font-size: .8rem; font-weight: 700; letter-spacing: .06em; color: var(--accent); }
.brand span { font-weight: 400; letter-spacing: 0; color: var(--quiet); }
h1 { margin: 0 0 .5rem; font-size: 1.75rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 .6rem; font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; color: var(--quiet); }
a { color: var(--link); }
a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem 1rem; z-index: 1; }
.quiet { margin: 0; color: var(--quiet); font-size: .875rem; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .92em; }
main { display: grid; gap: 1.25rem; padding-bottom: 3rem; }
.side { display: grid; gap: 1.25rem; align-content: start; }
section { min-width: 0; background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.1rem 1.25rem; }
.answer { font-size: 1.15rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.note { margin: .8rem 0 0; padding: .5rem .75rem; background: var(--note); border-left: 4px solid var(--accent); border-radius: 4px; font-size: .92rem; }
.cards { list-style: none; margin: 0; padding: 0; }
.card { padding: .75rem 0; border-top: 1px solid var(--line); }
.card:first-child { border-top: 0; padding-top: 0; }
.card:last-child { padding-bottom: 0; }
.card:target { outline: 3px solid var(--link); outline-offset: 4px; border-radius: 4px; }
.rank { margin: 0; font-size: .875rem; color: var(--quiet); }
.rank strong { color: var(--ink); }
.badge { display: inline-block; min-width: 1.6rem; padding: 0 .35rem; border-radius: 4px; text-align: center; font-weight: 700; color: var(--on-heat); }
blockquote { margin: .35rem 0; padding: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { margin: 0 0 .6rem; font-size: .9rem; }
dl div { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; padding: .3rem 0; border-top: 1px solid var(--line); }
dl div:first-child { border-top: 0; }
dt { color: var(--quiet); }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.map { display: block; width: 100%; height: 16px; margin: 0 0 .5rem; background: var(--page); border: 1px solid var(--line); border-radius: 4px; }
.legend { margin-bottom: 1.25rem; }
.text { font-family: ui-serif, Georgia, "DejaVu Serif", serif; line-height: 1.65; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 46rem; margin: 0 auto; }
.gap { margin: 1rem 0; padding: .25rem; text-align: center; font-size: .875rem; color: var(--quiet); border: dashed var(--line); border-width: 1px 0; }
mark { color: var(--on-heat); border-radius: 2px; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.place { display: inline-block; margin-right: .3em; padding: 0 .4em; border-radius: 3px; background: var(--ink); color: var(--paper); font: 700 .72rem/1.5 system-ui, "DejaVu Sans", sans-serif; text-decoration: none; vertical-align: .12em; user-select: none; }
.place:target { background: var(--link); outline: 3px solid var(--link); outline-offset: 2px; }
mark.heat-1, .badge.heat-1 { background: var(--heat-1); } rect.heat-1 { fill: var(--heat-1); }
mark.heat-2, .badge.heat-2 { background: var(--heat-2); } rect.heat-2 { fill: var(--heat-2); }
mark.heat-3, .badge.heat-3 { background: var(--heat-3); } rect.heat-3 { fill: var(--heat-3); }
mark.heat-4, .badge.heat-4 { background: var(--heat-4); } rect.heat-4 { fill: var(--heat-4); }
mark.heat-5, .badge.heat-5 { background: var(--heat-5); } rect.heat-5 { fill: var(--heat-5); }
rect { stroke: var(--quiet); stroke-width: 1; vector-effect: non-scaling-stroke; }
@media (min-width: 64rem) {
  main { grid-template-columns: minmax(20rem, 27rem) minmax(0, 1fr); align-items: start; }
  .side { position: sticky; top: 1rem; max-height: calc(100vh - 2rem); overflow-y: auto; }
}
@media print {
  body { background: none; font-size: 11pt; }
  main, .side { display: block; position: static; max-height: none; } section { border: 0; padding: .5rem 0; } .skip, .map { display: none; }
  mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";

}  // namespace

std::string_view ReportStyle() { return kStyle; }

}  // namespace lectern
