// Runs the checks of one program, one after the other: `plan N` first, `ok NAME` for each that held.
import assert from "node:assert/strict";

export const port = Number(process.env.RINGWOOD_PORT);
export const shards = Number(process.env.RINGWOOD_SHARDS);
export { assert };

// Waits for something that other clients bring about; only a failure takes long.
export async function until(what, condition) {
  for (let tries = 0; tries < 6000; tries++) {
    if (await condition()) return;
    await new Promise((go) => setTimeout(go, 10));
  }
  assert.fail(`never: ${what}`);
}

export async function run(checks) {
  const names = Object.keys(checks);
  console.log(`plan ${names.length}`);
  for (const name of names) {
    const began = performance.now();
    try {
      await checks[name]();
    } catch (error) {
      console.log(`not ok ${name}: ${error.stack}`);
      process.exit(1);
    }
    console.log(`ok ${name}`);
    if (process.env.RINGWOOD_TIMES) console.log(`# ${name}: ${Math.round(performance.now() - began)} ms`);
  }
  process.exit(0);
}
