// The products with their live stock, and what a seller does: prices, stock, charging somebody who paid at the desk.
import { html, useState } from "../vendor/preact.js";
import { Choice, Dialog, Field, Form, NumberField } from "./form.js";
import { number, useWords } from "./language.js";

const PRODUCTS = "/api/v1/admin/products";

export function ProductsPanel({ products, act }) {
  const words = useWords();
  const [dialog, setDialog] = useState(null);
  const close = () => setDialog(null);
  const create = async (values) => (await act("POST", PRODUCTS, values, words.products.created)) && close();
  const change = async (values) => {
    const { price, addStock, status } = values;
    const changes = { price, status, ...(addStock ? { addStock } : {}) };
    return (await act("PATCH", `${PRODUCTS}/${dialog.id}`, changes, words.products.saved)) && close();
  };
  const charge = async ({ userId, amount }) =>
    (await act("POST", `/api/v1/users/${userId}/balance/charge`, { amount }, words.products.charged)) && close();
  return html`<section class="card" aria-labelledby="products-title">
    <div class="card-head">
      <h2 id="products-title">${words.products.title}</h2>
      <div class="actions">
        <button type="button" onClick=${() => setDialog("charge")}>${words.products.charge}</button>
        <button type="button" onClick=${() => setDialog("new")}>${words.products.add}</button>
      </div>
    </div>
    ${products.length === 0
      ? html`<p class="empty">${words.products.none}</p>`
      : html`<${Table} products=${products} onEdit=${setDialog} />`}
    ${dialog === "new" &&
    html`<${Dialog} title=${words.products.add} onClose=${close}>
      <${Form} onSend=${create}>
        <${Field} label=${words.products.name} name="name" required maxlength="100" />
        <${NumberField} label=${words.products.price} name="price" min="1" max="1000000000" />
        <${NumberField} label=${words.products.stock} name="stock" min="0" max="100000000" />
        <button class="primary">${words.products.create}</button>
      <//>
    <//>`}
    ${dialog === "charge" &&
    html`<${Dialog} title=${words.products.chargeTitle} onClose=${close}>
      <${Form} onSend=${charge}>
        <${NumberField} label=${words.products.userId} name="userId" min="1" />
        <${NumberField} label=${words.products.amount} name="amount" min="1" max="100000000" initial="10000" />
        <button class="primary">${words.products.charge}</button>
      <//>
    <//>`}
    ${dialog?.id &&
    html`<${Dialog} title=${words.products.editTitle(dialog.name)} onClose=${close}>
      <${Form} onSend=${change}>
        <${NumberField} label=${words.products.price} name="price" min="1" max="1000000000" initial=${dialog.price} />
        <${NumberField} label=${words.products.addStock} name="addStock" min="0" max="100000000" initial="0" />
        <${Choice}
          label=${words.products.status}
          name="status"
          initial=${dialog.status}
          options=${[["ACTIVE", words.products.onSale], ["INACTIVE", words.products.offSale]]}
        />
        <button class="primary">${words.products.save}</button>
      <//>
    <//>`}
  </section>`;
}

function Table({ products, onEdit }) {
  const words = useWords();
  return html`<table>
    <thead>
      <tr>
        <th scope="col">${words.products.name}</th>
        <th scope="col" class="end">${words.products.price}</th>
        <th scope="col" class="end">${words.products.stock}</th>
        <th scope="col"><span class="hidden">${words.products.edit}</span></th>
      </tr>
    </thead>
    <tbody>
      ${products.map(
        (product) => html`<tr key=${product.id}>
          <th scope="row">
            ${product.name}
            ${product.status === "INACTIVE" && html` <span class="badge warn">${words.products.offSale}</span>`}
          </th>
          <td class="end">${number(words, product.price)}</td>
          <td class=${`end ${product.stock === 0 ? "bad" : ""}`}>${number(words, product.stock)}</td>
          <td class="end">
            <button type="button" class="quiet" aria-label=${words.products.editTitle(product.name)} onClick=${() => onEdit(product)}>
              ${words.products.edit}
            </button>
          </td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}
