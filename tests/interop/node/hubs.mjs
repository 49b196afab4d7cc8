// Does to a hub what programs with `@microsoft/signalr` do, and prints what it sees as JSON lines.
//
//   node hubs.mjs 8        (the client's major version: 3, 6, 8 or 10)
//
// Reads plans from standard input, one JSON object a line: {"run": 1, "do": "calls", "url": ..., "transport": ...,
// "protocol": ...}. Any number of them run at once. Each prints {"run": 1, "event": ..., "data": ...} and at last
// {"run": 1, "event": "done", "data": ...} or "failed". {"run": 1, "go": ...} lets a plan that waits for it go on.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const version = Number(process.argv[2]);
const require = createRequire(import.meta.url);
const signalr = require(version === 10 ? "@microsoft/signalr" : `signalr-${version}`);
const { MessagePackHubProtocol } = require(`signalr-msgpack-${version}`);

const TRANSPORTS = {
  ws: signalr.HttpTransportType.WebSockets,
  sse: signalr.HttpTransportType.ServerSentEvents,
  poll: signalr.HttpTransportType.LongPolling,
};

const text = (error) => (error ? error.message : null);

/** One run of a plan: its connections, what it prints, what it waits for. */
class Run {
  #going = [];
  #waiting = [];

  constructor(plan) {
    this.plan = plan;
    this.connections = [];
  }

  emit(event, data = null) {
    process.stdout.write(JSON.stringify({ run: this.plan.run, event, data }) + "\n");
  }

