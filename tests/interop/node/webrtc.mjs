// Calls an agent over WebRtcHub with libwebrtc, the engine of browsers, and prints what it sees as JSON lines.
//
//     node webrtc.mjs '{"url": "http://127.0.0.1:8647", "agent": "agt_line", "token": "...", "say": "speech.pcm", "keep": "heard.pcm"}'
//
// `say` is PCM at 16 kHz, spoken after the first final transcript of the agent; after the second one it hangs up. What
// the agent was heard to say is written to `keep`, PCM at 48 kHz.

import { appendFileSync, readFileSync } from "node:fs";
import { HubConnectionBuilder, LogLevel } from "@microsoft/signalr";
import wrtc from "@roamhq/wrtc";

const { RTCPeerConnection, nonstandard } = wrtc;
const EVENTS = ["SessionStarted", "Transcription", "TranscriptionOf", "Error", "SessionEnded"];
const PIECE = 160; // samples of 10 ms at 16 kHz

const emit = (event, data = null) => process.stdout.write(JSON.stringify({ event, data }) + "\n");
const plan = JSON.parse(process.argv[2]);

const response = await fetch(`${plan.url}/api/v1/webrtc/sessions`, {
  method: "POST",
  headers: { "Content-Type": "application/json", Authorization: `Bearer ${plan.token}` },
  body: JSON.stringify({ agentId: plan.agent, metadata: {} }),
});
const session = await response.json();
emit("session", { status: response.status, iceServers: session.iceServers });

const hub = new HubConnectionBuilder()
  .withUrl(`${plan.url}/hubs/webrtc?sessionToken=${session.sessionToken}`, { accessTokenFactory: () => plan.token })
  .configureLogging(LogLevel.None)
  .build();
const peer = new RTCPeerConnection({ iceServers: session.iceServers });
const source = new nonstandard.RTCAudioSource();
const track = source.createTrack();
const words = [];
let replies = 0;

peer.addTrack(track);
peer.ontrack = ({ track: voice }) => {
  const sink = new nonstandard.RTCAudioSink(voice);
  sink.ondata = ({ samples, sampleRate }) => {
    if (sampleRate === 48_000) appendFileSync(plan.keep, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength));
  };
};
peer.onicecandidate = ({ candidate }) => hub.invoke("SendIceCandidateAsync", candidate).catch((error) => emit("refused", String(error)));
peer.onconnectionstatechange = () => emit("state", peer.connectionState);

const early = [];
hub.on("SdpAnswerReceived", async (answer) => {
  await peer.setRemoteDescription(answer);
  for (const candidate of early.splice(0)) await peer.addIceCandidate(candidate);
});
hub.on("IceCandidateReceived", (candidate) => {
  if (peer.remoteDescription) peer.addIceCandidate(candidate);
  else early.push(candidate);
});
for (const event of EVENTS) hub.on(event, (data) => emit(event, data));
hub.on("TranscriptionOf", ({ isFinal }) => {
  if (isFinal) replies += 1;
  if (isFinal && replies === 1) words.push(...readFileSync(plan.say));
  if (isFinal && replies === 2) hub.invoke("EndSessionAsync", "user_ended");
});
const over = new Promise((resolve) => hub.onclose(resolve));

// The microphone: silence when there is nothing to say, on an absolute schedule.
const began = performance.now();
let pieces = 0;
const microphone = setInterval(() => {
  for (; pieces * 10 < performance.now() - began; pieces++) {
    const bytes = Uint8Array.from({ length: PIECE * 2 }, (_, at) => words[at] ?? 0);
    words.splice(0, PIECE * 2);
    source.onData({ samples: new Int16Array(bytes.buffer), sampleRate: 16_000, bitsPerSample: 16, channelCount: 1 });
  }
}, 10);

await hub.start();
await peer.setLocalDescription(await peer.createOffer());
await hub.invoke("SendOfferAsync", { sdp: peer.localDescription.sdp, type: "offer" });
await over;
clearInterval(microphone);
peer.close();
emit("done");
process.exit(0);
