// The console: one look a second at the whole system, shown; and the few things an operator does about it.
import { html, render, useCallback, useEffect, useRef, useState } from "./vendor/preact.js";
import { ask, AWAY, forgetToken, UNAUTHORISED } from "./console/api.js";
import { CouponsPanel } from "./console/coupons.js";
import { Header } from "./console/header.js";
import { chooseLanguage, chosenLanguage, LanguageContext, wordsOf } from "./console/language.js";
import { ProductsPanel } from "./console/products.js";
import { PulsePanel } from "./console/pulse.js";
import { RushPanel } from "./console/rush.js";
import { Series } from "./console/series.js";
import { TokenForm } from "./console/token.js";
import { PopularPanel, RefusalsPanel, WinnersPanel } from "./console/crowd.js";
import { SystemPanel } from "./console/system.js";

const CALM_MS = 1000;
const RUSH_MS = 500;
const AUDIT_MS = 30_000;
const TOAST_MS = 6000;

function App() {
  const [language, setLanguage] = useState(chosenLanguage);
  const [look, setLook] = useState(null);
  const [trouble, setTrouble] = useState(null);
  const [audit, setAudit] = useState(null);
  const [toast, setToast] = useState(null);
  const series = useRef(null);
  series.current ??= new Series();
  const words = wordsOf(language);

  useEffect(() => {
    document.documentElement.lang = language;
    document.title = words.title;
  }, [language]);
  const choose = useCallback((other) => (chooseLanguage(other), setLanguage(other)), []);

  useEffect(() => {
    if (!toast) return undefined;
    const timer = setTimeout(() => setToast(null), TOAST_MS);
    return () => clearTimeout(timer);
  }, [toast]);

  const needsToken = trouble === UNAUTHORISED;
  usePolling(async () => {
    const answer = await ask("GET", "/api/v1/admin/console", { language });
    if (answer.ok) {
      if (series.current.add(answer.body)) setLook(answer.body);
      setTrouble(null);
    } else {
      setTrouble(answer.trouble === UNAUTHORISED ? UNAUTHORISED : AWAY);
    }
    return series.current.isMoving() ? RUSH_MS : CALM_MS;
  }, [language, needsToken]);

  usePolling(async () => {
    const answer = await ask("GET", "/api/v1/admin/audit", { language, patienceMs: 20_000 });
    setAudit(answer.ok ? answer.body : null);
    return AUDIT_MS;
  }, [language, needsToken]);

  // Every action of the page goes through here: one place that says how it ended, for eyes and ears.
  const act = useCallback(
    async (method, path, body, done) => {
      const answer = await ask(method, path, { body, language });
      setToast(answer.ok ? { text: done, ok: true } : { text: answer.message ?? words.away, ok: false });
      return answer.ok;
    },
    [language],
  );

  if (needsToken) {
    return html`<${LanguageContext.Provider} value=${words}>
      <${Header} look=${null} trouble=${trouble} language=${language} onLanguage=${choose} />
      <main><${TokenForm} onToken=${() => setTrouble(null)} /></main>
    <//>`;
  }
  return html`<${LanguageContext.Provider} value=${words}>
    <a class="skip" href="#main">${words.skip}</a>
    <${Header}
      look=${look}
      trouble=${trouble}
      language=${language}
      onLanguage=${choose}
      onForgetToken=${() => (forgetToken(), setTrouble(UNAUTHORISED))}
    />
    <main id="main" class=${trouble ? "stale" : ""} tabindex="-1">
      ${look ? html`<${Panels} look=${look} audit=${audit} series=${series.current} act=${act} />` : html`<${Waiting} trouble=${trouble} />`}
    </main>
    <div class="toasts" role="status" aria-live="polite">
      ${toast && html`<p class=${`toast ${toast.ok ? "" : "bad"}`}>${toast.text}</p>`}
    </div>
  <//>`;
}

function Panels({ look, audit, series, act }) {
  return html`
    ${look.demo && html`<${RushPanel} rush=${look.rush} coupons=${look.coupons} act=${act} />`}
    <${PulsePanel} look=${look} series=${series} />
    <div class="columns">
      <div class="column wide">
        <${CouponsPanel} coupons=${look.coupons} act=${act} />
        <${ProductsPanel} products=${look.products} act=${act} />
        <${PopularPanel} products=${look.popularProducts} />
      </div>
      <div class="column">
        <${WinnersPanel} winners=${look.winners} coupons=${look.coupons} />
        <${RefusalsPanel} refusals=${look.refusals} />
        <${SystemPanel} look=${look} audit=${audit} act=${act} />
      </div>
    </div>
  `;
}

function Waiting({ trouble }) {
  const words = wordsOf(document.documentElement.lang);
  return html`<section class="card empty" aria-busy=${!trouble}>
    <p>${trouble ? words.awayLong : words.loading}</p>
  </section>`;
}

/** Runs `work`, then again after the milliseconds it answers with; not while nobody sees the page. */
function usePolling(work, dependencies) {
  const current = useRef(work);
  current.current = work;
  useEffect(() => {
    let timer;
    let ended = false;
    let working = false;
    const run = async () => {
      if (working || document.hidden) return;
      clearTimeout(timer);
      working = true;
      const pause = await current.current();
      working = false;
      if (!ended) timer = setTimeout(run, pause);
    };
    const seen = () => {
      if (!document.hidden) run();
    };
    document.addEventListener("visibilitychange", seen);
    run();
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, dependencies);
}

render(html`<${App} />`, document.getElementById("console"));
