// plainjob's side of the comparison, in the words of bench/drive.py: node plainjob.mjs put|drain PATH SYNCHRONOUS COUNT
// It needs what drains a queue of plainjob's worker loop, without the loop, which would rest a second when idle.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";

const [home, verb, path, synchronous, count] = process.argv.slice(2);
const require = createRequire(`${home}/package.json`);
const Database = require("better-sqlite3");
const { better, defineQueue } = await import(pathToFileURL(`${home}/node_modules/plainjob/dist/plainjob.js`));

const database = new Database(path, { timeout: 30000 });
const queue = defineQueue({ connection: better(database), logger: { error() {}, warn() {}, info() {}, debug() {} } });
database.pragma(`synchronous = ${synchronous}`);
const payload = { source: "0199a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b", preset: "podcast" };
// Monotonic and of the whole machine, as the other processes' clock is.
const now = () => Number(process.hrtime.bigint()) / 1e9;

console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) break;
const began = now();
let jobs = 0;
if (verb === "put") {
  for (; jobs < Number(count); jobs++) queue.add("ingest", payload);
} else {
  for (; jobs < Number(count); jobs++) {
    const job = queue.getAndMarkJobAsProcessing("ingest");
    if (!job) break;
    queue.getJobById(job.id); // what its worker does to learn what the job is
    queue.markJobAsDone(job.id);
  }
}
console.log(JSON.stringify({ jobs, began, ended: now() }));
queue.close();
process.exit(0);
