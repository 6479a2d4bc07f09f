/** The modules that need no browser. What they must give lies in the folder of CASES: test_modules.py makes it. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { readLabels } from "../../tflite/web/labels.js";
import { evaluationPixels, resize } from "../../tflite/web/pixels.js";
import { best, median } from "../../tflite/web/ranking.js";

const read = (name) => new Uint8Array(readFileSync(`${process.env.CASES}/${name}`));
const cases = JSON.parse(readFileSync(`${process.env.CASES}/cases.json`));

for (const { name, width, height, to } of cases.resized) {
  test(`resizes ${name} as Pillow does`, () => {
    const resized = resize({ width, height, rgb: read(`${name}.rgb`) }, to.width, to.height);
    assert.deepEqual(resized, { ...to, rgb: read(`${name}.resized.rgb`) });
  });
}

for (const { name, width, height, to, cropFraction } of cases.cropped) {
  test(`sees ${name} as evaluation does`, () => {
    const seen = evaluationPixels({ width, height, rgb: read(`${name}.rgb`) }, { ...to, cropFraction });
    assert.deepEqual(seen, { ...to, rgb: read(`${name}.cropped.rgb`) });
  });
}

for (const { name, labels, error } of cases.labels) {
  test(`reads the labels of a file with ${name}`, () => {
    const content = read(`${name}.tflite`);
    if (error === undefined) {
      assert.deepEqual(readLabels(content), labels);
    } else {
      assert.throws(() => readLabels(content), new Error(`its labels cannot be read: ${error}`));
    }
  });
}

test("reads labels from the middle of a buffer", () => {
  const { name, labels } = cases.labels[0];
  const content = read(`${name}.tflite`);
  const larger = new Uint8Array(content.length + 20);
  larger.set(content, 7);
  assert.deepEqual(readLabels(larger.subarray(7, 7 + content.length)), labels);
});

test("puts the best classes first, and of equal ones the earlier", () => {
  const scores = Float32Array.of(0.1, 0.4, 0.1, 0.4, 0);
  assert.deepEqual(best(scores, 3), [1, 3, 0]);
  assert.deepEqual(best(scores, 9), [1, 3, 0, 2, 4]);
});

test("finds the middle of times", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([9, 1, 5, 2]), 3.5);
});
