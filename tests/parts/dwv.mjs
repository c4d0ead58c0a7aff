// Opens images and a report in dwv and writes down the boxes that it draws.
//
// usage: node dwv.mjs FOLDER, which holds asked.json: images (paths, one series), report (path).
// Writes seen.json: the canvas's size and, of each shape, its rectangle on the canvas, its class, its label and
// whether it is visible.
import { readFileSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const folder = process.argv[2];
const asked = JSON.parse(readFileSync(`${folder}/asked.json`, "utf8"));
const modules = new URL("./node_modules/", import.meta.url);
const side = 900;
// dwv imports three libraries by name; their packages hold plain scripts.
const libraries = {
  konva: ["Konva", "konva/konva.min.js"],
  jszip: ["JSZip", "jszip/dist/jszip.min.js"],
  "magic-wand-tool": ["MagicWand", "magic-wand-tool/dist/magic-wand.min.js"],
};
const script = (text) => ["text/javascript", text];
const served = {};
const imports = {};
for (const [name, [global, file]] of Object.entries(libraries)) {
  served[`/${name}.js`] = script(readFileSync(new URL(file, modules)));
  served[`/${name}.mjs`] = script(`export default globalThis.${global};`);
  imports[name] = `/${name}.mjs`;
}
served["/"] = ["text/html", `<!doctype html><meta charset="utf-8">
<style>#viewer { position: relative; width: ${side}px; height: ${side}px } .layer { position: absolute }</style>
${Object.keys(libraries).map((name) => `<script src="/${name}.js"></script>`).join("")}
<script type="importmap">${JSON.stringify({ imports })}</script><div id="viewer"></div>
<script type="module">globalThis.dwv = await import("/dwv/dwv.min.js");</script>`];
const files = [...asked.images, asked.report];
files.forEach((file, number) => (served[`/file/${number}.dcm`] = ["application/dicom", readFileSync(file)]));

const answer = (route) => {
  const path = new URL(route.request().url()).pathname;
  const found = path.startsWith("/dwv/") ? script(readFileSync(new URL(`dwv/dist/${path.slice(5)}`, modules))) : served[path];
  return found ? route.fulfill({ contentType: found[0], body: found[1] }) : route.fulfill({ status: 404, body: "" });
};

// Runs in the page.
const draw = async (count) => {
  const { App, AppOptions, ViewConfig } = globalThis.dwv;
  const app = new App();
  const moment = () => new Promise((done) => setTimeout(done, 1500));
  const options = new AppOptions({ "*": [new ViewConfig("viewer")] });
  options.viewOnFirstLoadItem = false;
  app.init(options);
  const shown = async (urls) => {
    await new Promise((loaded, failed) => {
      app.addEventListener("loadend", loaded);
      app.addEventListener("error", (event) => failed(event.error));
      app.addEventListener("loaderror", (event) => failed(event.error));
      app.loadURLs(urls);
    });
    app.render(app.getDataIds().at(-1));
    await moment();
  };
  const urls = [...Array(count + 1).keys()].map((number) => `http://viewer.test/file/${number}.dcm`);
  await shown(urls.slice(0, count));
  await shown(urls.slice(count));
  const drawn = () => app.getDrawLayers().flatMap((layer) => layer.getKonvaStage().find((node) => node.name() === "shape"));
  // As long as it may take where other things run too; then once more, for the last of them.
  for (let tries = 0; tries < 40 && !drawn().length; tries++) await moment();
  await moment();
  const shapes = drawn();
  return shapes.map((shape) => {
    const { x, y, width, height } = shape.getClientRect({ skipStroke: true });
    const label = shape.getParent().findOne((node) => node.name() === "text");
    return {
      rectangle: [x, y, x + width, y + height], kind: shape.getClassName(), visible: shape.isVisible(),
      label: label?.isVisible() ? label.text() : "",
    };
  });
};

const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const page = await browser.newPage({ viewport: { width: side + 100, height: side + 100 } });
  await page.route("http://viewer.test/**", answer);
  await page.goto("http://viewer.test/");
  await page.waitForFunction("globalThis.dwv !== undefined");
  const shapes = await page.evaluate(draw, asked.images.length);
  await page.screenshot({ path: `${folder}/seen.png` });
  writeFileSync(`${folder}/seen.json`, JSON.stringify({ side, shapes }, null, 1));
} finally {
  await browser.close();
}
