// Runs the calls that a test writes, one JSON array a line, on the example client; answers with one JSON object a line.
import { createInterface } from 'node:readline';
import { SessionManager } from '../../examples/javascript/session-manager.mjs';

let now = 0;
const options = { ...JSON.parse(process.argv[2]), now: () => now };
const sessions = new SessionManager(options);

for await (const line of createInterface({ input: process.stdin })) {
  const [at, call, ...args] = JSON.parse(line);
  now = at;
  let outcome;
  try {
    outcome = { value: (await sessions[call](...args)) ?? null };
  } catch (error) {
    outcome = { error: error.name, message: error.message, status: error.status ?? null, type: error.type ?? null };
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}
