"""redis-py: pipelines, WATCH, locks, scripts, pub/sub, blocking, both protocols, and the cluster client on the shards' ports."""

import os
import sys
import threading
import time

import redis

PORT = int(os.environ["RINGWOOD_PORT"])
SHARDS = int(os.environ["RINGWOOD_SHARDS"])


def client(protocol=2, **more):
    return redis.Redis(port=PORT, protocol=protocol, decode_responses=True, socket_timeout=60, **more)


def together(count, work):
    """Runs work(0..count) in threads; the first that failed fails all."""
    errors = []

    def one(n):
        try:
            work(n)
        except BaseException as error:  # told below
            errors.append(error)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def pipelines(protocol):
    r = client(protocol)
    r.flushall()
    with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"key:{n}", n)
        assert pipe.execute() == [True] * 1000
    keys = [f"key:{n}" for n in range(1000)]
    assert r.mget(keys) == [str(n) for n in range(1000)]
    assert sorted(r.scan_iter(count=50)) == sorted(keys)
    with r.pipeline(transaction=True) as pipe:
        pipe.incr("key:1").lpush("list", "a", "b").hset("hash", mapping={"f": 1, "g": 2}).zadd("zset", {"m": 1.5})
        pipe.mget("key:1", "key:2").hgetall("hash").zrange("zset", 0, -1, withscores=True)
        got = pipe.execute()
    score = [("m", 1.5)] if protocol == 2 else [["m", 1.5]]
    assert got[:6] == [2, 2, 2, 1, ["2", "2"], {"f": "1", "g": "2"}], got
    assert got[6] in (score, [("m", 1.5)], [["m", 1.5]]), got
    with r.pipeline(transaction=True) as pipe:
        pipe.set("text", "x").incr("text").set("after", "y")
        got = pipe.execute(raise_on_error=False)
    assert got[0] is True and isinstance(got[1], redis.ResponseError) and got[2] is True


def watch(protocol):
    r = client(protocol)
    r.set("counter:a", 0)
    r.set("counter:b", 0)

    def add(n):
        mine = client(protocol)

        def step(pipe):
            # Not one step: they may differ, but then EXEC does nothing.
            a, b = int(pipe.get("counter:a")), int(pipe.get("counter:b"))
            pipe.multi()
            pipe.set("counter:a", a + 1)
            pipe.set("counter:b", b + 1)

        for _ in range(25):
            mine.transaction(step, "counter:a", "counter:b")

    together(6, add)
    assert r.mget("counter:a", "counter:b") == ["150", "150"]


def locks(protocol):
    r = client(protocol)
    inside, highest, done = [0], [0], []

    def work(n):
        mine = client(protocol)
        for _ in range(10):
            with mine.lock("lock:resource", timeout=60, sleep=0.002):
                inside[0] += 1
                highest[0] = max(highest[0], inside[0])
                done.append(n)
                inside[0] -= 1

    together(6, work)
    assert highest[0] == 1 and len(done) == 60
    lock = r.lock("lock:other", timeout=60)
    assert lock.acquire(blocking=False)
    assert not r.lock("lock:other", timeout=60).acquire(blocking=False)
    assert lock.extend(60, replace_ttl=True) and lock.reacquire() and lock.owned()
    lock.release()
    try:
        lock.release()
        raise AssertionError("released twice")
    except redis.exceptions.LockError:
        pass


def scripts(protocol):
    r = client(protocol)
    # Builds the names of its keys: no key is declared.
    script = r.register_script("""
        local total = 0
        for n = 1, tonumber(ARGV[1]) do
            total = total + redis.call('INCRBY', 'built:' .. n, n)
        end
        return {total, redis.call('MGET', 'built:1', 'built:2', 'built:none'), redis.status_reply('FINE')}
    """)
    assert script(args=[10]) == [55, ["1", "2", None], "FINE"]
    r.script_flush()
    assert script(args=[10])[0] == 110
    move = r.register_script("""
        local have = tonumber(redis.call('GET', KEYS[1]) or 0)
        if have < tonumber(ARGV[1]) then return redis.error_reply('POOR not enough') end
        redis.call('DECRBY', KEYS[1], ARGV[1])
        redis.call('INCRBY', KEYS[2], ARGV[1])
        return 1
    """)
    r.mset({"account:1": 100, "account:2": 0})
    together(4, lambda n: [move(keys=["account:1", "account:2"], args=[5], client=client(protocol)) for _ in range(5)])
    assert r.mget("account:1", "account:2") == ["0", "100"]
    try:
        move(keys=["account:1", "account:2"], args=[5])
        raise AssertionError("moved what was not there")
    except redis.ResponseError as error:
        assert "not enough" in str(error), error
    r.function_load("#!lua name=sums\nredis.register_function('sum', function(keys, args)"
                    " local s = 0 for _, k in ipairs(keys) do s = s + tonumber(redis.call('GET', k)) end return s end)",
                    replace=True)
    assert r.fcall("sum", 2, "account:1", "account:2") == 100


