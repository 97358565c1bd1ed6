// The system: does it add up, does anything wait for a person, is everybody there.
import { html } from "../vendor/preact.js";
import { ActionButton } from "./form.js";
import { duration, number, useWords } from "./language.js";

export function SystemPanel({ look, audit, act }) {
  const words = useWords();
  const parked = look.parked.reduce((sum, each) => sum + each.count, 0);
  return html`<section class="card" aria-labelledby="system-title">
    <h2 id="system-title">${words.system.title}</h2>
    <ul class="plain">
      <li>
        <span>${words.system.audit}</span>
        <${Light} tone=${audit ? (audit.ok ? "good" : "bad") : "calm"}
          text=${audit ? (audit.ok ? words.system.auditOk : words.system.auditBad) : words.system.auditNone} />
      </li>
      ${audit && !audit.ok && audit.checks.filter((check) => !check.ok).map(
        (check) => html`<li key=${check.name} class="detail bad"><span>${check.name}: ${String(check.detail)}</span></li>`,
      )}
      <li>
        <span>${words.system.quarantine}</span>
        <${Light} tone=${look.quarantined ? "bad" : "good"} text=${number(words, look.quarantined)} />
      </li>
      <li>
        <span>${words.system.parked}</span>
        <${Light} tone=${parked ? "warn" : "good"} text=${number(words, parked)} />
      </li>
      ${look.parked.map(
        (each) => html`<li key=${each.kind} class="detail">
          <span>${words.system.followups[each.kind] ?? each.kind} ${number(words, each.count)} <span class="hint">${each.lastError}</span></span>
        </li>`,
      )}
      ${parked > 0 && html`<li class="detail">
        <${ActionButton} onPress=${() => act("POST", "/api/v1/admin/followups/requeue", undefined, words.system.requeued)}>
          ${words.system.requeue}
        <//>
      </li>`}
    </ul>
    <${Lanes} lanes=${look.lanes} />
    <${Processes} processes=${look.processes} />
  </section>`;
}

function Light({ tone, text }) {
  return html`<span class=${`light ${tone}`}><span class="dot" aria-hidden="true"></span>${text}</span>`;
}

function Lanes({ lanes }) {
  const words = useWords();
  if (lanes.length === 0) return html`<h3>${words.system.lanes}</h3><p class="empty">${words.system.lanesAway}</p>`;
  const state = (lane) =>
    lane.ready ? ["good", words.system.laneReady] : lane.open ? ["warn", words.system.laneUnverified] : ["bad", words.system.laneClosed];
  return html`<div class="scroll" tabindex=${lanes.length > 8 ? 0 : undefined}>
    <table>
      <thead>
        <tr>
          <th scope="col">${words.system.lane}</th>
          <th scope="col">${words.system.state}</th>
          <th scope="col" class="end">${words.system.epoch}</th>
          <th scope="col" class="end">${words.system.backlog}</th>
          <th scope="col" class="end">${words.pulse.lag}</th>
        </tr>
      </thead>
      <tbody>
        ${lanes.map((lane) => {
          const [tone, text] = state(lane);
          return html`<tr key=${lane.lane}>
            <th scope="row" class="tabular">${lane.lane}</th>
            <td><${Light} tone=${tone} text=${text} /></td>
            <td class="end">${number(words, lane.epoch)}</td>
            <td class="end">${number(words, lane.backlog)}</td>
            <td class="end">${duration(words, lane.lagMs ?? 0)}</td>
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

function Processes({ processes }) {
  const words = useWords();
  return html`<h3>${words.system.processes}</h3>
    ${processes.length === 0 && html`<p class="empty">${words.system.noProcesses}</p>`}
    <ul class="plain">
      ${processes.map(
        (each) => html`<li key=${`${each.kind} ${each.name}`}>
          <span>${words.system.kinds[each.kind] ?? each.kind} <span class="hint tabular">${each.name}</span></span>
          <${Light} tone=${each.alive ? "good" : "bad"}
            text=${each.alive ? words.system.alive : words.system.silent(Math.round(each.silentSeconds))} />
        </li>`,
      )}
    </ul>`;
}
