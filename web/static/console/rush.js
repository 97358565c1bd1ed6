// The demo: a crowd let loose from the page, broken into on request, judged at the end.
import { html } from "../vendor/preact.js";
import { ActionButton, Form, NumberField } from "./form.js";
import { number, useWords } from "./language.js";

const DEMO = "/api/v1/admin/demo";
const FINAL = new Set(["done", "failed"]);

export function RushPanel({ rush, coupons, act }) {
  const words = useWords();
  const running = rush !== null && !FINAL.has(rush.phase);
  const start = async (crowd) => {
    const sent = { ...crowd, requests: Math.max(crowd.requests, crowd.users) };
    await act("POST", `${DEMO}/rush`, sent, words.rush.started);
  };
  const breakIt = (fault, done) => act("POST", `${DEMO}/fault`, { fault }, done);
  return html`<section class="card rush" aria-labelledby="rush-title">
    <div class="rush-start">
      <h2 id="rush-title">${words.rush.title}</h2>
      <p class="muted">${words.rush.invite}</p>
      <${Form} onSend=${start} class="inline">
        <${NumberField} label=${words.rush.users} name="users" min="1" max="50000" initial="5000" />
        <${NumberField} label=${words.rush.requests} name="requests" min="1" max="50000" initial="10000" />
        <${NumberField} label=${words.rush.coupons} name="coupons" min="1" max="10000" initial="1000" />
        <button class="primary" aria-disabled=${running}>${words.rush.start}</button>
      <//>
      <div class="faults" role="group" aria-label=${words.rush.faults}>
        <span class="hint" aria-hidden="true">${words.rush.faults}</span>
        <${ActionButton} onPress=${() => breakIt("kill_worker", words.rush.killed)}>${words.rush.kill}<//>
        <${ActionButton} onPress=${() => breakIt("forget", words.rush.forgot)}>${words.rush.forget}<//>
      </div>
    </div>
    ${rush && html`<${Progress} rush=${rush} coupon=${coupons.find((each) => each.id === rush.couponId)} />`}
  </section>`;
}

function Progress({ rush, coupon }) {
  const words = useWords();
  const due = Math.min(rush.coupons, rush.users);
  // The ledger's own count while the crowd is still asking; what winners were told once they have asked after it.
  const durable = Math.max(rush.confirmed, coupon ? coupon.issued - coupon.pending : 0);
  return html`<div class="rush-progress">
    <${Verdict} rush=${rush} phase=${rush.phase} />
    <${Bar} label=${words.rush.progress} value=${rush.asked} of=${rush.requests} />
    <${Bar} label=${words.rush.confirmedProgress} value=${durable} of=${due} strong />
    <dl class="counts">
      ${["accepted", "refused", "busy", "lost"].map(
        (name) => html`<div key=${name}><dt>${words.rush[name]}</dt><dd>${number(words, rush[name])}</dd></div>`,
      )}
      <div><dt>${words.rush.seconds}</dt><dd>${rush.seconds.toFixed(1)} ${words.secondsUnit}</dd></div>
    </dl>
  </div>`;
}

function Verdict({ rush, phase }) {
  const words = useWords();
  const held = phase === "done" && rush.checks.every((check) => check.ok);
  let title = words.rush.phases[phase];
  if (held) title = words.rush.verdict(number(words, rush.confirmed));
  else if (phase === "done") title = words.rush.failedVerdict;
  else if (phase === "failed") title = words.rush.brokeDown;
  return html`<div class=${`verdict ${held ? "good" : FINAL.has(phase) ? "bad" : ""}`} role="status" aria-live="polite">
    <h3>${title}</h3>
    ${held && html`<p>${words.rush.verdictDetail(number(words, rush.asked), rush.seconds.toFixed(1))}</p>`}
    ${phase === "done" &&
    html`<ul class="checks">
      ${rush.checks.map(
        (check) => html`<li key=${check.name} class=${check.ok ? "good" : "bad"}>
          <span class="mark" aria-hidden="true">${check.ok ? "✓" : "✕"}</span>
          <span class="hidden">${check.ok ? "OK: " : "NO: "}</span>${words.rush.checks[check.name] ?? check.name}
        </li>`,
      )}
    </ul>`}
  </div>`;
}

function Bar({ label, value, of, strong }) {
  const words = useWords();
  return html`<div class="bar-row">
    <p><span>${label}</span><span class="tabular">${number(words, value)} / ${number(words, of)}</span></p>
    <progress class=${strong ? "strong" : ""} value=${Math.min(value, of)} max=${of} aria-label=${label}></progress>
  </div>`;
}
