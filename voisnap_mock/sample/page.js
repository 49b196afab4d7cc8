// The page: who is logged in, which agent is called, what is said. How calls are made is in the files beside it.

import { startChat } from "./chat.js";
import { callByVoice } from "./voice.js";
import { callByWebRtc } from "./webrtc.js";

const WAYS = { webrtc: callByWebRtc, voice: callByVoice, chat: startChat };
const KEYS = "123456789*0#";
const BAR = 4; // pixels of one bar of a level, gap included

const server = location.origin;
const $ = (id) => document.getElementById(id);
let token = null;
let isGoodUntil = 0;
let call = null;
let isCalling = false;
let startedAt = null;
let levels = [];

// --- logging in, and who is there ---

async function api(path, options = {}) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(`${server}/api/v1${path}`, { ...options, headers });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail);
  return body;
}

async function logIn(email, password) {
  token = null;
  const login = await api("/auth/login", { method: "POST", body: JSON.stringify({ email, password }) });
  if (login.mfaRequired) throw new Error("this user needs a second factor, which this page does not ask for");
  token = login.accessToken;
  isGoodUntil = performance.now() + (login.expiresIn - 60) * 1000;
  $("user").textContent = login.user.email;
}

function showLogin(isShown) {
  $("login").hidden = !isShown;
  $("user").setAttribute("aria-expanded", String(isShown));
}

async function showAgents() {
  const { data } = await api("/agents?pageSize=100&sortOrder=asc");
  const choices = data.map((agent) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "agent", value: agent.id });
    input.disabled = agent.status !== "active";
    input.dataset.name = agent.name;
    const text = document.createElement("span");
    const more = document.createElement("small");
    more.textContent = input.disabled ? `${agent.id}, inactive` : agent.firstMessage || agent.id;
    text.append(agent.name, more);
    label.append(input, text);
    label.title = agent.id;
    return label;
  });
  $("agents").replaceChildren(...choices);
  const first = $("agents").querySelector("input:enabled");
  if (first) first.checked = true;
  showChoice();
}

async function enter() {
  await logIn($("email").value, $("password").value);
  showLogin(false);
  await showAgents();
}

const chosenAgent = () => document.querySelector("input[name=agent]:checked");
const chosenWay = () => document.querySelector("input[name=way]:checked").value;

function showChoice() {
  const isChat = chosenWay() === "chat";
  $("scopes").hidden = $("telephone").hidden = isChat;
  $("message").hidden = !isChat;
  $("with").textContent = chosenAgent()?.dataset.name ?? "No agent yet";
  showButtons();
}

function showButtons() {
  const isLive = call !== null;
  $("call").textContent = isLive || isCalling ? "Hang up" : chosenWay() === "chat" ? "Begin" : "Call";
  $("call").classList.toggle("live", isLive || isCalling);
  $("call").disabled = !chosenAgent() || (isCalling && !isLive);
  for (const control of document.querySelectorAll("#telephone button, #message input, #message button")) {
    control.disabled = !isLive;
  }
  for (const choice of document.querySelectorAll(".agents input")) {
    if (choice.name === "way" || choice.dataset.name) choice.closest("label").inert = isLive || isCalling;
  }
}

// --- a call ---

async function begin() {
  showProblem(null);
  $("transcript").replaceChildren();
  $("events").textContent = "";
  $("count").textContent = "0";
  isCalling = true;
  startedAt = null;
  showState(chosenWay() === "chat" ? "connecting" : "waiting for the microphone");
  showButtons();
  try {
    if (chosenWay() !== "chat" && !navigator.mediaDevices) {
      throw new Error("browsers hand out the microphone only on localhost, or over https");
    }
    if (performance.now() > isGoodUntil) await logIn($("email").value, $("password").value);
    const made = await WAYS[chosenWay()]({ server, token, agentId: chosenAgent().value, listen });
    if (!isCalling) return; // it was over before it was made
    call = made;
    if (call.microphone) watch(call.microphone, "caller-level", "--caller");
    $("text").focus();
  } catch (error) {
    isCalling = false;
    showProblem(error.name === "NotAllowedError" ? "The microphone was not allowed." : error.message);
    showState("ready");
  }
  showButtons();
}

function listen(event, data) {
  if (event !== "track") keep(event, data);
  switch (event) {
    case "track":
      $("speaker").srcObject = data;
      watch(data, "agent-level", "--accent");
      break;
    case "state":
      showState(data);
      break;
    case "SessionStarted":
      startedAt = performance.now();
      showState("connected");
      break;
    case "Transcription":
      say("caller", data.text, { isPartial: !data.isFinal });
      break;
    case "TranscriptionOf":
      say("agent", data.text, { isPartial: !data.isFinal });
      break;
    case "MessageReceived":
      say("agent", data.content, { isPartial: !data.isFinal });
      break;
    case "TypingIndicator":
      showState(data.isTyping ? "writing" : "connected");
      break;
    case "TransferInitiated":
      note(`handed over to ${data.transferTo} (${data.transferType})`);
      break;
    case "Error":
      showProblem(`${data.code}: ${data.message}`);
      break;
    case "SessionEnded":
      note(`ended: ${data.reason}, after ${data.durationSeconds} s`);
      break;
    case "closed":
      over(data);
      break;
  }
}

