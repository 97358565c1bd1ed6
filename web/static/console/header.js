// Who we are and how the shop stands: the one verdict that is read aloud when it changes.
import { html } from "../vendor/preact.js";
import { AWAY, hasToken, UNAUTHORISED } from "./api.js";
import { useWords } from "./language.js";

export function Header({ look, trouble, language, onLanguage, onForgetToken }) {
  const words = useWords();
  const [tone, text] = standing(words, look, trouble);
  return html`<header class="top">
    <div class="brand">
      <h1>${words.name}</h1>
      <p>${words.tagline}</p>
    </div>
    <p class=${`standing ${tone}`} role="status" aria-live="polite">
      <span class="dot" aria-hidden="true"></span>${text}
      ${trouble === AWAY && look && html`<span class="muted"> · ${words.staleNote}</span>`}
    </p>
    <nav class="links">
      ${onForgetToken && hasToken() && html`<button type="button" class="quiet" onClick=${onForgetToken}>${words.forgetToken}</button>`}
      <button
        type="button"
        class="quiet"
        lang=${language === "ko" ? "en" : "ko"}
        aria-label=${words.otherLanguageLabel}
        onClick=${() => onLanguage(language === "ko" ? "en" : "ko")}
      >${words.otherLanguage}</button>
      <a href="/docs" hreflang="en">${words.docs}</a>
    </nav>
  </header>`;
}

function standing(words, look, trouble) {
  if (trouble === UNAUTHORISED) return ["warn", words.status.unauthorised];
  if (trouble) return ["bad", words.away];
  if (!look) return ["calm", words.status.waiting];
  if (!look.gateAnswers) return ["bad", words.status.gateAway];
  if (!look.ready) return ["warn", words.status.closed];
  if (!look.ledgerAnswers) return ["warn", words.status.ledgerAway];
  return ["good", words.status.ready];
}
