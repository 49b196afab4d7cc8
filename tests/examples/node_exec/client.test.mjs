import assert from "node:assert/strict";
import test from "node:test";
import { ask, logIn } from "./client.mjs";

test("a refund is granted", async () => {
  const answers = await ask("agt_support", ["a refund please", "4179"]);
  assert.deepEqual(answers.slice(1), ["Sure. What is the order number?", "Order 4179 is refunded."]);
});

test("a wrong password is an error", async () => {
  await assert.rejects(logIn(undefined, "wrong"), /login: 4\d\d/);
});
