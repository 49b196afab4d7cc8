// A conversation in text over ChatHub. Copy this file and signalr.js, and call
//
//     const chat = await startChat({ server, token, agentId, listen: (event, data) => console.log(event, data) });
//     chat.say("I want a refund"); chat.hangUp();

import { HubConnection } from "./signalr.js";

const EVENTS = ["SessionStarted", "MessageReceived", "TypingIndicator", "TransferInitiated", "Error", "SessionEnded"];

export async function startChat({ server, token, agentId, metadata = {}, listen }) {
  const query = new URLSearchParams({ agentId, access_token: token, metadata: JSON.stringify(metadata) });
  const hub = new HubConnection(`${server}/hubs/chat?${query}`);
  for (const event of EVENTS) hub.on(event, (data) => listen(event, data));
  hub.onclose = (reason) => listen("closed", reason);
  await hub.start();
  return {
    say: (content) => hub.invoke("SendMessageAsync", { content, metadata: {} }),
    hangUp: async () => {
      await hub.invoke("EndSessionAsync").catch(() => {});
      hub.stop();
    },
  };
}
