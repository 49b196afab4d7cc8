// A call over VoiceHub: the microphone's samples go to the hub and the agent's come back, both as PCM in base64. Copy this
// file, capture.js and signalr.js; the call is used as the one of webrtc.js.

import { HubConnection } from "./signalr.js";
import { EVENTS } from "./webrtc.js";

const AGENT_RATE = 24_000;
const AHEAD = 0.06; // seconds of agent audio in hand, so that a late piece leaves no gap

export async function callByVoice({ server, token, agentId, metadata = {}, listen }) {
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  const query = new URLSearchParams({ agentId, access_token: token, metadata: JSON.stringify(metadata) });
  const hub = new HubConnection(`${server}/hubs/voice?${query}`);
  const audio = new AudioContext();
  const output = audio.createMediaStreamDestination();
  let isOver = false;
  let playAt = 0;

  function close(reason = null) {
    if (isOver) return;
    isOver = true;
    hub.stop();
    microphone.getTracks().forEach((track) => track.stop());
    audio.close();
    listen("closed", reason);
  }

  hub.on("AudioReceived", (base64) => {
    if (isOver) return;
    const samples = toFloats(base64);
    const buffer = audio.createBuffer(1, samples.length, AGENT_RATE);
    buffer.copyToChannel(samples, 0);
    const source = audio.createBufferSource();
    source.buffer = buffer;
    source.connect(output);
    if (playAt < audio.currentTime) playAt = audio.currentTime + AHEAD;
    source.start(playAt);
    playAt += buffer.duration;
  });
  for (const event of EVENTS) hub.on(event, (data) => listen(event, data));
  hub.onclose = close;

  try {
    await audio.audioWorklet.addModule(new URL("./capture.js", import.meta.url));
    await hub.start();
    const capture = new AudioWorkletNode(audio, "capture");
    capture.port.onmessage = ({ data }) => hub.send("SendAudioAsync", toBase64(data));
    audio.createMediaStreamSource(microphone).connect(capture);
    listen("track", output.stream);
    listen("state", "connected");
  } catch (error) {
    close();
    throw error;
  }

  return {
    microphone,
    remote: output.stream,
    mute: (isMuted) => microphone.getTracks().forEach((track) => (track.enabled = !isMuted)),
    press: (key) => hub.invoke("SendDtmfAsync", key),
    hangUp: async () => {
      await hub.invoke("EndSessionAsync", "user_ended").catch(() => {});
      close();
    },
  };
}

function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

function toFloats(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
}
