// A call over WebRtcHub: signalling over SignalR, voice over WebRTC. Copy this file and signalr.js, and call
//
//     const call = await callByWebRtc({ server, token, agentId, listen: (event, data) => console.log(event, data) });
//     call.press("5"); call.mute(true); call.hangUp();

import { HubConnection } from "./signalr.js";

export const EVENTS = [
  "SessionStarted",
  "Transcription",
  "TranscriptionOf",
  "TransferInitiated",
  "Error",
  "SessionEnded",
];

/** Resolves when signalling is under way; `call.remote` gets the agent's voice when the line opens. */
export async function callByWebRtc({ server, token, agentId, metadata = {}, listen }) {
  // The microphone first: a person may take a while to allow it.
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  try {
    return await connect({ server, token, agentId, metadata, listen, microphone });
  } catch (error) {
    microphone.getTracks().forEach((track) => track.stop());
    throw error;
  }
}

async function connect({ server, token, agentId, metadata, listen, microphone }) {
  const response = await fetch(`${server}/api/v1/webrtc/sessions`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify({ agentId, metadata }),
  });
  const session = await response.json();
  if (!response.ok) throw new Error(session.detail);

  const query = new URLSearchParams({ sessionToken: session.sessionToken, access_token: token });
  const hub = new HubConnection(`${server}/hubs/webrtc?${query}`);
  const peer = new RTCPeerConnection({ iceServers: session.iceServers });
  const remote = new MediaStream();
  const [track] = microphone.getTracks();
  const sender = peer.addTrack(track, microphone);
  let isOver = false;

  function close(reason = null) {
    if (isOver) return;
    isOver = true;
    peer.close();
    hub.stop();
    track.stop();
    listen("closed", reason);
  }

  peer.ontrack = ({ track: voice }) => {
    remote.addTrack(voice);
    listen("track", remote);
  };
  peer.onicecandidate = ({ candidate }) => hub.invoke("SendIceCandidateAsync", candidate).catch(() => {});
  peer.onconnectionstatechange = () => listen("state", peer.connectionState);

  hub.on("SdpAnswerReceived", async (answer) => {
    await peer.setRemoteDescription(answer);
    early.splice(0).forEach(addCandidate);
  });
  const early = [];
  const addCandidate = (candidate) => peer.addIceCandidate(candidate).catch((error) => listen("warning", String(error)));
  hub.on("IceCandidateReceived", (candidate) => {
    peer.remoteDescription ? addCandidate(candidate) : early.push(candidate);
  });
  for (const event of EVENTS) hub.on(event, (data) => listen(event, data));
  hub.onclose = close;

  try {
    await hub.start();
    await peer.setLocalDescription();
    await hub.invoke("SendOfferAsync", { sdp: peer.localDescription.sdp, type: "offer" });
  } catch (error) {
    close();
    throw error;
  }

  return {
    microphone,
    remote,
    peer,
    mute: (isMuted) => (track.enabled = !isMuted),
    press: (key) => sender.dtmf.insertDTMF(key, 100),
    hangUp: async () => {
      await hub.invoke("EndSessionAsync", "user_ended").catch(() => {});
      close();
    },
  };
}
