/** The page: what the visitor does, and what it shows of that. */

import { Model, loadRuntime, time } from "./model.js";
import { keepForOffline } from "./offline.js";
import { readPicture, readRawPixels, takePicture } from "./picture.js";
import { evaluationPixels } from "./pixels.js";
import { setUpCamera } from "./camera.js";
import { addExample, element, modelProblem, pictureProblem, say, showModels, showPicture, showScores, showTimes } from "./view.js";

const TITLES = {
  "model.tflite": "Deployed, int8",
  "model_plain.tflite": "Plain conversion",
  "model_float32.tflite": "Deployed, float32",
};
const IDLE = "No model can be run.";
const TIMING = { seconds: 1, least: 5, most: 25 }; // runs

const models = [];
let cropFraction;
let standing = "Ready: choose a picture, drop one, or use the camera."; // what is so until a picture changes it
let lastTurn = 0;
let work = Promise.resolve(); // one picture after the other: they are timed

start().catch((error) => {
  modelProblem(error.message);
  say(IDLE);
});

async function start() {
  const manifest = JSON.parse(new TextDecoder().decode(await bundled("manifest.json")));
  element("name").textContent = document.title = manifest.name;
  cropFraction = manifest.crop_fraction;
  await loadRuntime();
  for (const [name, title] of Object.entries(TITLES)) {
    await add(name, title).catch((error) => modelProblem(error.message));
  }
  if (models.length === 0) {
    say(IDLE);
    return;
  }
  showModels(models);
  listen();
  await showExamples(manifest.goldens ?? []);
  say(standing);
  const kept = await keepForOffline();
  element("offline").textContent = kept ? "Everything is loaded: the page now works without a network." : "";
}

/** Return a file of the bundle, or null where it is missing and `optional`. */
async function bundled(name, { optional = false } = {}) {
  const response = await fetch(`bundle/${name}`);
  if (response.ok) {
    return new Uint8Array(await response.arrayBuffer());
  }
  if (optional && response.status === 404) {
    return null;
  }
  throw new Error(`${name}: cannot be loaded (HTTP status ${response.status})`);
}

async function add(name, title) {
  say(`Loading ${name} …`);
  const content = await bundled(name, { optional: name !== "model.tflite" });
  if (content === null) {
    return;
  }
  const model = await Model.open(name, content);
  const [first = model] = models;
  if (model.height !== first.height || model.width !== first.width || model.classes !== first.classes) {
    throw new Error(`${name}: takes or gives other sizes than ${first.name}`);
  }
  await model.run({ rgb: new Uint8Array(3 * model.height * model.width) }); // once in vain: what is wrong shows now
  if (model.labels === null) {
    modelProblem(`${name}: holds no labels, so its classes are shown by number.`);
  }
  models.push(Object.assign(model, { title }));
}

function listen() {
  const input = element("file");
  element("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    open(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dragging", kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => open(event.dataTransfer.files[0]));
  setUpCamera((video) => classify("the camera's picture", takePicture(video)));
  element("choose").disabled = element("start-camera").disabled = false;
}

/** Classify a file that was chosen or dropped; no file is no mistake. */
async function open(file) {
  if (file === undefined) {
    return;
  }
  const turn = ++lastTurn;
  say(`Reading ${file.name} …`);
  try {
    const raw = file.name.endsWith(".rgb");
    const { height, width } = models[0];
    const { picture, transparent = false } = raw
      ? { picture: await readRawPixels(file, height, width) }
      : await readPicture(file);
    if (turn === lastTurn) {
      const note = transparent ? `${file.name}: transparent in places, where its colors are not exact.` : "";
      await classify(file.name, picture, { raw, note });
    }
  } catch (error) {
    fail(`${file.name}: ${error.message}.`);
  }
}

/** Run all models on a picture, unless another one has come meanwhile. */
function classify(name, picture, { raw = false, note = "" } = {}) {
  const turn = ++lastTurn;
  work = work.then(async () => {
    if (turn !== lastTurn) {
      return;
    }
    try {
      await run(name, picture, raw);
      pictureProblem(note);
    } catch (error) {
      fail(`${error.message}.`);
    }
  });
  return work;
}

async function run(name, picture, raw) {
  const { height, width } = models[0];
  const seen = raw ? picture : evaluationPixels(picture, { height, width, cropFraction });
  showPicture(name, picture, seen);
  const scores = [];
  for (const model of models) {
    scores.push((await model.run(seen)).probabilities);
  }
  const summary = showScores(models, scores);
  standing = `${name}: ${summary}`;
  say(`${standing}. Timing …`);
  showTimes(models, await time(models, seen, TIMING));
  say(standing);
}

/** Say what is wrong with a picture; the last result stays. */
function fail(message) {
  say(standing);
  pictureProblem(message);
}

async function showExamples(goldens) {
  const { height, width } = models[0];
  for (const [i, golden] of goldens.entries()) {
    const pixels = await readRawPixels(new Blob([await bundled(golden.image)]), height, width);
    const name = `example ${i + 1} (${golden.label})`;
    addExample(golden.label, pixels, () => classify(name, pixels, { raw: true }));
  }
}
