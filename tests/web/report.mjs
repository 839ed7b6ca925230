/**
 * Open a report in headless Chromium, as a file, and print as JSON what was seen.
 *
 *   node report.mjs REPORT.html CHROMIUM [SCREENSHOTS]
 *
 * Only reports; what is right is for the caller to say.
 */

import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [file, executablePath, screenshots] = process.argv.slice(2);

const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

const complaints = [];
const requests = new Set();

async function visit(browser, options) {
  const page = await (await browser.newContext(options)).newPage();
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`failed: ${request.url()}`));
  page.on("request", (request) => requests.add(request.url()));
  await page.goto(pathToFileURL(file).href);
  return page;
}

const shot = async (page, name) => {
  if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
};

/** Layout and legibility, measured where the reader sees it. */
const layout = (page) =>
  page.evaluate(() => {
    /** Colours of computed styles, as numbers. */
    const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
    const luminance = (colour) => {
      const [r, g, b] = channels(colour)
        .slice(0, 3)
        .map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (first, second) => {
      const [low, high] = [luminance(first), luminance(second)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    };
    const background = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (channels(colour)[3] !== 0) return colour;
      }
      return "rgb(255, 255, 255)";
    };

    const seen = { outside: [], overlapping: [], smallest: Infinity, lowestContrast: Infinity, figures: 0 };
    for (const svg of document.querySelectorAll("figure svg")) {
      seen.figures += 1;
      const frame = svg.getBoundingClientRect();
      const name = svg.getAttribute("aria-label");
      const texts = [...svg.querySelectorAll("text")].map((text) => {
        const box = text.getBoundingClientRect();
        return { box, say: `${name}: ${text.textContent}`, text };
      });
      for (const { box, say, text } of texts) {
        const stands = 1; // a letter's box is a little larger than the letter
        if (
          box.left < frame.left - stands ||
          box.right > frame.right + stands ||
          box.top < frame.top - stands ||
          box.bottom > frame.bottom + stands
        )
          seen.outside.push(say);
        const scale = frame.width / svg.viewBox.baseVal.width;
        seen.smallest = Math.min(seen.smallest, scale * parseFloat(getComputedStyle(text).fontSize));
        seen.lowestContrast = Math.min(
          seen.lowestContrast,
          contrast(getComputedStyle(text).fill, background(svg)),
        );
      }
      for (const [number, { box, say }] of texts.entries())
        for (const other of texts.slice(number + 1)) {
          const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
          const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
          const least = Math.min(box.width * box.height, other.box.width * other.box.height);
          if (wide > 0 && high > 0 && wide * high > 0.15 * least)
            seen.overlapping.push(`${say} | ${other.text.textContent}`);
        }
    }
    for (const text of document.querySelectorAll("h1, h2, p, td, th, dd, dt, figcaption, summary, a")) {
      if (!text.checkVisibility()) continue;
      const ratio = contrast(getComputedStyle(text).color, background(text));
      seen.lowestContrast = Math.min(seen.lowestContrast, ratio);
    }
    seen.widths = [document.documentElement.scrollWidth, innerWidth];
    seen.background = getComputedStyle(document.body).backgroundColor;
    seen.broken = [...document.querySelectorAll("nav a")]
      .map((link) => link.getAttribute("href"))
      .filter((target) => !document.querySelector(target));
    const points = document.querySelector("#points + .scroll");
    seen.pointsFit = points.scrollWidth <= points.clientWidth;
    return seen;
  });

/** Which folded tables can be seen. */
const unfolded = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("details table")].map((table) =>
      table.querySelector("td").checkVisibility({ contentVisibilityAuto: true }),
    ),
  );

async function onScreen(browser, name, options) {
  const page = await visit(browser, options);
  await shot(page, name);
  const seen = await layout(page);
  seen.folded = (await unfolded(page)).filter((visible) => !visible).length;
  for (const summary of await page.locator("summary").all()) await summary.click();
  seen.opened = (await unfolded(page)).filter((visible) => visible).length;
  seen.widthsOpened = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  await shot(page, `${name}-open`);
  return seen;
}

async function onPaper(browser) {
  const page = await visit(browser, { viewport: DESKTOP, colorScheme: "dark" });
  await page.emulateMedia({ media: "print" });
  // What is hidden is decided when a frame is drawn.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const visible = await unfolded(page);
  const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const options = { format: "A4", ...(screenshots ? { path: `${screenshots}/print.pdf` } : {}) };
  const text = (await page.pdf(options)).toString("latin1");
  return { visible, background, pages: text.match(/\/Type\s*\/Page\b/g)?.length ?? 0 };
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const phone = { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
  const seen = {
    light: await onScreen(browser, "light", { viewport: DESKTOP, colorScheme: "light" }),
    dark: await onScreen(browser, "dark", { viewport: DESKTOP, colorScheme: "dark" }),
    phone: await onScreen(browser, "phone", { ...phone, colorScheme: "light" }),
    phoneDark: await onScreen(browser, "phone-dark", { ...phone, colorScheme: "dark" }),
    paper: await onPaper(browser),
  };
  console.log(JSON.stringify({ ...seen, complaints, requests: [...requests] }));
} finally {
  await browser.close();
}