function over(reason) {
  if (reason) showProblem(reason);
  call = null;
  isCalling = false;
  startedAt = null;
  levels.forEach((level) => level.stop());
  levels = [];
  $("speaker").srcObject = null;
  $("mute").setAttribute("aria-pressed", "false");
  $("mute").textContent = "Mute";
  showState("over");
  showButtons();
}

// --- what is said ---

const seconds = () => (startedAt === null ? 0 : (performance.now() - startedAt) / 1000);
const clock = (t) => `${Math.floor(t / 60)}:${String(Math.floor(t % 60)).padStart(2, "0")}`;

function line(kind) {
  const item = document.createElement("li");
  item.className = kind;
  $("transcript").append(item);
  return item;
}

/** Show what somebody says; a text that is still growing takes the place of the one before it. */
function say(who, text, { isPartial }) {
  const open = $("transcript").querySelector(`.${who}.partial`);
  const item = open ?? line(who);
  item.classList.toggle("partial", isPartial);
  if (!open) {
    const time = document.createElement("time");
    time.textContent = clock(seconds());
    item.append(time, document.createElement("span"));
  }
  item.lastChild.textContent = text;
  $("transcript").scrollTop = $("transcript").scrollHeight;
}

function note(text) {
  line("note").textContent = text;
  $("transcript").scrollTop = $("transcript").scrollHeight;
}

function keep(event, data) {
  const shown = typeof data === "string" ? data : JSON.stringify(data);
  $("events").textContent += `${seconds().toFixed(2).padStart(7)}  ${event}  ${shown ?? ""}\n`;
  $("count").textContent = String(Number($("count").textContent) + 1);
  $("events").scrollTop = $("events").scrollHeight;
}

function showProblem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text ?? "";
}

function showState(text) {
  $("state").textContent = text;
}

setInterval(() => {
  if (startedAt !== null) $("time").textContent = clock(seconds());
}, 250);

// --- how loud it is ---

/** Draw how loud a stream is, as bars that move to the left. */
function watch(stream, id, colour) {
  const canvas = $(id);
  const audio = new AudioContext();
  const meter = audio.createAnalyser();
  meter.fftSize = 1024;
  audio.createMediaStreamSource(stream).connect(meter);
  const wave = new Float32Array(meter.fftSize);
  const loudness = [];
  const timer = setInterval(() => {
    meter.getFloatTimeDomainData(wave);
    loudness.push(Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length));
    draw(canvas, loudness, colour);
  }, 50);
  levels.push({
    stop: () => {
      clearInterval(timer);
      audio.close();
      draw(canvas, [], colour);
    },
  });
}

function draw(canvas, loudness, colour) {
  const scale = devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const paper = canvas.getContext("2d");
  paper.scale(scale, scale);
  paper.fillStyle = getComputedStyle(canvas).getPropertyValue(colour);
  const places = Math.floor(width / BAR);
  loudness.splice(0, loudness.length - places);
  for (let place = 0; place < places; place++) {
    const level = loudness[loudness.length - places + place] ?? 0;
    const size = Math.max(2, Math.min(height - 26, Math.sqrt(level) * height * 1.2));
    paper.globalAlpha = level > 0.002 ? 1 : 0.25;
    paper.fillRect(place * BAR, (height + 12 - size) / 2, BAR - 2, size);
  }
}

// --- buttons ---

$("call").addEventListener("click", () => (call ? call.hangUp() : begin()));
$("user").addEventListener("click", () => showLogin($("login").hidden));
$("agents").addEventListener("change", showChoice);
$("ways").addEventListener("change", showChoice);

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  showProblem(null);
  await enter().catch((error) => showProblem(error.message));
});

$("mute").addEventListener("click", () => {
  const isMuted = $("mute").getAttribute("aria-pressed") !== "true";
  $("mute").setAttribute("aria-pressed", String(isMuted));
  $("mute").textContent = isMuted ? "Muted" : "Mute";
  call?.mute(isMuted);
});

$("message").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !call) return;
  say("caller", text, { isPartial: false });
  call.say(text).catch((error) => showProblem(error.message));
  $("text").value = "";
});

function press(key) {
  if (!call?.press) return;
  note(`key ${key}`);
  Promise.resolve(call.press(key)).catch((error) => showProblem(error.message));
}

$("keys").append(
  ...[...KEYS].map((key) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: key });
    button.addEventListener("click", () => press(key));
    return button;
  }),
);
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  const isTyping = target instanceof HTMLInputElement && target.type !== "radio";
  if (KEYS.includes(key) && !isTyping && !ctrlKey && !metaKey && !altKey) press(key);
});

addEventListener("pagehide", () => call?.hangUp());

draw($("caller-level"), [], "--caller");
draw($("agent-level"), [], "--accent");
showButtons();
enter().catch(() => showLogin(true));
