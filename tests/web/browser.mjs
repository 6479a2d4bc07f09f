/**
 * Does something with the page in headless Chromium: `node browser.mjs SCENARIO`. The options come as JSON on standard
 * input, and what was seen goes as JSON to standard output: test_page.py judges it.
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  ...["--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream"],
];
const WAIT = { timeout: 120_000 };
const AXE = new URL("node_modules/axe-core/axe.min.js", import.meta.url);

const text = (page, id) => page.locator(`#${id}`).textContent();
const ready = (page) => page.waitForFunction(() => /^(Ready|No model)/.test(said()), null, WAIT);
const problems = (page) => page.locator("#model-problems p").allTextContents();
const base64 = (path) => readFileSync(path).toString("base64");

/** Wait until the models have been timed on a picture whose name the status begins with. */
async function classified(page, name) {
  const done = (name) => said().startsWith(name) && !said().endsWith("…");
  await page.waitForFunction(done, name, WAIT);
  return { status: await text(page, "status"), cards: await cards(page) };
}

function cards(page) {
  return page.locator("article").evaluateAll((articles) =>
    articles.map((article) => ({
      title: article.querySelector("h3").textContent,
      file: article.querySelector(".file").textContent,
      time: article.querySelector(".time").innerText,
      rows: [...article.querySelectorAll("li")].map((row) => [
        row.querySelector(".label").textContent,
        row.querySelector(".percent").textContent,
        row.querySelector(".bar span").style.width,
      ]),
    })),
  );
}

