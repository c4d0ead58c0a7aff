// Opens one series of a study in OHIF and writes down what it shows.
//
// usage: node ohif.mjs FOLDER, which holds asked.json: url, study, series, boxes [{sop, box, text}], seconds,
// continue. Writes seen.json: for each box whether its image was shown, how many screen pixels the nearest
// drawn shape is off, and whether its text stands there; and for any series the image and objects shown.
// With `continue` it answers Yes to "continue tracking measurements": OHIF's arrows then lead from image to
// image, its own statistics stand at the boxes, and our words in the panel of measurements.
import { readFileSync, writeFileSync } from "node:fs";
import { chromium } from "playwright-core";

const folder = process.argv[2];
const asked = JSON.parse(readFileSync(`${folder}/asked.json`, "utf8"));
const patience = (asked.seconds ?? 45) * 1000;

// Runs in the page. Pixel edges go to the screen through the image plane's own numbers, not through
// OHIF's conversion of SCOORDs.
const look = (boxes) => {
  const layer = [...document.querySelectorAll("svg.svg-layer")].find((e) => e.getBoundingClientRect().width > 0);
  const documents = [...document.querySelectorAll("object, embed, iframe")].map((e) => e.data || e.src || "");
  const viewports = (window.cornerstone?.getRenderingEngines?.() ?? []).flatMap((e) => e.getViewports());
  const viewport = viewports.find((v) => v.getCurrentImageId?.()) ?? viewports[0];
  const imageId = viewport?.getCurrentImageId?.() ?? "";
  const seen = { imageId, documents, shapes: [], texts: [], boxes: [] };
  if (!layer || !imageId) return seen;
  const frame = layer.getBoundingClientRect();
  for (const shape of layer.querySelectorAll("polyline, rect, path")) {
    const style = getComputedStyle(shape);
    if (style.visibility === "hidden" || style.display === "none") continue;
    const b = shape.getBoundingClientRect();
    seen.shapes.push([b.left - frame.left, b.top - frame.top, b.right - frame.left, b.bottom - frame.top]);
  }
  for (const text of layer.querySelectorAll("text")) seen.texts.push(text.textContent);
  const plane = window.cornerstone.metaData.get("imagePlaneModule", imageId) ?? {};
  const row = plane.rowCosines ?? [1, 0, 0], column = plane.columnCosines ?? [0, 1, 0];
  const origin = plane.imagePositionPatient ?? [0, 0, 0];
  const world = (x, y) => [0, 1, 2].map((i) => origin[i] + row[i] * (plane.columnPixelSpacing || 1) * (x - 0.5)
    + column[i] * (plane.rowPixelSpacing || 1) * (y - 0.5));
  for (const { sop, frame: number, box, text } of boxes) {
    const place = [...viewport.worldToCanvas(world(box[0], box[1])), ...viewport.worldToCanvas(world(box[2], box[3]))];
    const off = seen.shapes.map((shape) => Math.max(...shape.map((v, i) => Math.abs(v - place[i]))));
    seen.boxes.push({
      shown: imageId.includes(sop) && (!number || imageId.includes(`frames/${number}`) || imageId.includes(`frame=${number}`)),
      off: off.length ? Math.min(...off) : null,
      text: (text ?? []).every((t) => seen.texts.some((s) => s.includes(t))),
    });
  }
  return seen;
};

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium", headless: true,
  args: ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
});
const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
const found = asked.boxes.map(() => ({ shown: false, off: null, text: false }));
const isGood = (box) => box.shown && (box.text || asked.continue) && box.off !== null && box.off <= 2;
let seen = {};
await page.addInitScript(() => localStorage.setItem("shownTours", JSON.stringify(["basicViewerTour"])));
try {
  await page.goto(`${asked.url}/viewer?StudyInstanceUIDs=${asked.study}&initialSeriesInstanceUID=${asked.series}`, { timeout: 120000 });
  await page.waitForSelector('[data-cy^="study-browser-thumbnail"]', { timeout: 90000 });
  if (asked.continue) await page.getByText("Yes", { exact: true }).click({ timeout: patience });
  for (let step = 0; step <= asked.boxes.length; step++) {
    const end = Date.now() + patience;
    const before = found.filter(isGood).length; // each step must bring a box that was not seen yet
    while (Date.now() < end) {
      seen = await page.evaluate(look, asked.boxes).catch(() => seen);
      (seen.boxes ?? []).forEach((box, i) => { if (box.shown && !isGood(found[i])) found[i] = box; });
      const news = found.filter(isGood).length > before;
      if (asked.boxes.length ? news : seen.imageId?.includes(asked.sop) || seen.documents?.some((d) => d)) break;
      await page.waitForTimeout(400);
    }
    if (found.every(isGood)) break;
    const next = page.locator('[data-cy="viewport-action-arrows-right"]').first();
    if (!(await next.count())) break;
    await next.click();
    await page.waitForTimeout(1500);
  }
  if (asked.continue) {
    await page.locator('[data-cy="trackedMeasurements-btn"]').click();
    await page.waitForSelector('[data-cy^="measurement-table-row"]');
    seen.measurements = await page.locator('[data-cy^="measurement-table-row"]').allInnerTexts();
  }
  await page.waitForTimeout(asked.boxes.length ? 0 : 2500);
} finally {
  await page.screenshot({ path: `${folder}/seen.png` }).catch(() => {});
  writeFileSync(`${folder}/seen.json`, JSON.stringify({ ...seen, boxes: found }, null, 1));
  await browser.close();
}
