/** A `.tflite` in this browser: LiteRT.js on one thread of the CPU. */

import { readLabels } from "./labels.js";
import { median } from "./ranking.js";

const WASM = new URL("node_modules/@litertjs/core/wasm/", import.meta.url).pathname;
const IDENTIFIER = "TFL3"; // bytes 4 to 8 of every .tflite
const INPUTS = { uint8: Uint8Array, float32: Float32Array };
const ROUNDING = 1e-6; // of float32 around 1

let litert;

/** Load LiteRT.js, once. */
export async function loadRuntime() {
  try {
    litert = await import("@litertjs/core");
    await litert.loadLiteRt(WASM);
  } catch (error) {
    throw new Error(`LiteRT.js cannot be loaded (${reason(error)})`);
  }
}

/** A classifier that takes pixels from 0 to 255 and gives probabilities. */
export class Model {
  /**
   * @param {string} name of its file.
   * @param {Uint8Array} content of its file.
   * @throws {Error} for a file that is no such classifier.
   */
  static async open(name, content) {
    if (new TextDecoder("latin1").decode(content.subarray(4, 8)) !== IDENTIFIER) {
      throw new Error(`${name}: not a .tflite file`);
    }
    const compiled = await litert.loadAndCompile(content, { accelerator: "wasm" }).catch((error) => {
      throw new Error(`${name}: LiteRT.js cannot run it (${reason(error)})`);
    });
    try {
      return new Model(name, content, compiled);
    } catch (error) {
      compiled.delete();
      throw new Error(`${name}: ${error.message}`);
    }
  }

  constructor(name, content, compiled) {
    const [input, output] = checkedTensors(compiled);
    [, this.height, this.width] = input.shape;
    [, this.classes] = output.shape;
    this.name = name;
    this.bytes = content.length;
    this.inputType = input.dtype;
    this.labels = readLabels(content);
    if (this.labels !== null && this.labels.length !== this.classes) {
      throw new Error(`${this.labels.length} labels for ${this.classes} classes`);
    }
    this.compiled = compiled;
  }

  /** Return the probabilities of a picture of the model's size, and the milliseconds that they took. */
  async run(picture) {
    const input = new litert.Tensor(INPUTS[this.inputType].from(picture.rgb), [1, this.height, this.width, 3]);
    try {
      const start = performance.now();
      const [output] = await this.compiled.run(input);
      const milliseconds = performance.now() - start;
      const probabilities = output.toTypedArray();
      output.delete();
      return { probabilities: checkedProbabilities(this.name, probabilities), milliseconds };
    } finally {
      input.delete();
    }
  }
}

/**
 * Time models on a picture, in turns: what else the machine does then falls on all of them. They run for so many
 * seconds, but at least and at most as often as told.
 *
 * @returns {Promise<{runs: number, milliseconds: number[]}>} the number of runs of each, and the median of each.
 */
export async function time(models, picture, { seconds, least, most }) {
  const times = models.map(() => []);
  const end = performance.now() + 1000 * seconds;
  let runs = 0;
  while (runs < least || (runs < most && performance.now() < end)) {
    for (const [i, model] of models.entries()) {
      times[i].push((await model.run(picture)).milliseconds);
      await new Promise((resolve) => setTimeout(resolve)); // the page may react
    }
    runs += 1;
  }
  return { runs, milliseconds: times.map(median) };
}

function checkedTensors(compiled) {
  const [inputs, outputs] = [compiled.getInputDetails(), compiled.getOutputDetails()];
  const text = (tensors) => tensors.map((tensor) => `${tensor.dtype} ${[...tensor.shape].join("x")}`).join(", ");
  const [batch, , , channels] = inputs[0].shape;
  const takesPixels = inputs.length === 1 && inputs[0].shape.length === 4 && batch === 1 && channels === 3;
  const gives = outputs.length === 1 && outputs[0].shape.length === 2 && outputs[0].dtype === "float32";
  if (!takesPixels || !(inputs[0].dtype in INPUTS) || !gives) {
    const expected = "uint8 or float32 1xHEIGHTxWIDTHx3 to float32 1xCLASSES; export it with --recipe mobile";
    throw new Error(`maps ${text(inputs)} to ${text(outputs)}, expected ${expected}`);
  }
  return [inputs[0], outputs[0]];
}

function checkedProbabilities(name, scores) {
  if (!scores.every((score) => score >= 0 && score <= 1 + ROUNDING)) {
    throw new Error(`${name}: its outputs are no probabilities; export it with --recipe mobile`);
  }
  return scores;
}

/** Return the message of an error; what is thrown may also be an event, or a number of WebAssembly's. */
function reason(error) {
  return error instanceof Error ? error.message : String(error.type ?? error);
}
