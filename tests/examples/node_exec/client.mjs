// The program under test: logs in and asks an agent by chat.
import { HubConnectionBuilder, LogLevel } from "@microsoft/signalr";

const base = process.env.VOISNAP_BASE_URL ?? "https://api.voisnap.ai";

export async function logIn(email = process.env.VOISNAP_EMAIL, password = process.env.VOISNAP_PASSWORD) {
  const response = await fetch(`${base}/api/v1/auth/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ email, password }),
  });
  if (!response.ok) throw new Error(`login: ${response.status}`);
  return (await response.json()).accessToken;
}

/** The agent's answers to the questions, its greeting first. */
export async function ask(agent, questions) {
  const token = await logIn();
  const hub = new HubConnectionBuilder()
    .withUrl(`${base}/hubs/chat?agentId=${agent}`, { accessTokenFactory: () => token })
    .configureLogging(LogLevel.None)
    .build();
  const said = [];
  let wake = () => {};
  hub.on("MessageReceived", ({ content, isFinal }) => {
    if (isFinal) said.push(content);
    wake();
  });
  const answer = async (number) => {
    while (said.length <= number) await new Promise((resolve) => (wake = resolve));
  };
  await hub.start();
  await answer(0);
  for (const [number, content] of questions.entries()) {
    await hub.invoke("SendMessageAsync", { content, metadata: {} });
    await answer(number + 1);
  }
  await hub.stop();
  return said;
}