def pubsub(protocol):
    r = client(protocol)
    listener = client(protocol).pubsub()
    listener.subscribe("news")
    listener.psubscribe("sport.*")
    ready = [listener.get_message(timeout=60)["type"] for _ in range(2)]
    assert ready == ["subscribe", "psubscribe"], ready
    for n in range(200):
        assert r.publish("news" if n % 2 else "sport.chess", n) == 1
    got = [listener.get_message(timeout=60) for _ in range(200)]
    assert [m["data"] for m in got] == [str(n) for n in range(200)]
    assert got[0]["type"] == "pmessage" and got[0]["pattern"] == "sport.*" and got[1]["type"] == "message"
    assert r.pubsub_numsub("news") == [("news", 1)] and r.pubsub_numpat() == 1
    listener.unsubscribe("news")
    assert listener.get_message(timeout=60)["type"] == "unsubscribe"
    assert r.publish("news", "x") == 0
    shard = client(protocol).pubsub()
    r.config_set("notify-keyspace-events", "KEA")
    shard.psubscribe("__keyevent@0__:*")
    shard.get_message(timeout=60)
    r.set("event", 1)
    r.delete("event")
    seen = [shard.get_message(timeout=60)["channel"] for _ in range(2)]
    r.config_set("notify-keyspace-events", "")
    assert seen == ["__keyevent@0__:set", "__keyevent@0__:del"], seen
    listener.close()
    shard.close()


def queue(protocol):
    """Each job of a list, and of a stream's group, is taken by exactly one worker."""
    r = client(protocol)
    taken = []

    def work(n):
        mine = client(protocol)
        while True:
            job = mine.blmove("jobs", f"working:{n}", 30, "LEFT", "RIGHT")
            if job == "end":
                return
            taken.append(job)
            assert mine.lrem(f"working:{n}", 1, job) == 1

    def feed(n):
        if n < 4:
            return work(n)
        for job in range(200):
            r.rpush("jobs", job)
        r.rpush("jobs", *["end"] * 4)

    together(5, feed)
    assert sorted(map(int, taken)) == list(range(200))
    r.xgroup_create("stream", "group", mkstream=True)
    for n in range(100):
        r.xadd("stream", {"n": n})
    got = []

    def read(n):
        mine = client(protocol)
        while True:
            entries = mine.xreadgroup("group", f"consumer:{n}", {"stream": ">"}, count=7)
            if not entries:
                return
            for _, batch in entries.items() if isinstance(entries, dict) else entries:
                for part in [batch] if isinstance(batch[0], tuple) else batch:
                    for ident, fields in part if isinstance(part, list) else [part]:
                        got.append(int(fields["n"]))
                        assert mine.xack("stream", "group", ident) == 1

    together(4, read)
    assert sorted(got) == list(range(100)), got
    assert r.xpending("stream", "group")["pending"] == 0


def caching(protocol):
    if protocol == 2:
        return
    from redis.cache import CacheConfig

    cached = client(3, cache_config=CacheConfig())
    r = client(3)
    for n in range(20):
        r.set(f"cached:{n}", "old")
        assert cached.get(f"cached:{n}") == "old"
        assert cached.get(f"cached:{n}") == "old"
    assert cached.get_cache().size == 20
    for n in range(20):
        r.set(f"cached:{n}", "new")
    end = time.time() + 60
    while [cached.get(f"cached:{n}") for n in range(20)] != ["new"] * 20:
        assert time.time() < end, "a cache kept what had changed"
        time.sleep(0.01)


def cluster(protocol):
    if SHARDS == 0:
        return
    r = redis.RedisCluster(host="127.0.0.1", port=PORT + 1, decode_responses=True, protocol=protocol)
    assert len(r.get_nodes()) == SHARDS, r.get_nodes()
    for n in range(200):
        assert r.set(f"node:{n}", n)
    assert [r.get(f"node:{n}") for n in range(200)] == [str(n) for n in range(200)]
    with r.pipeline() as pipe:
        for n in range(200):
            pipe.incr(f"node:{n}")
        assert pipe.execute() == [n + 1 for n in range(200)]
    assert r.mset_nonatomic({f"m:{n}": n for n in range(50)})
    assert r.eval("return redis.call('INCR', KEYS[1])", 1, "node:7") == 9
    assert sum(1 for _ in r.scan_iter(match="node:*")) == 200
    # The ordinary port sees the same keys.
    assert client(protocol).mget([f"m:{n}" for n in range(50)]) == [str(n) for n in range(50)]
    r.close()


def main():
    checks = [pipelines, watch, locks, scripts, pubsub, queue, caching, cluster]
    print(f"plan {2 * len(checks)}")
    for protocol in (2, 3):
        client(protocol).flushall()
        for check in checks:
            check(protocol)
            print(f"ok {check.__name__} RESP{protocol}")


if __name__ == "__main__":
    sys.exit(main())
