// ioredis: pipelines, transactions, scripts by defineCommand, pub/sub, blocking, and its cluster client on the shards' ports.
import { Redis, Cluster } from "ioredis";
import { assert, port, run, shards, until } from "./check.mjs";

const connect = (options = {}) => new Redis({ port, ...options });
const r = connect();
const numbers = (n) => [...Array(n).keys()];

await run({
  async pipelines() {
    const pipe = r.pipeline();
    for (const n of numbers(1000)) pipe.set(`key:${n}`, n);
    assert.ok((await pipe.exec()).every(([error, reply]) => error === null && reply === "OK"));
    const keys = numbers(1000).map((n) => `key:${n}`);
    assert.deepEqual(await r.mget(keys), numbers(1000).map(String));
    // Sent without waiting: one pipeline by itself.
    const replies = await Promise.all(keys.flatMap((key) => [r.incr(key), r.get(key)]));
    assert.deepEqual(replies, numbers(1000).flatMap((n) => [n + 1, String(n + 1)]));
    const found = [];
    for await (const batch of r.scanStream({ match: "key:*", count: 100 })) found.push(...batch);
    assert.deepEqual([...new Set(found)].sort(), keys.sort());
  },

  async transactions() {
    const got = await r.multi().incr("a").lpush("l", "x", "y").hset("h", "f", "1").mget("a", "none").exec();
    assert.deepEqual(got, [[null, 1], [null, 2], [null, 1], [null, ["1", null]]]);
    const failed = await r.multi().set("text", "x").incr("text").set("b", "1").exec();
    assert.match(failed[1][0].message, /not an integer/);
    assert.equal(await r.get("b"), "1");
    await r.mset("c1", 0, "c2", 0);
    // Optimistic: whoever loses tries again.
    await Promise.all(numbers(5).map(async () => {
      const own = connect();
      for (let done = 0; done < 20;) {
        await own.watch("c1", "c2");
        const [one, two] = (await own.mget("c1", "c2")).map(Number);
        assert.equal(one, two);
        if (await own.multi().set("c1", one + 1).set("c2", two + 1).exec()) done++;
      }
      own.disconnect();
    }));
    assert.deepEqual(await r.mget("c1", "c2"), ["100", "100"]);
  },

  async scripts() {
    // The sliding window of many articles, and one whose keys are built inside.
    r.defineCommand("allow", {
      numberOfKeys: 1,
      lua: `redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1] - ARGV[2])
            if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
            redis.call('ZADD', KEYS[1], ARGV[1], ARGV[1] .. '-' .. redis.call('INCR', KEYS[1] .. ':sequence'))
            redis.call('PEXPIRE', KEYS[1], ARGV[2])
            return 1`,
    });
    const allowed = await Promise.all(numbers(50).map(() => r.allow("window", 1000000, 60000, 20)));
    assert.equal(allowed.reduce((sum, n) => sum + n), 20);
    r.defineCommand("spread", {
      lua: `local all = {}
            for n = 1, tonumber(ARGV[1]) do all[n] = redis.call('INCR', 'spread:' .. n) end
            return {#all, cjson.encode({first = all[1], last = all[#all]})}`,
    });
    for (const n of numbers(10)) {
      const [count, text] = await r.spread(0, 30);
      assert.deepEqual([count, JSON.parse(text)], [30, { first: n + 1, last: n + 1 }]);
    }
    await r.script("FLUSH");
    // ioredis sends the text again where it gets NOSCRIPT, in pipelines too.
    const pipe = r.pipeline();
    numbers(3).forEach(() => pipe.spread(0, 30));
    assert.deepEqual((await pipe.exec()).map(([, [count]]) => count), [30, 30, 30]);
  },

  async pubsub() {
    const listener = connect();
    const got = [];
    listener.on("message", (channel, message) => got.push(`${channel} ${message}`));
    listener.on("pmessage", (pattern, channel, message) => got.push(`${pattern} ${channel} ${message}`));
    assert.equal(await listener.subscribe("news", "more"), 2);
    assert.equal(await listener.psubscribe("n?ws"), 3);
    for (const n of numbers(100)) assert.equal(await r.publish("news", n), 2);
    await until("all messages", () => got.length === 200);
    const want = (prefix) => numbers(100).map((n) => `${prefix} ${n}`);
    assert.deepEqual(got.filter((m) => m.startsWith("news ")), want("news"));
    assert.deepEqual(got.filter((m) => m.startsWith("n?ws ")), want("n?ws news"));
    listener.disconnect();
  },

  async blocking() {
    const done = [];
    const workers = numbers(4).map(async () => {
      const own = connect();
      for (;;) {
        const [, job] = await own.blpop("urgent", "normal", 60);
        if (job === "end") break;
        done.push(job);
      }
      own.disconnect();
    });
    for (const n of numbers(200)) await r.rpush(n % 3 ? "normal" : "urgent", n);
    await until("all jobs", () => done.length === 200);
    await r.rpush("normal", "end", "end", "end", "end");
    await Promise.all(workers);
    assert.deepEqual(done.map(Number).sort((a, b) => a - b), numbers(200));
    assert.equal(await r.exists("urgent", "normal"), 0);
  },

  async streams() {
    const reader = connect();
    const got = [];
    const reading = (async () => {
      for (let last = "0"; got.length < 50;) {
        const reply = await reader.xread("COUNT", 7, "BLOCK", 60000, "STREAMS", "stream", last);
        for (const [id, fields] of reply[0][1]) {
          got.push(Number(fields[1]));
          last = id;
        }
      }
    })();
    for (const n of numbers(50)) await r.xadd("stream", "*", "n", n);
    await reading;
    assert.deepEqual(got, numbers(50));
    reader.disconnect();
  },

  async cluster() {
    if (shards === 0) return;
    const cluster = new Cluster([{ host: "127.0.0.1", port: port + 1 }]);
    const pairs = numbers(300).map((n) => [`node:${n}`, String(n)]);
    await Promise.all(pairs.map(([key, value]) => cluster.set(key, value)));
    assert.deepEqual(await Promise.all(pairs.map(([key]) => cluster.get(key))), pairs.map(([, value]) => value));
    assert.equal(cluster.nodes("master").length, shards);
    const got = await cluster.multi().incr("{tag}:a").incr("{tag}:b").mget("{tag}:a", "{tag}:b").exec();
    assert.deepEqual(got.map(([, reply]) => reply), [1, 1, ["1", "1"]]);
    cluster.defineCommand("bump", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    assert.equal(await cluster.bump("node:7", 5), 12);
    const messages = [];
    const listener = new Cluster([{ host: "127.0.0.1", port: port + 1 }]);
    listener.on("message", (channel, message) => messages.push(message));
    await listener.subscribe("cluster-news");
    for (const n of numbers(20)) await cluster.publish("cluster-news", n);
    await until("the cluster's messages", () => messages.length === 20);
    assert.deepEqual(messages, numbers(20).map(String));
    // The ordinary port sees the same keys.
    assert.deepEqual(await r.mget("node:1", "node:7"), ["1", "12"]);
    cluster.disconnect();
    listener.disconnect();
  },
});