  go(value) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(value);
    else this.#going.push(value);
  }

  /** What the test sends to let this run go on. */
  told() {
    if (this.#going.length) return Promise.resolve(this.#going.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** A connection as the plan wants it, not started. */
  connection(more = {}) {
    const plan = { ...this.plan, ...more };
    const options = { transport: TRANSPORTS[plan.transport] };
    if (plan.skipNegotiation) options.skipNegotiation = true;
    if (plan.token) options.accessTokenFactory = () => plan.token;
    const builder = new signalr.HubConnectionBuilder();
    builder.withUrl(plan.url, options).configureLogging(plan.log ?? signalr.LogLevel.None);
    if (plan.protocol === "messagepack") builder.withHubProtocol(new MessagePackHubProtocol());
    if (plan.reconnect) builder.withAutomaticReconnect(plan.reconnect);
    if (plan.stateful) builder.withStatefulReconnect();
    const connection = builder.build();
    if (plan.keepAlive) connection.keepAliveIntervalInMilliseconds = plan.keepAlive;
    if (plan.serverTimeout) connection.serverTimeoutInMilliseconds = plan.serverTimeout;
    this.connections.push(connection);
    return connection;
  }

  async started(more) {
    const connection = this.connection(more);
    await connection.start();
    return connection;
  }
}

/** Resolves with the arguments of the next call of `target`. */
const next = (connection, target) =>
  new Promise((resolve) => {
    const handler = (...args) => {
      connection.off(target, handler);
      resolve(args);
    };
    connection.on(target, handler);
  });

const ended = (connection) => new Promise((resolve) => connection.onclose((error) => resolve(text(error))));

const outcome = (promise) => promise.then((result) => ({ result }), (error) => ({ error: error.message }));

/** Everything that a stream brings: its items, and how it ended. */
const drained = (stream) =>
  new Promise((resolve) => {
    const items = [];
    stream.subscribe({
      next: (item) => items.push(item),
      complete: () => resolve({ items }),
      error: (error) => resolve({ items, error: error.message }),
    });
  });

const inBase64 = (value) => (value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value);

const plans = {
  /** Invokes the methods of `calls`, one after the other. */
  async calls(run) {
    const connection = await run.started();
    const answers = [];
    for (const [method, ...args] of run.plan.calls) answers.push(await outcome(connection.invoke(method, ...args)));
    const id = connection.connectionId;
    await connection.stop();
    return { answers, id };
  },

  /** Bytes there and back: as base64 in JSON, as they are in MessagePack. */
  async bytes(run) {
    const connection = await run.started();
    const bytes = Buffer.from(run.plan.bytes, "base64");
    const argument = run.plan.protocol === "messagepack" ? new Uint8Array(bytes) : run.plan.bytes;
    const echoed = await connection.invoke("EchoBytes", argument);
    const length = await connection.invoke("Length", argument);
    await connection.stop();
    return { isBinary: echoed instanceof Uint8Array, echoed: inBase64(echoed), length };
  },

  /** Sends without waiting, and is called back. */
  async events(run) {
    const connection = await run.started();
    const announced = next(connection, "Announced");
    await connection.send("Announce", run.plan.value);
    const args = (await announced).map(inBase64);
    // An answer to a call that wants none would confuse this one.
    await connection.send("NoSuchMethod");
    const after = await connection.invoke("Add", 1, 2);
    await connection.stop();
    return { args, after };
  },

  async groups(run) {
    const [one, two, three] = [await run.started(), await run.started(), await run.started()];
    const heard = { one: [], two: [], three: [] };
    one.on("Told", (...args) => heard.one.push(args));
    two.on("Told", (...args) => heard.two.push(args));
    three.on("Told", (...args) => heard.three.push(args));
    for (const each of [one, two, three]) await each.invoke("Join", run.plan.group);
    const both = [next(two, "Told"), next(three, "Told")];
    await one.invoke("Tell", run.plan.group, "first");
    await Promise.all(both);
    await three.invoke("Leave", run.plan.group);
    const second = next(two, "Told");
    await one.invoke("Tell", run.plan.group, "second");
    await second;
    await three.invoke("Nothing");
    for (const each of [one, two, three]) await each.stop();
    return heard;
  },

  /** Streams from the server: to the end, to an error, until cancelled. */
  async streams(run) {
    const connection = await run.started();
    const counted = await drained(connection.stream("Count", 5));
    const failed = await drained(connection.stream("CountThenFail", 2));
    const missing = await drained(connection.stream("NoSuchMethod"));
    const plain = await drained(connection.stream("Add", 1, 2));
    const notStreamed = await outcome(connection.invoke("Count", 3));
    const some = [];
    await new Promise((resolve) => {
      const subscription = connection.stream("Endless").subscribe({
        next: (item) => {
          some.push(item);
          if (some.length === 3) {
            subscription.dispose();
            resolve();
          }
        },
        complete: () => {},
        error: () => {},
      });
    });
    const after = await connection.invoke("Add", 1, 2);
    run.emit("cancelled");
    await run.told();
    await connection.stop();
    return { counted, failed, missing, plain, notStreamed, some: some.slice(0, 3), after };
  },

  /** Streams to the server, and both ways at once. */
  async uploads(run) {
    const connection = await run.started();
    const numbers = new signalr.Subject();
    const sum = connection.invoke("Sum", numbers);
    for (const number of run.plan.numbers) numbers.next(number);
    numbers.complete();
    const total = await sum;

    const more = new signalr.Subject();
    const doubled = drained(connection.stream("Doubled", more, 1));
    for (const number of run.plan.numbers) more.next(number);
    more.complete();
    const both = await doubled;

    const broken = new signalr.Subject();
    const failing = outcome(connection.invoke("Sum", broken));
    broken.next(1);
    broken.error(new Error("the file is gone"));
    const failed = await failing;

    const none = await outcome(connection.invoke("Sum"));
    await connection.stop();
    return { total, both, failed, none };
  },

  /** The server calls and the client answers. */
  async clientResults(run) {
    const connection = run.connection();
    connection.on("Answer", (question) => {
      if (question === "fail") throw new Error("no idea");
      return `${question}!`;
    });
    await connection.start();
    const answered = await outcome(connection.invoke("AskBack", "hello"));
    const failed = await outcome(connection.invoke("AskBack", "fail"));
    connection.off("Answer");
    const silent = await outcome(connection.invoke("AskBack", "anybody"));
    await connection.stop();
    return { answered, failed, silent };
  },

  /** The client ends it while a call is still running. */
  async stops(run) {
    const connection = await run.started();
    const closed = ended(connection);
    const call = outcome(connection.invoke("Wait", run.plan.gate));
    await connection.invoke(...run.plan.beside);
    const id = connection.connectionId;
    await connection.stop();
    return { closed: await closed, call: await call, id };
  },

  /** The server ends it; a connection with automatic reconnect comes back only if it is invited to. */
  async bye(run) {
    const connection = run.connection();
    const seen = [];
    const back = new Promise((resolve) => {
      connection.onreconnecting((error) => seen.push(["reconnecting", text(error)]));
      connection.onreconnected((id) => resolve(seen.push(["reconnected", typeof id])));
      connection.onclose((error) => resolve(seen.push(["closed", text(error)])));
    });
    await connection.start();
    const before = connection.connectionId;
    const answer = await outcome(connection.invoke("Bye", run.plan.error ?? null, run.plan.allowReconnect));
    await back;
    const sofar = [...seen];
    const isNew = connection.connectionId !== before;
    const after = connection.state === "Connected" ? await connection.invoke("Add", 1, 2) : null;
    await connection.stop();
    return { answer, seen: sofar, isNew, after, before };
  },

  /** The server stops, or is killed. */
  async shutdown(run) {
    const connection = run.connection();
    const seen = [];
    const over = new Promise((resolve) => {
      connection.onreconnecting((error) => resolve(seen.push(["reconnecting", text(error)])));
      connection.onclose((error) => resolve(seen.push(["closed", text(error)])));
    });
    await connection.start();
    run.emit("connected");
    await over;
    return { seen: [...seen] };
  },

  /** The hub aborts the connection while the call that asked for it is running. */
  async abort(run) {
    const connection = run.connection();
    const seen = [];
    const over = new Promise((resolve) => {
      connection.onreconnecting((error) => resolve(seen.push(["reconnecting", text(error)])));
      connection.onclose((error) => resolve(seen.push(["closed", text(error)])));
    });
    await connection.start();
    const id = connection.connectionId;
    const call = await outcome(connection.invoke("Abort"));
    await over;
    return { call, seen, id };
  },

  /** The wire is cut by the test; the connection comes back. */
  async lost(run) {
    const connection = run.connection();
    const seen = [];
    const back = new Promise((resolve) => {
      connection.onreconnecting(() => seen.push("reconnecting"));
      connection.onreconnected(() => resolve(seen.push("reconnected")));
      connection.onclose((error) => resolve(seen.push(["closed", text(error)])));
    });
    await connection.start();
    const before = connection.connectionId;
    const call = outcome(connection.invoke("Wait", run.plan.gate));
    await connection.invoke("Nothing").catch(() => {});
    run.emit("cut me off");
    const broken = await call;
    await back;
    const sofar = [...seen];
    const after = await connection.invoke("Add", 1, 2);
    const id = connection.connectionId;
    await connection.stop();
    return { seen: sofar, broken, before, id, after };
  },

  /** Calls and events go on over several cuts of the wire, and none is lost or doubled. */
  async resumes(run) {
    const connection = run.connection();
    const seen = [];
    const heard = [];
    connection.onreconnecting(() => seen.push("reconnecting"));
    connection.onclose((error) => seen.push(["closed", text(error)]));
    connection.on("Noted", (number) => heard.push(number));
    await connection.start();
    const before = connection.connectionId;
    const answers = [];
    const calls = [];
    let number = 0;
    const call = () => calls.push(connection.invoke("Note", number++).then((answer) => answers.push(answer)));
    for (let round = 0; round < run.plan.rounds; round += 1) {
      for (let count = 0; count < run.plan.calls; count += 1) call();
      await calls[calls.length - 1];
      run.emit("swallow");
      await run.told();
      // These are sent, as far as this side can tell, and never arrive.
      for (let count = 0; count < run.plan.calls; count += 1) call();
      run.emit("cut me off");
      await run.told();
      for (let count = 0; count < run.plan.calls; count += 1) call();
      await Promise.all(calls);
    }
    const noted = await connection.invoke("AllNotes");
    connection.off("Noted");
    const after = connection.connectionId;
    const sofar = [...seen];
    await connection.stop();
    return { seen: sofar, heard, answers, noted, before, after, sent: number };
  },

  /** More than either side may send before the other has acknowledged it. */
  async floods(run) {
    const connection = await run.started();
    const received = [];
    connection.on("Flooded", (number, filling) => received.push([number, filling.length]));
    const flooded = await connection.invoke("Flood", run.plan.count, run.plan.size);
    const filling = "x".repeat(run.plan.size);
    const echoes = Array.from({ length: run.plan.count }, () => connection.invoke("Echo", filling));
    const echoed = (await Promise.all(echoes)).filter((echo) => echo === filling).length;
    await connection.stop();
    return { flooded, received, echoed };
  },

  /** Says nothing for longer than either side's time-out. */
  async idles(run) {
    const connection = await run.started();
    const closed = ended(connection);
    const before = connection.connectionId;
    const quiet = new Promise((resolve) => setTimeout(() => resolve("still here"), run.plan.idle));
    const how = await Promise.race([closed, quiet]);
    const answer = await outcome(connection.invoke("WhoAmI"));
    await connection.stop();
    return { how, answer, before };
  },

  /** Only start() and what it says. */
  async starts(run) {
    const connection = run.connection();
    const closed = ended(connection);
    const started = await outcome(connection.start().then(() => connection.state));
    if (run.plan.waitForClose) {
      run.emit("started", started);
      return { closed: await closed };
    }
    const user = started.error ? null : await outcome(connection.invoke("User"));
    const query = started.error ? null : await outcome(connection.invoke("QueryOf", "flavour"));
    await connection.stop();
    return { started, user, query };
  },

  /** Big messages one after the other, to the server and from it. */
  async big(run) {
    const connection = await run.started();
    const received = [];
    connection.on("Flooded", (number, filling) => received.push([number, filling.length]));
    const flooded = await connection.invoke("Flood", run.plan.count, run.plan.size);
    const echoed = await connection.invoke("Echo", "é".repeat(run.plan.fits));
    const closed = ended(connection);
    const tooBig = await outcome(connection.invoke("Echo", "x".repeat(run.plan.tooBig)));
    return { flooded, received, echoed: echoed.length, tooBig, closed: await closed };
  },
};

const runs = new Map();

async function start(plan) {
  const run = new Run(plan);
  runs.set(plan.run, run);
  try {
    run.emit("done", await plans[plan.do](run));
  } catch (error) {
    run.emit("failed", error.stack ?? String(error));
  } finally {
    runs.delete(plan.run);
    await Promise.allSettled(run.connections.map((connection) => connection.stop()));
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if ("go" in message) runs.get(message.run)?.go(message.go);
  else start(message);
}
process.exit(0);
