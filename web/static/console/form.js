// Forms: labelled fields, a dialog to put them in, and numbers that are numbers.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { useWords } from "./language.js";

let fields = 0;

/** `initial` is what the field holds at first. Not `value`: that would take back what is typed, with every look. */
export function Field({ label, name, hint, initial, ...input }) {
  const id = useRef(null);
  id.current ??= `field-${++fields}`;
  return html`<div class="field">
    <label for=${id.current}>${label}</label>
    <input id=${id.current} name=${name} defaultValue=${initial} autocomplete="off" aria-describedby=${hint ? `${id.current}-hint` : undefined} ...${input} />
    ${hint && html`<p id=${`${id.current}-hint`} class="hint">${hint}</p>`}
  </div>`;
}

export function Choice({ label, name, initial, options }) {
  const id = useRef(null);
  const select = useRef(null);
  id.current ??= `field-${++fields}`;
  useEffect(() => {
    select.current.value = initial;
  }, []);
  return html`<div class="field">
    <label for=${id.current}>${label}</label>
    <select id=${id.current} ref=${select} name=${name}>
      ${options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
    </select>
  </div>`;
}

export function NumberField(props) {
  return html`<${Field} type="number" inputmode="numeric" step="1" required ...${props} />`;
}

/** What a form holds, numbers as numbers, empty fields left out. */
export function valuesOf(form) {
  const values = {};
  for (const input of form.elements) {
    if (!input.name || input.value === "") continue;
    values[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  return values;
}

/** A form that sends once at a time; `onSend(values)` answers whether it went well. */
export function Form({ onSend, children, ...rest }) {
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    await onSend(valuesOf(event.currentTarget));
    setBusy(false);
  };
  return html`<form onSubmit=${submit} aria-busy=${busy} ...${rest}>${children}</form>`;
}

/** A modal dialog: the browser keeps the focus in it, Escape closes it, and the focus returns where it was. */
export function Dialog({ title, onClose, children }) {
  const words = useWords();
  const dialog = useRef(null);
  const id = useRef(null);
  id.current ??= `dialog-${++fields}`;
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby=${id.current} onClose=${onClose}>
    <header class="dialog-head">
      <h2 id=${id.current}>${title}</h2>
      <button type="button" class="quiet" onClick=${() => dialog.current.close()}>${words.cancel}</button>
    </header>
    ${children}
  </dialog>`;
}

/** A button that does one thing and cannot be pressed again before it is done. */
export function ActionButton({ onPress, children, ...rest }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    if (busy) return;
    setBusy(true);
    await onPress();
    setBusy(false);
  };
  return html`<button type="button" aria-disabled=${busy} onClick=${press} ...${rest}>${children}</button>`;
}
