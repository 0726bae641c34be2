// The model of this folder, on this device:
//
//   import { load } from "./model.js";
//   const model = await load();
//   const [answer] = await model.predict([{distance: 120.5, city: "north"}]);
//
// `load` asks for the card, the model and onnxruntime-web; `predict` asks for nothing.

const SCRIPT = "ort.wasm.bundle.min.mjs", WASM = "ort-wasm-simd-threaded.wasm";
const PLACES = ["onnxruntime-web/", "node_modules/onnxruntime-web/dist/"];

export async function load(base = new URL(".", import.meta.url)) {
  const card = await (await got(new URL("card.json", base))).json();
  const graph = await (await got(new URL(card.file, base))).arrayBuffer();
  await check(graph, card);
  const ort = await runtime(base);
  const session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
  let turn = Promise.resolve(); // a session answers one question after the other
  return {
    card,
    predict(rows) {
      const answers = turn.then(() => each(rows, row => ask(ort, session, card, row)));
      turn = answers.catch(() => {});
      return answers;
    },
  };
}

async function got(url) {
  const reply = await fetch(url);
  if (!reply.ok) throw new Error(`${url.pathname}: ${reply.status}`);
  return reply;
}

// A model that is not the card's is none of the release's.
async function check(graph, card) {
  if (!globalThis.crypto?.subtle) return; // a page over plain HTTP from elsewhere has none
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", graph));
  const found = Array.from(digest, byte => byte.toString(16).padStart(2, "0")).join("");
  if (found !== card.sha256) throw new Error(`${card.file} is not the card's: its SHA-256 is ${found}`);
}

async function runtime(base) {
  for (const place of PLACES) {
    const url = new URL(place, base);
    const module = await import(new URL(SCRIPT, url)).catch(() => null);
    if (!module) continue;
    module.env.wasm.numThreads = 1; // more want headers that few servers send
    module.env.wasm.wasmPaths = { wasm: new URL(WASM, url).href };
    return module;
  }
  throw new Error("onnxruntime-web is not here. In this folder: npm install onnxruntime-web");
}

async function each(rows, one) {
  const answers = [];
  for (const row of rows) answers.push(await one(row));
  return answers;
}

async function ask(ort, session, card, row) {
  for (const name of Object.keys(row)) {
    if (!(name in card.features)) throw new Error(`unknown column ${name}; accepted: ${Object.keys(card.features).join(", ")}`);
  }
  const feeds = {};
  for (const { name, type, width } of card.inputs) {
    if (!(name in row)) throw new Error(`column ${name} is missing`);
    const values = type === "string" ? [text(name, row[name])] : numbers(name, row[name], card.features[name], width);
    feeds[name] = new ort.Tensor(type, type === "string" ? values : Float32Array.from(values), [1, width]);
  }
  return said(card, await session.run(feeds));
}

// A missing text is the empty one, a missing number is NaN: as the server has it.
function text(name, value) {
  if (value !== null && typeof value !== "string") throw new Error(`${name}: accepted: text, or null`);
  return value ?? "";
}

function numbers(name, value, kind, width) {
  const values = kind.endsWith("]") ? value ?? Array(width).fill(null) : [value];
  const fits = one => one === null || (Number.isFinite(one) && (kind !== "bigint" || Number.isInteger(one)));
  if (!Array.isArray(values) || values.length !== width || !values.every(fits)) {
    const what = kind === "bigint" ? "a whole number" : width > 1 ? `a list of ${width} numbers` : "a number";
    throw new Error(`${name}: accepted: ${what}, or null`);
  }
  return values.map(one => one ?? NaN);
}

function said(card, found) {
  if (card.task === "regression") return { value: found.value.data[0] };
  const label = found.label.data[0], plain = typeof label === "bigint" ? Number(label) : label;
  if (card.task === "binary") return { probability: found.probability.data[0], label: plain };
  const pairs = card.classes.map((name, place) => [name, found.probabilities.data[place]]);
  return { label: plain, probabilities: Object.fromEntries(pairs) };
}
