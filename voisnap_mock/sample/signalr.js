// A SignalR client as small as it goes: JSON over a WebSocket, no fallback, no reconnecting. It is enough for Voisnap's
// hubs, and it works without a network. `@microsoft/signalr` from npm does the same calls, and more:
//
//     const hub = new HubConnection("https://host/hubs/voice?agentId=agt_support&access_token=...");
//     hub.on("SessionStarted", (session) => console.log(session.conversationId));
//     await hub.start();
//     await hub.invoke("SendDtmfAsync", "5");

const END = "\u001e"; // ends every message
const PING_EVERY = 15_000;
const SILENT_FOR = 30_000;
const [INVOCATION, COMPLETION, PING, CLOSE] = [1, 3, 6, 7];

export class HubConnection {
  #url;
  #socket;
  #handlers = new Map();
  #pending = new Map();
  #number = 0;
  #pings;
  #patience;

  /** Called once when the connection has ended, with the reason as a text, or null when it ended in order. */
  onclose = () => {};

  constructor(url) {
    this.#url = url.replace(/^http/, "ws");
  }

  /** Have `handler` called with the arguments of every event `target`. */
  on(target, handler) {
    this.#handlers.set(target.toLowerCase(), handler);
  }

  /** Connect; rejects when the server does not let us in. */
  start() {
    return new Promise((resolve, reject) => {
      const socket = (this.#socket = new WebSocket(this.#url));
      let isOpen = false;
      let reason = null;
      socket.onopen = () => socket.send(JSON.stringify({ protocol: "json", version: 1 }) + END);
      socket.onmessage = ({ data }) => {
        this.#expectMore();
        for (const text of data.split(END).slice(0, -1)) {
          const message = JSON.parse(text);
          if (isOpen) {
            if (message.type === CLOSE) reason = message.error ?? null;
            this.#receive(message);
          } else if (message.error) {
            reject(new Error(message.error));
            socket.close();
          } else {
            isOpen = true;
            this.#pings = setInterval(() => this.#write({ type: PING }), PING_EVERY);
            resolve();
          }
        }
      };
      socket.onclose = ({ code }) => {
        clearInterval(this.#pings);
        clearTimeout(this.#patience);
        if (code !== 1000 && isOpen) reason ??= `the connection was lost (code ${code})`;
        for (const { reject } of this.#pending.values()) reject(new Error(reason ?? "the connection has ended"));
        this.#pending.clear();
        // A browser does not tell a page why: the server's answer to the same address does.
        if (isOpen) this.onclose(reason);
        else reject(new Error("the server did not let us in"));
      };
    });
  }

  /** Call a method of the hub; resolves when it has been carried out. */
  invoke(target, ...args) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) return reject(new Error("not connected"));
      const invocationId = String(this.#number++);
      this.#pending.set(invocationId, { resolve, reject });
      this.#write({ type: INVOCATION, target, arguments: args, invocationId });
    });
  }

  /** Call a method of the hub without waiting for anything. */
  send(target, ...args) {
    this.#write({ type: INVOCATION, target, arguments: args });
  }

  stop() {
    this.#socket?.close(1000);
  }

  #write(message) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message) + END);
  }

  #receive({ type, target, arguments: args, invocationId, result, error }) {
    if (type === INVOCATION) this.#handlers.get(target.toLowerCase())?.(...args);
    if (type === COMPLETION && this.#pending.has(invocationId)) {
      const { resolve, reject } = this.#pending.get(invocationId);
      this.#pending.delete(invocationId);
      error === undefined ? resolve(result) : reject(new Error(error));
    }
    if (type === CLOSE) this.stop();
  }

  #expectMore() {
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => this.#socket.close(4000), SILENT_FOR);
  }
}
