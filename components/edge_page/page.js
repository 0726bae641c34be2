// The page: a field for each input, and the answer below. When all is loaded, the page may ask nobody any more.

import { load } from "./model.js";

const form = document.querySelector("form"), fields = document.getElementById("fields");
const state = document.getElementById("state"), answer = document.getElementById("answer");
const make = (name, parent, facts = {}) => { const node = Object.assign(document.createElement(name), facts); parent.append(node); return node; };

// A policy more, which the browser holds the page to from here on: no request, wherever to.
function forbidRequests() {
  make("meta", document.head, { httpEquiv: "Content-Security-Policy", content: "default-src 'none'; form-action 'none'; base-uri 'none'" });
}

const readers = {};

function field(name, kind, value) {
  const width = Number(/\[(\d+)\]$/.exec(kind)?.[1] ?? 1), side = Math.sqrt(width);
  const drawn = width > 15 && Number.isInteger(side), label = make(drawn ? "div" : "label", fields);
  make("span", label, { textContent: name });
  if (drawn) return picture(name, label, value, side);
  if (width > 1) {
    const input = make("textarea", label, { name, rows: 3, value: value?.join(", ") ?? "" });
    readers[name] = () => (input.value.trim() ? input.value.split(",").map(number) : null);
    return;
  }
  const shown = value === null ? "" : String(value);
  const input = make("input", label, { name, value: shown, inputMode: kind === "string" ? "text" : "decimal", autocomplete: "off" });
  readers[name] = () => (kind === "string" ? input.value || null : number(input.value));
}

const number = text => (text.trim() === "" ? null : Number(text));

// An array whose numbers make a square is drawn: the pointer brings ink, and with the other button, or Shift, paper.
function picture(name, label, value, side) {
  const most = Math.max(...(value ?? [1]), 1), cells = [], ink = value?.map(one => one ?? 0) ?? Array(side * side).fill(0);
  const board = make("div", label, { className: "picture", role: "img", ariaLabel: name });
  board.style.gridTemplateColumns = `repeat(${side}, 1fr)`;
  const paint = place => { cells[place].style.setProperty("--share", ink[place] / most); };
  const dab = event => {
    const place = cells.indexOf(document.elementFromPoint(event.clientX, event.clientY));
    if (place < 0 || !event.buttons) return;
    ink[place] = event.shiftKey || event.buttons === 2 ? 0 : most;
    for (const next of [place - 1, place + 1, place - side, place + side]) {
      if (!event.shiftKey && event.buttons === 1 && next in ink && Math.abs((next % side) - (place % side)) < 2) ink[next] = Math.max(ink[next], most / 4);
    }
    ink.forEach((_, one) => paint(one));
    show();
  };
  ink.forEach((_, place) => { cells.push(make("i", board)); paint(place); });
  board.addEventListener("pointerdown", event => { event.preventDefault(); dab(event); });
  board.addEventListener("pointermove", dab);
  board.addEventListener("contextmenu", event => event.preventDefault());
  const clear = make("button", form.firstElementChild, { type: "button", textContent: "Clear" });
  clear.onclick = () => { ink.fill(0); ink.forEach((_, one) => paint(one)); show(); };
  readers[name] = () => ink.slice();
}

let model;

async function show() {
  try {
    const row = Object.fromEntries(Object.entries(readers).map(([name, read]) => [name, read()]));
    const begun = performance.now(), [said] = await model.predict([row]), took = performance.now() - begun;
    answer.replaceChildren();
    const chances = said.probabilities ?? (said.probability === undefined ? {} : { 1: said.probability, 0: 1 - said.probability });
    make("strong", answer, { textContent: String(said.label ?? said.value) });
    const list = make("dl", answer);
    for (const [name, chance] of Object.entries(chances).sort((one, other) => other[1] - one[1]).slice(0, 5)) {
      make("dt", list, { textContent: name });
      const bar = make("dd", list);
      bar.style.setProperty("--share", chance);
      make("span", bar, { textContent: chance.toFixed(4) });
    }
    make("small", answer, { textContent: `${took.toFixed(2)} ms on this device` });
  } catch (error) {
    answer.replaceChildren();
    make("p", answer, { className: "bad", textContent: error.message });
  }
}

// Of the release's own answer and this device's: the largest difference.
function apart(one, other) {
  if (typeof one === "number") return Math.abs(one - other) / (model.card.task === "regression" ? Math.max(1, Math.abs(one)) : 1);
  if (typeof one === "string") return one === other ? 0 : 1;
  return Math.max(...Object.keys(one).map(name => apart(one[name], other[name])));
}

try {
  model = await load();
  for (const [name, kind] of Object.entries(model.card.features)) field(name, kind, model.card.example[name]);
  const [said] = await model.predict([model.card.example]);
  forbidRequests();
  state.textContent = `Loaded; from here on this page asks nobody for anything. The example's answer is off the release's own by ${apart(model.card.answer, said).toExponential(1)}.`;
  form.hidden = false;
  form.addEventListener("submit", event => { event.preventDefault(); show(); });
  window.model = model; // to try it in the console
  await show();
  document.body.dataset.ready = "yes";
} catch (error) {
  state.textContent = error.message;
  state.className = "bad";
}