const SCENARIOS = {
  /** Read pictures and run models with the page's own modules. */
  async outputs(page, { pictures, models, crop }) {
    await ready(page);
    const read = pictures.map((path) => ({ path, content: base64(path) }));
    return page.evaluate(
      async ({ read, models, crop }) => {
        const [{ Model }, { readPicture }, { evaluationPixels }] = await Promise.all(
          ["model", "picture", "pixels"].map((name) => import(`/${name}.js`)),
        );
        const opened = [];
        for (const name of models) {
          opened.push(await Model.open(name, new Uint8Array(await (await fetch(`/bundle/${name}`)).arrayBuffer())));
        }
        const bytes = (content) => Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        const results = {};
        for (const { path, content } of read) {
          const { picture, transparent } = await readPicture(new Blob([bytes(content)]));
          const seen = evaluationPixels(picture, crop);
          const outputs = {};
          for (const model of opened) {
            outputs[model.name] = [...(await model.run(seen)).probabilities];
          }
          results[path] = { width: picture.width, height: picture.height, rgb: encode(picture.rgb), seen: encode(seen.rgb) };
          Object.assign(results[path], { transparent, outputs });
        }
        return results;

        function encode(rgb) {
          return btoa(Array.from(rgb, (byte) => String.fromCharCode(byte)).join(""));
        }
      },
      { read, models, crop },
    );
  },

  /** Run files that are no classifiers of the page, on raw pixels. */
  async raw(page, { files, pixels, shape }) {
    await ready(page);
    const contents = files.map(base64);
    return page.evaluate(
      async ({ contents, pixels, shape }) => {
        const { loadAndCompile, Tensor } = await import("@litertjs/core");
        const bytes = (content) => Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        const results = [];
        for (const content of contents) {
          const model = await loadAndCompile(bytes(content), { accelerator: "wasm" });
          const kind = model.getInputDetails()[0].dtype === "uint8" ? Uint8Array : Float32Array;
          const outputs = [];
          for (const picture of pixels) {
            const [output] = await model.run(new Tensor(kind.from(bytes(picture)), shape));
            outputs.push([...output.toTypedArray()]);
          }
          results.push(outputs);
        }
        return results;
      },
      { contents, pixels, shape },
    );
  },

  /** Choose a file with the keyboard alone, then the first example. */
  async keyboard(page, { picture, name }) {
    const chooser = page.waitForEvent("filechooser", WAIT); // long before: Chromium must first be told
    await ready(page);
    const order = [];
    for (let i = 0; i < 4; i++) {
      await page.keyboard.press("Tab");
      order.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent));
    }
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    await (await chooser).setFiles(picture);
    const chosen = await classified(page, name);
    const focus = await page.evaluate(() => document.activeElement.id);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    await page.keyboard.press("Space");
    return { order, chosen, focus, outline, example: await classified(page, "example 1") };
  },

  /** Drop one file after the other, and note what the page says. */
  async drop(page, { files }) {
    await ready(page);
    const seen = [];
    for (const path of files) {
      const name = path.split("/").at(-1);
      await page.evaluate(
        ({ name, content }) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        },
        { name, content: base64(path) },
      );
      const settled = (name) => !said().endsWith("…") && (said().startsWith(name) || complaint().startsWith(name));
      await page.waitForFunction(settled, name, WAIT);
      seen.push({ status: await text(page, "status"), problem: await text(page, "picture-problem") });
    }
    return seen;
  },

  /** Load the page, and say what is wrong with the models. */
  async load(page) {
    await ready(page);
    const usable = await page.locator("#choose").isEnabled();
    return { status: await text(page, "status"), problems: await problems(page), usable };
  },

  /** Load the page, and classify an example. */
  async example(page) {
    await ready(page);
    await page.locator("#examples button").first().click();
    return { ...(await classified(page, "example 1")), problems: await problems(page) };
  },

  /** Load the page, then cut it off from the network, and classify a picture after a reload. */
  async offline(page, { picture, name }, context) {
    await ready(page);
    await page.waitForFunction(() => document.getElementById("offline").textContent !== "", null, WAIT);
    const said = await text(page, "offline");
    await context.setOffline(true);
    const reachable = await page.evaluate(() => fetch("/none").then(() => true, () => false));
    await page.reload();
    await ready(page);
    await page.setInputFiles("#file", picture);
    return { said, reachable, ...(await classified(page, name)), problems: await problems(page) };
  },

  /** Load the page until it is kept for offline use, and say what is kept. */
  async visit(page) {
    await ready(page);
    await page.waitForFunction(() => document.getElementById("offline").textContent !== "", null, WAIT);
    return { kept: await page.evaluate(async () => (await (await caches.open("mixnet-tf")).keys()).map((key) => key.url)) };
  },

  /** Take a picture with the camera, and look whether it is off afterwards. */
  async camera(page, { allowed }, context) {
    await context.grantPermissions(allowed ? ["camera"] : []);
    await ready(page);
    await page.click("#start-camera");
    if (!allowed) {
      await page.waitForFunction(() => complaint() !== "", null, WAIT);
      return { problem: await text(page, "picture-problem"), visible: await page.locator("#start-camera").isVisible() };
    }
    await page.waitForSelector("#take:focus", WAIT);
    await page.evaluate(() => (window.track = document.getElementById("camera").srcObject.getTracks()[0]));
    await page.keyboard.press("Enter");
    const result = await classified(page, "the camera's picture");
    return { ...result, track: await page.evaluate(() => window.track.readyState), focus: await page.evaluate(() => document.activeElement.id) };
  },

  /** Audit the page by axe-core at several widths, light and dark, before and after a picture. */
  async audit(page, { widths, folder }) {
    await ready(page);
    const found = {};
    for (const stage of ["empty", "result"]) {
      if (stage === "result") {
        await page.locator("#examples button").first().click();
        await classified(page, "example 1");
      }
      for (const width of widths) {
        for (const colorScheme of ["light", "dark"]) {
          await page.setViewportSize({ width, height: 844 });
          await page.emulateMedia({ colorScheme });
          await page.evaluate(readFileSync(AXE, "utf8"));
          const name = `${stage}-${width}-${colorScheme}`;
          found[name] = await page.evaluate(async () => ({
            violations: (await axe.run()).violations.map(({ id, nodes }) => [id, ...nodes.map((node) => node.html)]),
            overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
            low: [...document.querySelectorAll("button")].filter((b) => b.offsetParent && b.offsetHeight < 44).length,
            background: getComputedStyle(document.body).backgroundColor,
          }));
          if (folder) {
            await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
          }
        }
      }
    }
    return found;
  },

  /** Time the models on an example, each as often as told. */
  async latency(page, { models, runs }) {
    await ready(page);
    return page.evaluate(
      async ({ models, runs }) => {
        const { Model, time } = await import("/model.js");
        const opened = [];
        for (const name of models) {
          opened.push(await Model.open(name, new Uint8Array(await (await fetch(`/bundle/${name}`)).arrayBuffer())));
        }
        const { height, width } = opened[0];
        const rgb = Uint8Array.from({ length: 3 * height * width }, (_, i) => (i * 7919) % 256);
        return time(opened, { height, width, rgb }, { seconds: 0, least: runs, most: runs });
      },
      { models, runs },
    );
  },
};

async function main() {
  const options = JSON.parse(readFileSync(0, "utf8"));
  const profile = options.profile ?? mkdtempSync(join(tmpdir(), "chromium-"));
  const args = [...FLAGS, ...(options.flags ?? [])];
  const settings = { executablePath: options.chromium, headless: true, args, viewport: { width: 1280, height: 800 } };
  const context = await chromium.launchPersistentContext(profile, settings);
  const [requests, errors] = [[], []];
  try {
    context.on("request", (request) => requests.push(request.url()));
    const page = context.pages()[0];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.addInitScript(() => {
      window.said = () => document.getElementById("status")?.textContent ?? "";
      window.complaint = () => document.getElementById("picture-problem")?.textContent ?? "";
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.blockedURI));
    });
    await page.goto(options.url);
    const result = await SCENARIOS[process.argv[2]](page, options, context);
    errors.push(...(await page.evaluate(() => window.violations)));
    process.stdout.write(JSON.stringify({ result, requests, errors }));
  } finally {
    await context.close();
    if (options.profile === undefined) {
      rmSync(profile, { recursive: true, force: true });
    }
  }
}

await main();
