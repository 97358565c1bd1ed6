// What happens to the crowd: who won just now, why others did not, what sells.
import { html } from "../vendor/preact.js";
import { number, useWords } from "./language.js";

export function WinnersPanel({ winners, coupons }) {
  const words = useWords();
  const names = new Map(coupons.map((coupon) => [coupon.id, coupon.name]));
  return html`<section class="card" aria-labelledby="winners-title">
    <h2 id="winners-title">${words.winners.title}</h2>
    ${winners.length === 0
      ? html`<p class="empty">${words.winners.none}</p>`
      : html`<ol class="winners">
          ${winners.map(
            (winner) => html`<li key=${`${winner.couponId}.${winner.sequence}`}>
              <span class="place" aria-label=${`${words.winners.place} ${winner.sequence}`}>${number(words, winner.sequence)}</span>
              <span class="who">
                <span>${words.winners.user} <span class="tabular">${winner.userId}</span></span>
                <span class="hint">${names.get(winner.couponId) ?? `#${winner.couponId}`}</span>
              </span>
              <span class=${`badge ${winner.durable ? "good" : ""}`}>${winner.durable ? words.winners.durable : words.winners.pending}</span>
            </li>`,
          )}
        </ol>`}
  </section>`;
}

export function RefusalsPanel({ refusals }) {
  const words = useWords();
  const named = refusals.map((each) => ({ ...each, key: each.reason ? `${each.code}:${each.reason}` : each.code }));
  named.sort((one, other) => other.count - one.count || one.key.localeCompare(other.key));
  const most = named[0]?.count ?? 1;
  return html`<section class="card" aria-labelledby="refusals-title">
    <h2 id="refusals-title">${words.refusals.title}</h2>
    ${named.length === 0
      ? html`<p class="empty">${words.refusals.none}</p>`
      : html`<ul class="bars">
          ${named.map(
            (each) => html`<li key=${each.key}>
              <p><span>${words.refusals.codes[each.key] ?? each.key}</span><span class="tabular">${number(words, each.count)}</span></p>
              <progress class="quiet" value=${each.count} max=${most} aria-hidden="true"></progress>
            </li>`,
          )}
        </ul>`}
  </section>`;
}

export function PopularPanel({ products }) {
  const words = useWords();
  return html`<section class="card" aria-labelledby="popular-title">
    <h2 id="popular-title">${words.popular.title} <span class="hint">${words.popular.hint}</span></h2>
    ${products.length === 0
      ? html`<p class="empty">${words.popular.none}</p>`
      : html`<ol class="plain">
          ${products.map(
            (product) => html`<li key=${product.productId}>
              <span>${product.name}</span><span class="tabular">${words.popular.sold(number(words, product.totalSales))}</span>
            </li>`,
          )}
        </ol>`}
  </section>`;
}
