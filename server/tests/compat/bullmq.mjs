// BullMQ: one queue with several workers, each a connection of its own: delays, priorities, retries, flows, a repeated job.
// Its scripts build the names of their keys. Every job is done exactly once, but for those that fail on purpose.
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { assert, port, run, until } from "./check.mjs";

const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
const numbers = (n) => [...Array(n).keys()];
const opened = [];
const open = (thing) => {
  thing.on("error", (error) => console.log(`error: ${error.message}`));
  opened.push(thing);
  return thing;
};
// Several workers of one queue; `work` gets each job.
const workers = (name, count, work, options = {}) =>
  numbers(count).map(() => open(new Worker(name, work, { connection, concurrency: 4, ...options })));
const closeAll = async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
};

await run({
  async jobs() {
    const queue = open(new Queue("jobs", { connection }));
    const done = [];
    workers("jobs", 3, async (job) => {
      done.push(job.data.n);
      return job.data.n * 2;
    });
    const jobs = [];
    for (const n of numbers(10)) jobs.push(await queue.add("one", { n }));
    jobs.push(...(await queue.addBulk(numbers(190).map((n) => ({ name: "bulk", data: { n: n + 10 } })))));
    await until("all jobs are completed", async () => (await queue.getCompletedCount()) === 200);
    assert.deepEqual(done.sort((a, b) => a - b), numbers(200));
    for (const n of [0, 9, 10, 199]) assert.equal((await queue.getJob(jobs[n].id)).returnvalue, n * 2);
    const counts = await queue.getJobCounts();
    assert.equal(counts.waiting + counts.active + counts.failed + counts.delayed, 0);
    await closeAll();
  },

  async delays() {
    const queue = open(new Queue("delays", { connection }));
    const done = [];
    workers("delays", 2, async (job) => {
      done.push({ n: job.data.n, early: job.timestamp + job.data.delay - Date.now() });
    });
    for (const n of numbers(20)) {
      const delay = (n * 37) % 300;
      await queue.add("late", { n, delay }, { delay });
    }
    await until("all delayed jobs are done", async () => (await queue.getCompletedCount()) === 20);
    assert.deepEqual(done.map((d) => d.n).sort((a, b) => a - b), numbers(20));
    // Its timers count in whole milliseconds.
    assert.ok(done.every((d) => d.early <= 2), JSON.stringify(done));
    await closeAll();
  },

  async retries() {
    const queue = open(new Queue("retries", { connection }));
    const tries = new Map();
    workers("retries", 3, async (job) => {
      tries.set(job.data.n, (tries.get(job.data.n) ?? 0) + 1);
      if (job.data.n % 2 || tries.get(job.data.n) < 3) throw new Error(`no ${job.data.n}`);
      return "yes";
    });
    const options = { attempts: 3, backoff: { type: "fixed", delay: 20 } };
    for (const n of numbers(20)) await queue.add("try", { n }, options);
    await until("all jobs have ended", async () =>
      (await queue.getCompletedCount()) + (await queue.getFailedCount()) === 20);
    assert.deepEqual([...tries.values()], numbers(20).map(() => 3));
    assert.equal(await queue.getCompletedCount(), 10);
    const failed = await queue.getFailed();
    assert.ok(failed.every((job) => job.data.n % 2 && job.attemptsMade === 3 && job.failedReason === `no ${job.data.n}`));
    await closeAll();
  },

  async priorities() {
    const queue = open(new Queue("priorities", { connection }));
    const order = numbers(30).map((n) => ((n * 7) % 30) + 1);
    for (const priority of order) await queue.add("some", { priority }, { priority });
    const done = [];
    workers("priorities", 1, async (job) => {
      done.push(job.data.priority);
    }, { concurrency: 1 });
    await until("all jobs are done", async () => (await queue.getCompletedCount()) === 30);
    assert.deepEqual(done, numbers(30).map((n) => n + 1));
    await closeAll();
  },

  async flows() {
    const flow = open(new FlowProducer({ connection }));
    const parents = open(new Queue("parents", { connection }));
    workers("children", 3, async (job) => job.data.n);
    workers("parents", 2, async (job) => {
      const values = Object.values(await job.getChildrenValues());
      return values.reduce((sum, n) => sum + n, 0);
    });
    const trees = await Promise.all(numbers(10).map((tree) => flow.add({
      name: "sum",
      queueName: "parents",
      data: { tree },
      children: numbers(5).map((n) => ({ name: "part", queueName: "children", data: { n: tree * 10 + n } })),
    })));
    await until("all parents are done", async () => (await parents.getCompletedCount()) === 10);
    for (const [n, tree] of trees.entries()) {
      assert.equal((await parents.getJob(tree.job.id)).returnvalue, n * 50 + 10);
    }
    await closeAll();
  },

  async events() {
    const queue = open(new Queue("events", { connection }));
    const events = open(new QueueEvents("events", { connection }));
    await events.waitUntilReady();
    workers("events", 2, async (job) => {
      await job.updateProgress(50);
      return `done ${job.data.n}`;
    });
    const jobs = await Promise.all(numbers(10).map((n) => queue.add("told", { n })));
    const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 60000)));
    assert.deepEqual(results, numbers(10).map((n) => `done ${n}`));
    await closeAll();
  },

  async schedules() {
    const queue = open(new Queue("schedules", { connection }));
    let beats = 0;
    workers("schedules", 2, async () => {
      beats++;
    });
    await queue.upsertJobScheduler("beat", { every: 50, limit: 5 }, { name: "beat" });
    await until("five beats", () => beats >= 5);
    await queue.removeJobScheduler("beat");
    await closeAll();
  },

  async cleaning() {
    const queue = open(new Queue("jobs", { connection }));
    assert.equal((await queue.clean(0, 1000, "completed")).length, 200);
    await queue.add("left", {});
    await queue.pause();
    assert.equal(await queue.isPaused(), true);
    await queue.obliterate({ force: true });
    assert.equal(await queue.count(), 0);
    await closeAll();
  },
});
