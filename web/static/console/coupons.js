// The coupons: how far each is, and opening, pausing, adding, offering.
import { html, useState } from "../vendor/preact.js";
import { ActionButton, Dialog, Field, Form, NumberField } from "./form.js";
import { number, useWords } from "./language.js";

const COUPONS = "/api/v1/admin/coupons";

export function CouponsPanel({ coupons, act }) {
  const words = useWords();
  const [dialog, setDialog] = useState(null);
  const close = () => setDialog(null);
  const create = async (values) => (await act("POST", COUPONS, values, words.coupons.created)) && close();
  const add = async ({ addQuantity }) =>
    (await act("PATCH", `${COUPONS}/${dialog.id}`, { addQuantity }, words.coupons.added)) && close();
  return html`<section class="card" aria-labelledby="coupons-title">
    <div class="card-head">
      <h2 id="coupons-title">${words.coupons.title}</h2>
      <button type="button" onClick=${() => setDialog("new")}>${words.coupons.add}</button>
    </div>
    ${coupons.length === 0 && html`<p class="empty">${words.coupons.none}</p>`}
    <ul class="coupons">
      ${coupons.map((coupon) => html`<${Coupon} key=${coupon.id} coupon=${coupon} act=${act} onAdd=${() => setDialog(coupon)} />`)}
    </ul>
    ${dialog === "new" &&
    html`<${Dialog} title=${words.coupons.create} onClose=${close}>
      <${Form} onSend=${create}>
        <${Field} label=${words.coupons.name} name="name" required maxlength="100" />
        <${NumberField} label=${words.coupons.discount} name="discountAmount" min="1" max="100000000" initial="5000" />
        <${NumberField} label=${words.coupons.total} name="totalQuantity" min="1" max="10000000" initial="1000" />
        <button class="primary">${words.coupons.create}</button>
      <//>
    <//>`}
    ${dialog?.id &&
    html`<${Dialog} title=${words.coupons.moreTitle(dialog.name)} onClose=${close}>
      <${Form} onSend=${add}>
        <${NumberField} label=${words.coupons.moreLabel} name="addQuantity" min="1" max="10000000" initial="100" />
        <button class="primary">${words.coupons.more}</button>
      <//>
    <//>`}
  </section>`;
}

function Coupon({ coupon, act, onAdd }) {
  const words = useWords();
  const active = coupon.status === "ACTIVE";
  const soldOut = active && coupon.remaining === 0;
  const toggle = () =>
    act(
      "PATCH",
      `${COUPONS}/${coupon.id}`,
      { status: active ? "INACTIVE" : "ACTIVE" },
      active ? words.coupons.pausedNow : words.coupons.resumedNow,
    );
  const state = soldOut ? words.coupons.soldOut : active ? words.coupons.open : words.coupons.paused;
  return html`<li>
    <div class="coupon-head">
      <h3>${coupon.name} <span class="muted tabular">#${coupon.id}</span></h3>
      <span class=${`badge ${soldOut ? "" : active ? "good" : "warn"}`}>${state}</span>
    </div>
    <progress value=${coupon.issued} max=${coupon.totalQuantity} aria-label=${`${coupon.name} · ${words.coupons.issued}`}></progress>
    <div class="coupon-foot">
      <dl class="counts">
        <div><dt>${words.coupons.issued}</dt><dd>${words.coupons.of(number(words, coupon.issued), number(words, coupon.totalQuantity))}</dd></div>
        <div><dt>${words.coupons.remaining}</dt><dd>${number(words, coupon.remaining)}</dd></div>
        <div><dt>${words.coupons.pending}</dt><dd>${number(words, coupon.pending)}</dd></div>
      </dl>
      <div class="actions">
        <${ActionButton} onPress=${toggle} aria-label=${`${active ? words.coupons.pause : words.coupons.resume}: ${coupon.name}`}>
          ${active ? words.coupons.pause : words.coupons.resume}
        <//>
        <button type="button" onClick=${onAdd} aria-label=${`${words.coupons.more}: ${coupon.name}`}>${words.coupons.more}</button>
      </div>
    </div>
  </li>`;
}
