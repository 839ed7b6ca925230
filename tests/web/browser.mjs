/**
 * Visit a bundle's page in headless Chromium and print, as JSON, what was seen.
 *
 *   node browser.mjs ADDRESS CHROMIUM [SCREENSHOTS]
 *
 * Only reports; what is right is for the caller to say.
 */

import { chromium } from "playwright-core";

const [address, executablePath, screenshots] = process.argv.slice(2);

const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 375, height: 740 };

/** Strokes in units of the pad's width. */
const STROKES = {
  0: [arc(0.5, 0.5, 0.26, 0.4, -90, 270)],
  1: [line([0.5, 0.08], [0.5, 0.92])],
  3: [[...arc(0.48, 0.3, 0.2, 0.2, -150, 80), ...arc(0.48, 0.7, 0.22, 0.21, -80, 150)]],
  7: [line([0.25, 0.1], [0.75, 0.1], [0.45, 0.92])],
};

function line(...corners) {
  return corners.slice(1).flatMap((end, number) => {
    const start = corners[number];
    return Array.from({ length: 9 }, (_, step) =>
      start.map((from, axis) => from + ((end[axis] - from) * step) / 8),
    );
  });
}

function arc(x, y, width, height, from, to) {
  return Array.from({ length: 25 }, (_, step) => {
    const angle = ((from + ((to - from) * step) / 24) * Math.PI) / 180;
    return [x + width * Math.cos(angle), y + height * Math.sin(angle)];
  });
}

const complaints = [];
const requests = new Set();

async function visit(browser, options) {
  const page = await (await browser.newContext(options)).newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.add(new URL(request.url()).origin));
  page.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`);
  });
  await page.goto(address);
  await page.waitForSelector("html[data-state=ready]", { timeout: 60_000 });
  await page.waitForFunction(() => document.getElementById("decided").textContent !== "");
  return page;
}

/** Slide to an Es/N0 and wait for what comes of it. */
async function slide(page, snrDb) {
  await page.locator("#snr").fill(String(snrDb));
  await page.waitForFunction(
    (shown) => document.getElementById("snr-value").textContent === shown,
    `${snrDb.toFixed(1).replace("-", "\u2212")} dB`,
  );
}

const state = (page) =>
  page.evaluate(() => {
    const text = (id) => document.getElementById(id).textContent;
    const all = (selector, read) => [...document.querySelectorAll(selector)].map(read);
    const place = (mark) => [Number(mark.getAttribute("cx")), Number(mark.getAttribute("cy"))];
    return {
      mode: text("mode"),
      decided: text("decided"),
      symbols: Number(text("symbols")),
      bits: text("bits"),
      tokens: all(".token", (token) => token.firstChild.textContent),
      decoded: text("decoded").trim(),
      sent: all(".sent-point", place),
      received: all(".received-point", place),
      llr: all(".llr .bit", (bar) => Number(bar.getAttribute("height"))),
      wrongBits: all(".llr .bit.wrong", () => 1).length,
      scores: all("#scores > :nth-child(3n)", (cell) => cell.textContent),
    };
  });

/** Draw with the mouse, pen down and up for each stroke. */
async function draw(page, strokes) {
  await page.locator("#clear").click();
  const { x, y, width } = await page.locator("#pad").boundingBox();
  for (const stroke of strokes) {
    const points = stroke.map(([across, down]) => [x + across * width, y + down * width]);
    await page.mouse.move(...points[0]);
    await page.mouse.down();
    for (const point of points.slice(1)) await page.mouse.move(...point);
    await page.mouse.up();
  }
  await settled(page);
}

/** Wait until the page shows what follows from the last change. */
const settled = (page) => page.evaluate(() => window.linkSettled());

const shot = async (page, name) => {
  if (!screenshots) return;
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
};

/** Send all test samples once. */
async function sendAll(page) {
  await page.locator("#run").click();
  await page.waitForFunction(() => document.getElementById("run").textContent !== "Pause", null, {
    timeout: 60_000,
  });
  return page.locator("#tally").textContent();
}

/** Draw with a finger. */
async function drawByTouch(page, strokes) {
  const session = await page.context().newCDPSession(page);
  await page.locator("#pad").scrollIntoViewIfNeeded();
  const { x, y, width } = await page.locator("#pad").boundingBox();
  const touch = (type, touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
  for (const stroke of strokes) {
    const points = stroke.map(([across, down]) => ({ x: x + across * width, y: y + down * width }));
    await touch("touchStart", [points[0]]);
    for (const point of points.slice(1)) await touch("touchMove", [point]);
    await touch("touchEnd", []);
  }
  await settled(page);
}

async function desktop(browser) {
  const page = await visit(browser, { viewport: DESKTOP, colorScheme: "light" });
  const seen = { snr: {}, drawn: {}, modes: {} };
  for (const snrDb of [-5, 5, 20]) {
    await slide(page, snrDb);
    seen.snr[snrDb] = await state(page);
  }
  await page.locator("#noise").click();
  await settled(page);
  seen.otherNoise = (await state(page)).received;
  await slide(page, 10);
  if (await page.locator("#pad").isVisible()) {
    for (const [digit, strokes] of Object.entries(STROKES)) {
      await draw(page, strokes);
      seen.drawn[digit] = (await state(page)).decided;
      if (digit === "3") await shot(page, "desktop-drawn");
      if (digit === "0") seen.captionOfDrawing = await page.locator("#features-caption").textContent();
    }
  }
  seen.hasPad = await page.locator("#pad").isVisible();
  await page.locator("#sample").fill("3");
  await page.locator("#sample").press("Enter");
  await settled(page);
  seen.sample = await page.locator("#sent-class").textContent();
  for (const option of await page.locator("#request option").all()) {
    const value = await option.getAttribute("value");
    if (value === "" || !(await page.locator("#request").isEnabled())) continue;
    await page.locator("#request").selectOption(value);
    await settled(page);
    seen.modes[value] = (await state(page)).mode;
  }
  if (await page.locator("#request").isEnabled()) await page.locator("#request").selectOption("");
  seen.tally = await sendAll(page);
  await slide(page, 0);
  seen.tallyAt0 = await sendAll(page);
  if (await page.locator("#check").isEnabled()) {
    await page.locator("#check").click();
    await page.waitForFunction(() => document.querySelector("#check-result .hash") !== null, null, {
      timeout: 60_000,
    });
    seen.check = await page.locator("#check-result").textContent();
    seen.conformance = await page.evaluate(() => window.linkConformance());
  }
  await shot(page, "desktop-light");
  seen.notice = await page.locator("#notice").isVisible();
  return seen;
}

async function phone(browser) {
  const options = {
    viewport: PHONE,
    deviceScaleFactor: 2,
    isMobile: true,
    hasTouch: true,
    colorScheme: "dark",
  };
  const page = await visit(browser, options);
  const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  const seen = { widths };
  if (await page.locator("#pad").isVisible()) {
    await drawByTouch(page, STROKES[0]);
    seen.drawn = (await state(page)).decided;
  }
  await shot(page, "phone-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await slide(page, -5);
  await shot(page, "phone-light");
  return seen;
}

async function dark(browser) {
  const page = await visit(browser, { viewport: DESKTOP, colorScheme: "dark" });
  await slide(page, 0);
  await shot(page, "desktop-dark");
  return page.evaluate(() => getComputedStyle(document.body).backgroundColor);
}

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const seen = {
    desktop: await desktop(browser),
    phone: await phone(browser),
    darkBackground: await dark(browser),
  };
  console.log(JSON.stringify({ ...seen, complaints, origins: [...requests] }));
} finally {
  await browser.close();
}
