// Acts as an integrator's program would, with the unmodified JavaScript client, and prints what it sees as JSON lines.
//
//     node client.mjs '{"do": "voice", "url": "http://127.0.0.1:8647", "agent": "agt_support", "wavs": ["hello.wav"]}'
//
// The plan is one JSON object; `do` picks a function below. `../signalrcore_client.py` understands the same plans, so
// that one set of tests judges both clients.

import { readFileSync } from "node:fs";
import { HttpTransportType, HubConnectionBuilder, HubConnectionState, LogLevel } from "@microsoft/signalr";

const FRAME_BYTES = 640; // 20 ms of PCM s16le mono at 16 kHz
const FRAME_MS = 20;
const EVENTS = {
  voice: ["Transcription", "TranscriptionOf", "SessionStarted", "SessionEnded", "TransferInitiated", "Error", "Reconnected"],
  chat: ["MessageReceived", "TypingIndicator", "ConversationEnded", "SessionStarted", "SessionEnded", "Error", "Reconnected"],
};

const emit = (event, data = null) => process.stdout.write(JSON.stringify({ event, data }) + "\n");

async function login(plan) {
  if (plan.token !== undefined) return plan.token;
  const response = await fetch(`${plan.url}/api/v1/auth/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ email: plan.email ?? "dev@example.test", password: plan.password ?? "dev" }),
  });
  const body = await response.json();
  emit("login", { status: response.status, body: Object.keys(body) });
  return body.accessToken;
}

/** One hub connection, the events it has seen, and a way to wait for the next one of a kind. */
class Line {
  #seen = [];
  #read = 0;
  #wake = () => {};

  constructor(plan, hub, token) {
    const query = new URLSearchParams(plan.query ?? { agentId: plan.agent });
    this.url = `${plan.url}/hubs/${hub}?${query}`;
    // The documentation puts the token into the URL; the client's own way is the factory. Both are tried.
    if (plan.tokenInUrl) this.url += `&access_token=${token}`;
    const options = plan.tokenInUrl ? {} : { accessTokenFactory: () => token };
    if (plan.skipNegotiation) Object.assign(options, { skipNegotiation: true, transport: HttpTransportType.WebSockets });
    const builder = new HubConnectionBuilder().withUrl(this.url, options).configureLogging(LogLevel.None);
    if (plan.reconnect) builder.withAutomaticReconnect([0, 100, 200, 400, 800]);
    this.connection = builder.build();
    this.audioBytes = 0;
    this.audioChunks = {};
    this.#listen(hub);
  }

  #listen(hub) {
    for (const target of EVENTS[hub]) this.connection.on(target, (data) => this.#note(target, data));
    this.connection.on("AudioReceived", (base64) => {
      const bytes = Buffer.from(base64, "base64").length;
      this.audioBytes += bytes;
      this.audioChunks[bytes] = (this.audioChunks[bytes] ?? 0) + 1;
    });
    this.connection.onreconnecting((error) => {
      // What a program has to do to get its session back: the library keeps the first URL otherwise.
      if (this.sessionId) this.connection.baseUrl = `${this.url}&sessionId=${this.sessionId}`;
      this.#note("reconnecting", String(error));
    });
    this.connection.onreconnected(() => this.#note("reconnected", null));
    this.connection.onclose((error) => this.#note("closed", error ? String(error) : null));
  }

  #note(event, data) {
    if (event === "SessionStarted") this.sessionId = data.sessionId;
    emit(event, data);
    this.#seen.push({ event, data });
    this.#wake();
  }

  /** The next event of this kind, or these kinds, for which `fits` holds; events in between are passed over. */
  async next(event, fits = () => true) {
    for (;;) {
      while (this.#read < this.#seen.length) {
        const seen = this.#seen[this.#read++];
        if ([event].flat().includes(seen.event) && fits(seen.data)) return seen.data;
      }
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  get isConnected() {
    return this.connection.state === HubConnectionState.Connected;
  }
}

/** Keeps the line busy as a telephone does: a frame every 20 ms on an absolute schedule, speech or silence. */
class Microphone {
  #frames = [];
  #number = 0;
  #startedAt = performance.now();
  #timer = null;

  constructor(line) {
    this.line = line;
    this.#tick();
  }

  #tick() {
    if (this.line.isConnected) {
      const frame = this.#frames.shift() ?? Buffer.alloc(FRAME_BYTES);
      this.line.connection.invoke("SendAudioAsync", frame.toString("base64")).catch(() => {});
    }
    this.#number += 1;
    const due = this.#startedAt + this.#number * FRAME_MS - performance.now();
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, due));
  }

  play(wav) {
    const pcm = samples(readFileSync(wav));
    for (let at = 0; at < pcm.length; at += FRAME_BYTES) {
      const frame = Buffer.alloc(FRAME_BYTES);
      pcm.copy(frame, 0, at, at + FRAME_BYTES);
      this.#frames.push(frame);
    }
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

/** The `data` chunk of a RIFF file. */
function samples(riff) {
  for (let at = 12; at + 8 <= riff.length; ) {
    const length = riff.readUInt32LE(at + 4);
    if (riff.toString("latin1", at, at + 4) === "data") return riff.subarray(at + 8, at + 8 + length);
    at += 8 + length + (length % 2);
  }
  throw new Error("no data chunk");
}

const isFinal = (data) => data.isFinal;
const isFinalOrEnd = (data) => data?.isFinal !== false;

const plans = {
  /** Calls, hears the greeting, says each WAV file and waits for the answer, presses the keys, hangs up. */
  async voice(plan) {
    const line = new Line(plan, "voice", await login(plan));
    await line.connection.start();
    await line.next("SessionStarted");
    const microphone = new Microphone(line);
    await line.next("TranscriptionOf", isFinal);
    for (const wav of plan.wavs ?? []) {
      microphone.play(wav);
      await line.next("Transcription", isFinal);
      await line.next("TranscriptionOf", isFinal);
      if (plan.loseSocketAfter === wav) {
        emit("cut me off");
        await line.next("Reconnected");
      }
    }
    for (const digit of plan.dtmf ?? "") await line.connection.invoke("SendDtmfAsync", digit);
    if (!plan.agentEnds) await line.connection.invoke("EndSessionAsync", "user_ended");
    await line.next("SessionEnded");
    await line.next("closed");
    microphone.stop();
    emit("audio", { bytes: line.audioBytes, chunks: line.audioChunks });
  },

  /** Chats: waits for the greeting, sends each message and waits for the reply, ends. */
  async chat(plan) {
    const line = new Line(plan, "chat", await login(plan));
    await line.connection.start();
    await line.next("SessionStarted");
    await line.next("MessageReceived", isFinal);
    for (const content of plan.messages ?? []) {
      await line.connection.invoke("TypingAsync");
      await line.connection.invoke("SendMessageAsync", { content, metadata: {} });
      await line.next("MessageReceived", isFinal);
      if (plan.loseSocketAfter === content) {
        emit("cut me off");
        await line.next("Reconnected");
      }
    }
    if (!plan.agentEnds) await line.connection.invoke("EndSessionAsync");
    await line.next("SessionEnded");
    await line.next("closed");
  },

  /** Connects and tells how that went, until the server closes. */
  async probe(plan) {
    const line = new Line(plan, plan.hub ?? "voice", await login(plan));
    try {
      await line.connection.start();
    } catch (error) {
      return emit("refused", String(error));
    }
    emit("connected");
    await line.next("closed");
  },

  /** Chats as far as that goes, never waiting longer than `patience` ms, and tells in which state that left it. */
  async watch(plan) {
    const line = new Line(plan, "chat", await login(plan));
    const patience = () => new Promise((resolve) => setTimeout(resolve, plan.patience, "no answer"));
    if (plan.serverTimeout) line.connection.serverTimeoutInMilliseconds = plan.serverTimeout;
    const start = line.connection.start().then(() => "connected", (error) => String(error));
    const started = await Promise.race([start, patience()]);
    emit(started === "connected" ? "connected" : "refused", started);
    for (const content of started === "connected" ? plan.messages : []) {
      await Promise.race([line.next(["MessageReceived", "closed"], isFinalOrEnd), patience()]);
      if (!line.isConnected) break;
      const sent = line.connection.invoke("SendMessageAsync", { content, metadata: {} });
      const answer = sent.then((result) => ({ result }), (error) => ({ error: error.message }));
      emit("answer", await Promise.race([answer, patience()]));
    }
    if (line.isConnected) await Promise.race([line.next(["MessageReceived", "closed"], isFinalOrEnd), patience()]);
    if (plan.serverTimeout && line.isConnected) await Promise.race([line.next("closed"), patience()]);
    emit("state", line.connection.state);
    // A server that is silent would be waited for.
    process.stdout.write(JSON.stringify({ event: "done", data: null }) + "\n", () => process.exit(0));
    await new Promise(() => {});
  },

  /** Calls hub methods by name and tells what each one answers. */
  async invoke(plan) {
    const hub = plan.hub ?? "voice";
    const line = new Line(plan, hub, await login(plan));
    await line.connection.start();
    await line.next("SessionStarted");
    for (const [method, ...args] of plan.calls) {
      try {
        emit("answer", { method, result: await line.connection.invoke(method, ...args) });
      } catch (error) {
        emit("answer", { method, error: error.message });
      }
    }
    await line.connection.invoke("EndSessionAsync", ...(hub === "voice" ? ["user_ended"] : []));
    await line.next("closed");
  },
};

const plan = JSON.parse(process.argv[2]);
await plans[plan.do](plan);
emit("done");
