// node-redis: pipelines, transactions, scripts, pub/sub (sharded too), blocking from a pool, RESP3 with client-side caching, and
// its cluster client on the shards' ports.
import { createClient, createCluster, createClientPool, defineScript, WatchError } from "redis";
import { assert, port, run, shards, until } from "./check.mjs";

const url = `redis://127.0.0.1:${port}`;
const connect = async (options = {}) => {
  const client = createClient({ url, ...options });
  client.on("error", (error) => console.log(`error: ${error.message}`));
  return client.connect();
};
const numbers = (n) => [...Array(n).keys()];
const transfer = defineScript({
  NUMBER_OF_KEYS: 2,
  SCRIPT: `local have = tonumber(redis.call('GET', KEYS[1]) or '0')
           if have < tonumber(ARGV[1]) then return 0 end
           redis.call('DECRBY', KEYS[1], ARGV[1])
           redis.call('INCRBY', KEYS[2], ARGV[1])
           redis.call('INCR', 'transfers:' .. KEYS[1])
           return 1`,
  parseCommand(parser, from, to, amount) {
    parser.pushKey(from);
    parser.pushKey(to);
    parser.push(String(amount));
  },
  transformReply: (reply) => reply === 1,
});
const r = await connect({ scripts: { transfer } });

await run({
  async pipelines() {
    const keys = numbers(1000).map((n) => `key:${n}`);
    const replies = await Promise.all(keys.flatMap((key, n) => [r.set(key, String(n)), r.incr(key), r.get(key)]));
    assert.deepEqual(replies, numbers(1000).flatMap((n) => ["OK", n + 1, String(n + 1)]));
    assert.deepEqual(await r.mGet(keys), numbers(1000).map((n) => String(n + 1)));
    const found = new Set();
    for await (const batch of r.scanIterator({ MATCH: "key:*", COUNT: 100 })) [batch].flat().forEach((key) => found.add(key));
    assert.equal(found.size, 1000);
    await r.hSet("hash", { f: "1", g: "2" });
    assert.deepEqual({ ...(await r.hGetAll("hash")) }, { f: "1", g: "2" });
    await r.zAdd("zset", [{ score: 1.5, value: "a" }, { score: 2, value: "b" }]);
    assert.deepEqual(await r.zRangeWithScores("zset", 0, -1), [{ value: "a", score: 1.5 }, { value: "b", score: 2 }]);
  },

  async transactions() {
    const got = await r.multi().set("a", "1").incr("a").lPush("l", ["x", "y"]).mGet(["a", "none"]).exec();
    assert.deepEqual(got, ["OK", 2, 2, ["2", null]]);
    await r.mSet({ c1: "0", c2: "0" });
    await Promise.all(numbers(5).map(async () => {
      const own = await connect();
      for (let done = 0; done < 20;) {
        await own.watch(["c1", "c2"]);
        const [one, two] = (await own.mGet(["c1", "c2"])).map(Number);
        assert.equal(one, two);
        try {
          await own.multi().set("c1", String(one + 1)).set("c2", String(two + 1)).exec();
          done++;
        } catch (error) {
          assert.ok(error instanceof WatchError, String(error));
        }
      }
      own.destroy();
    }));
    assert.deepEqual(await r.mGet(["c1", "c2"]), ["100", "100"]);
  },

  async scripts() {
    await r.mSet({ "account:1": "100", "account:2": "0" });
    const moved = await Promise.all(numbers(30).map(() => r.transfer("account:1", "account:2", 5)));
    assert.equal(moved.filter((done) => done).length, 20);
    assert.deepEqual(await r.mGet(["account:1", "account:2", "transfers:account:1"]), ["0", "100", "20"]);
    const answer = await r.eval("return {KEYS[1], ARGV[1], #ARGV}", { keys: ["k"], arguments: ["x", "y"] });
    assert.deepEqual(answer, ["k", "x", 2]);
    await r.functionLoad("#!lua name=lib\nredis.register_function{function_name='twice', flags={'no-writes'},"
      + " callback=function(keys) return redis.call('GET', keys[1]) * 2 end}", { REPLACE: true });
    assert.equal(await r.fCallRo("twice", { keys: ["account:2"], arguments: [] }), 200);
  },

  async pubsub() {
    const listener = await connect();
    const got = [];
    const bySlot = [];
    await listener.subscribe("news", (message, channel) => got.push(`${channel} ${message}`));
    await listener.pSubscribe("n*s", (message, channel) => got.push(`pattern ${message}`));
    await listener.sSubscribe("shard", (message) => bySlot.push(message));
    for (const n of numbers(100)) {
      assert.equal(await r.publish("news", String(n)), 2);
      assert.equal(await r.sPublish("shard", String(n)), 1);
    }
    await until("all messages", () => got.length === 200 && bySlot.length === 100);
    assert.deepEqual(got.filter((m) => m.startsWith("news")), numbers(100).map((n) => `news ${n}`));
    assert.deepEqual(bySlot, numbers(100).map(String));
    await listener.unsubscribe("news");
    assert.equal(await r.publish("news", "x"), 1);
    listener.destroy();
  },

  async pool() {
    const pool = createClientPool({ url }, { minimum: 1, maximum: 8 });
    pool.on("error", (error) => console.log(`error: ${error.message}`));
    await pool.connect();
    const waiting = numbers(6).map((n) => pool.blPop(`answer:${n}`, 60));
    for (const n of numbers(6)) await r.rPush(`answer:${n}`, `for ${n}`);
    assert.deepEqual((await Promise.all(waiting)).map((a) => a.element), numbers(6).map((n) => `for ${n}`));
    pool.destroy();
  },

  async resp3() {
    const three = await connect({ RESP: 3 });
    await three.zAdd("z3", [{ score: 1.5, value: "a" }]);
    assert.equal(await three.zScore("z3", "a"), 1.5);
    assert.deepEqual({ ...(await three.hGetAll("hash")) }, { f: "1", g: "2" });
    const cached = await connect({ RESP: 3, clientSideCache: { ttl: 0, maxEntries: 0, evictPolicy: "LRU" } });
    for (const n of numbers(20)) await three.set(`cached:${n}`, "old");
    for (const n of numbers(20)) assert.equal(await cached.get(`cached:${n}`), "old");
    for (const n of numbers(20)) await three.set(`cached:${n}`, "new");
    await until("no cached value is old", async () => {
      for (const n of numbers(20)) if ((await cached.get(`cached:${n}`)) !== "new") return false;
      return true;
    });
    three.destroy();
    cached.destroy();
  },

  async cluster() {
    if (shards === 0) return;
    const cluster = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${port + 1}` }], scripts: { transfer } });
    cluster.on("error", (error) => console.log(`error: ${error.message}`));
    await cluster.connect();
    assert.equal(cluster.masters.length, shards);
    const pairs = numbers(300).map((n) => [`node:${n}`, String(n)]);
    await Promise.all(pairs.map(([key, value]) => cluster.set(key, value)));
    assert.deepEqual(await Promise.all(pairs.map(([key]) => cluster.get(key))), pairs.map(([, value]) => value));
    assert.deepEqual(await cluster.multi().incr("{tag}:a").incr("{tag}:b").exec(), [1, 1]);
    const messages = [];
    await cluster.sSubscribe("slot-news", (message) => messages.push(message));
    for (const n of numbers(20)) await cluster.sPublish("slot-news", String(n));
    await until("the slot's messages", () => messages.length === 20);
    assert.deepEqual(messages, numbers(20).map(String));
    assert.equal(await r.get("node:7"), "7");
    cluster.destroy();
  },
});
