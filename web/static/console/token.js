// Where a token is asked for. It goes to sessionStorage and nowhere else.
import { html } from "../vendor/preact.js";
import { keepToken } from "./api.js";
import { Field, Form } from "./form.js";
import { useWords } from "./language.js";

export function TokenForm({ onToken }) {
  const words = useWords();
  const enter = async ({ token }) => {
    keepToken(token.trim());
    onToken();
  };
  return html`<section class="card narrow" aria-labelledby="token-title">
    <h2 id="token-title">${words.token.title}</h2>
    <${Form} onSend=${enter}>
      <${Field} label=${words.token.label} name="token" type="password" required hint=${words.token.hint} />
      <button class="primary">${words.token.submit}</button>
    <//>
  </section>`;
}
