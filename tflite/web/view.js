/** What the page shows. Names from outside reach it as text only. */

import { draw } from "./picture.js";
import { best } from "./ranking.js";

const ROWS = 5;

export const element = (id) => document.getElementById(id);

/** Say what goes on; screen readers read it aloud. */
export function say(text) {
  element("status").textContent = text;
}

/** Say what is wrong with a model; that stays. */
export function modelProblem(text) {
  const line = document.createElement("p");
  line.className = "problem";
  line.textContent = text;
  element("model-problems").append(line);
}

/** Say what is wrong with the last picture or the camera; an empty text says that nothing is. */
export function pictureProblem(text) {
  element("picture-problem").textContent = text;
}

/** Make a card for every model. */
export function showModels(models) {
  const [{ height, width, classes }] = models;
  element("facts").textContent = `${classes} classes, ${width} × ${height} pixels. No picture leaves this device.`;
  element("results").replaceChildren(
    ...models.map((model) => {
      const card = element("card").content.cloneNode(true);
      card.querySelector("h3").textContent = model.title;
      card.querySelector(".file").textContent = `${model.name} · ${(model.bytes / 1e6).toFixed(1)} MB`;
      return card;
    }),
  );
}

/** Add a picture that a click classifies. */
export function addExample(label, picture, classify) {
  const [item, button, canvas] = ["li", "button", "canvas"].map((tag) => document.createElement(tag));
  button.type = "button";
  button.addEventListener("click", classify);
  canvas.setAttribute("aria-hidden", "true");
  draw(picture, canvas);
  button.append(canvas, label);
  item.append(button);
  element("examples").append(item);
  element("examples-title").hidden = false;
}

/** Show a picture, and the part of it that the models see. */
export function showPicture(name, picture, seen) {
  draw(picture, element("picture"));
  draw(seen, element("crop"));
  element("picture").setAttribute("aria-label", name);
  element("seen-text").textContent = `What the model sees: ${seen.width} × ${seen.height} pixels of the centre.`;
  element("picture").hidden = element("seen").hidden = false;
  element("hint").hidden = true;
}

/** Show the best classes of every model, and return those of the first in words. */
export function showScores(models, scores) {
  const cards = element("results").children;
  for (const [i, model] of models.entries()) {
    cards[i].querySelector("ol").replaceChildren(...best(scores[i], ROWS).map((row) => line(model, row, scores[i])));
    cards[i].querySelector(".time").textContent = "";
  }
  const [top] = best(scores[0], 1);
  return `${label(models[0], top)}, ${percent(scores[0][top])}`;
}

function line(model, index, scores) {
  const row = element("row").content.cloneNode(true);
  row.querySelector(".label").textContent = label(model, index);
  row.querySelector(".percent").textContent = percent(scores[index]);
  row.querySelector(".bar span").style.width = `${100 * scores[index]}%`;
  return row;
}

/** Show the median times of the models, and how they compare with the plain file of the same kind. */
export function showTimes(models, { runs, milliseconds }) {
  const cards = element("results").children;
  const plain = models.findIndex((model) => model.name === "model_plain.tflite");
  for (const [i, model] of models.entries()) {
    const [value, ratio] = ["strong", "span"].map((tag) => document.createElement(tag));
    value.textContent = milliseconds[i].toFixed(milliseconds[i] < 10 ? 2 : 1);
    if (plain >= 0 && i !== plain && model.inputType === models[plain].inputType) {
      ratio.textContent = `${(milliseconds[plain] / milliseconds[i]).toFixed(1)} × as fast as plain`;
    }
    cards[i].querySelector(".time").replaceChildren(value, " ms", ratio);
  }
  element("method").textContent = `Median of ${runs} runs on one thread, the files in turns.`;
  element("method").hidden = false;
}

function label(model, index) {
  return model.labels === null ? `class ${index}` : model.labels[index];
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}
