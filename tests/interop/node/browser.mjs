// Opens the call page in headless Chromium, with a WAV file for a microphone, and prints the page's lines.
//
//     node browser.mjs '{"browser": "/usr/bin/chromium", "page": "http://localhost:1234/call.html?...", "microphone": "speech.wav"}'
//
// The plan's `hangUpAfter` is the number of final agent transcripts after which the page's button is pressed.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const emit = (event, data = null) => process.stdout.write(JSON.stringify({ event, data }) + "\n");
const plan = JSON.parse(process.argv[2]);
const profile = mkdtempSync(join(tmpdir(), "voisnap-browser-"));

const browser = await puppeteer.launch({
  executablePath: plan.browser,
  headless: true,
  userDataDir: profile,
  args: [
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    // `%noloop`: after the file there is silence, not the file again.
    `--use-file-for-fake-audio-capture=${plan.microphone}%noloop`,
    "--autoplay-policy=no-user-gesture-required",
    "--disable-gpu",
    // Chromium refuses its sandbox to root, which is who runs tests in most containers.
    ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    // Nothing leaves this machine.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
  ],
});

try {
  const page = await browser.newPage();
  const over = new Promise((resolve, reject) => {
    let replies = 0;
    page.on("console", async (message) => {
      const text = message.text();
      if (!text.startsWith('{"event"')) return emit("console", { type: message.type(), text });
      process.stdout.write(text + "\n");
      const { event, data } = JSON.parse(text);
      if (event === "TranscriptionOf" && data.isFinal && ++replies === plan.hangUpAfter) await page.click("#end");
      if (event === "closed") resolve();
    });
    page.on("pageerror", (error) => reject(error));
    browser.on("disconnected", () => reject(new Error("the browser went away")));
  });
  await page.goto(plan.page);
  await page.click("#start");
  await over;
  emit("page", {
    heard: await page.$eval("#heard", (node) => node.textContent),
    said: await page.$eval("#said", (node) => node.textContent),
  });
  emit("done");
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
