// Uses the sample page in headless Chromium, with a WAV file for a microphone, and prints what the page shows.
//
//     node page.mjs '{"browser": "/usr/bin/chromium", "profile": "/tmp/empty", "page": "http://localhost:8647/",
//                     "microphone": "speech.wav", "way": "webrtc", "agent": "agt_line", "steps": [["hear", "Welcome"], ["press", "5"], ["hang up"]]}'

import { writeFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const emit = (event, data = null) => process.stdout.write(JSON.stringify({ event, data }) + "\n");
const plan = JSON.parse(process.argv[2]);

const browser = await puppeteer.launch({
  executablePath: plan.browser,
  headless: true,
  userDataDir: plan.profile,
  args: [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    `--use-file-for-fake-audio-capture=${plan.microphone}`,
    "--autoplay-policy=no-user-gesture-required",
    // Without a network there is no other address than loopback's.
    "--allow-loopback-in-peer-connection",
    "--disable-gpu",
    ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
  ],
});

/** Have the page keep what its loudspeaker plays, as PCM at 16 kHz. */
async function record() {
  const audio = new AudioContext();
  await audio.audioWorklet.addModule("/sample/capture.js");
  const capture = new AudioWorkletNode(audio, "capture");
  window.kept = [];
  capture.port.onmessage = ({ data }) => window.kept.push(...new Uint8Array(data));
  audio.createMediaStreamSource(document.getElementById("speaker").srcObject).connect(capture);
}

const lines = (page) =>
  page.$$eval("#transcript li", (items) => items.map((item) => [item.className.trim(), item.lastChild.textContent]));

const STEPS = {
  read: async (page) => emit("read", await lines(page)),
  hear: (page, text) =>
    page.waitForFunction(
      (wanted) => [...document.querySelectorAll("#transcript li:not(.partial)")].some((item) => item.innerText.includes(wanted)),
      { timeout: 20_000 },
      text,
    ),
  press: (page, key) =>
    page.evaluate((wanted) => [...document.querySelectorAll("#keys button")].find((button) => button.textContent === wanted).click(), key),
  mute: (page) => page.click("#mute"),
  "hang up": (page) => page.click("#call"),
  over: (page) => page.waitForFunction(() => document.getElementById("state").textContent === "over", { timeout: 20_000 }),
  show: (page, text) => page.waitForFunction((wanted) => document.body.innerText.includes(wanted), { timeout: 20_000 }, text),
  type: async (page, text) => {
    await page.type("#text", text);
    await page.keyboard.press("Enter");
  },
  /** Nobody says good-bye. */
  vanish: () =>
    new Promise((resolve) => {
      browser.once("disconnected", resolve);
      browser.process().kill("SIGKILL");
    }),
};

try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => emit("error", error.message));
  page.on("console", (message) => message.type() === "error" && emit("error", message.text()));
  await page.goto(plan.page);
  await page.waitForSelector("#call:enabled");
  await page.evaluate(
    ({ way, agent }) => {
      document.querySelector(`input[name=way][value=${way}]`).click();
      document.querySelector(`input[name=agent][value=${agent}]`).click();
    },
    plan,
  );
  await page.click("#call");
  if (plan.keep) {
    await page.waitForFunction(() => document.getElementById("speaker").srcObject);
    await page.evaluate(record);
  }
  for (const [step, ...words] of plan.steps) {
    try {
      await STEPS[step](page, ...words);
    } catch (error) {
      emit("stuck", { at: [step, ...words], error: String(error), events: await page.$eval("#events", (node) => node.textContent) });
      throw error;
    }
    emit("step", step);
  }
  if (browser.connected) {
    if (plan.keep) writeFileSync(plan.keep, Uint8Array.from(await page.evaluate(() => window.kept)));
    emit("transcript", await lines(page));
    emit("problem", await page.$eval("#problem", (node) => node.textContent));
  }
  emit("done");
} finally {
  if (browser.connected) await browser.close();
}
