// The pulse: how fast it decides and records, and what lies between the two.
import { html } from "../vendor/preact.js";
import { duration, number, useWords } from "./language.js";
import { WINDOW_MS } from "./series.js";

const WIDTH = 1000;
const HEIGHT = 160;
const LEAST_PEAK = 10;

export function PulsePanel({ look, series }) {
  const words = useWords();
  const { decided, recorded, refused } = series.latest();
  const known = look.gateAnswers;
  return html`<section class="card pulse" aria-labelledby="pulse-title">
    <h2 id="pulse-title" class="hidden">${words.pulse.title}</h2>
    <dl class="figures">
      <${Figure} kind="decided" label=${words.pulse.decided} hint=${words.pulse.decidedHint} value=${number(words, decided)} />
      <${Figure} kind="recorded" label=${words.pulse.recorded} hint=${words.pulse.recordedHint} value=${number(words, recorded)} />
      <${Figure} kind="answered" label=${words.pulse.refused} hint=${words.pulse.refusedHint} value=${number(words, refused)} />
      <${Figure} label=${words.pulse.lag} hint=${words.pulse.lagHint} value=${duration(words, known ? look.lagMs : null)} />
      <${Figure} label=${words.pulse.backlog} hint=${words.pulse.backlogHint} value=${number(words, known ? look.backlog : null)} />
    </dl>
    <${Chart} series=${series} />
  </section>`;
}

function Figure({ kind = "", label, hint, value }) {
  return html`<div class=${`figure ${kind}`}>
    <dt>${label} <span class="hint">${hint}</span></dt>
    <dd>${value}</dd>
  </div>`;
}

function Chart({ series }) {
  const words = useWords();
  const peak = Math.max(LEAST_PEAK, series.peak());
  const end = series.points.at(-1)?.at ?? 0;
  const place = (point, name) => [
    (WIDTH * (point.at - (end - WINDOW_MS))) / WINDOW_MS,
    HEIGHT - (HEIGHT - 4) * (point[name] / peak) - 1,
  ];
  const answered = runsOf(series.points, "answered").map((run) => run.map((point) => place(point, "answered")));
  const decided = runsOf(series.points, "decided").map((run) => run.map((point) => place(point, "decided")));
  const recorded = runsOf(series.points, "recorded").map((run) => run.map((point) => place(point, "recorded")));
  const label = `${words.pulse.chart}; ${words.pulse.peak} ${number(words, series.peak())} / ${words.secondsUnit}`;
  return html`<figure class="chart">
    <figcaption><span>${words.pulse.peak} ${number(words, series.peak())}</span></figcaption>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label=${label}>
      <line class="grid" x1="0" x2=${WIDTH} y1=${HEIGHT - 1} y2=${HEIGHT - 1} />
      <line class="grid" x1="0" x2=${WIDTH} y1=${HEIGHT / 2} y2=${HEIGHT / 2} />
      ${answered.map((run) => html`<path class="area" d=${`${line(run)} L${run.at(-1)[0].toFixed(1)},${HEIGHT} L${run[0][0].toFixed(1)},${HEIGHT} Z`} />`)}
      ${recorded.map((run) => html`<path class="recorded" d=${line(run)} />`)}
      ${decided.map((run) => html`<path class="decided" d=${line(run)} />`)}
    </svg>
    <p class="axis" aria-hidden="true"><span>${words.pulse.ago}</span><span>${words.pulse.now}</span></p>
  </figure>`;
}

/** The stretches in which a side told something: a line across what nobody knows would be made up. */
function runsOf(points, name) {
  const runs = [[]];
  for (const point of points) {
    if (point[name] === null) {
      if (runs.at(-1).length) runs.push([]);
    } else {
      runs.at(-1).push(point);
    }
  }
  return runs.filter((run) => run.length > 1);
}

function line(run) {
  return `M${run.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" L")}`;
}
