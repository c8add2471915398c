"""Celery with Redis as broker and result backend: workers that prefork and that use threads; results, groups, chords, chains,
retries, countdowns. Every task is done exactly once."""

import os
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery, chain, chord, group

PORT = os.environ["RINGWOOD_PORT"]
app = Celery("celery_app", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=4, broker_connection_retry_on_startup=True,
                result_expires=600, worker_hijack_root_logger=False, worker_enable_remote_control=True)


def counter():
    import redis

    return redis.Redis(port=int(PORT), db=2)


@app.task
def add(a, b):
    counter().hincrby("done", f"{a}+{b}", 1)
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=5, default_retry_delay=0)
def stubborn(self, n):
    if counter().incr(f"tries:{n}") < 3:
        raise self.retry(countdown=0)
    return n


@app.task
def fails(n):
    raise ValueError(f"no {n}")


def results():
    pending = [add.delay(n, 1000) for n in range(150)]
    assert [p.get(timeout=120) for p in pending] == [n + 1000 for n in range(150)]
    done = counter().hgetall("done")
    assert len(done) == 150 and set(done.values()) == {b"1"}, done


def groups():
    got = group(add.s(n, n) for n in range(40)).apply_async().get(timeout=120)
    assert got == [2 * n for n in range(40)], got


def chords():
    for size in (1, 10, 30):
        assert chord((add.s(n, 1) for n in range(size)), total.s()).apply_async().get(timeout=120) == \
            sum(n + 1 for n in range(size))
    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get(timeout=120) == 10


def retries():
    pending = [stubborn.delay(n) for n in range(10)]
    assert [p.get(timeout=120) for p in pending] == list(range(10))
    assert [int(counter().get(f"tries:{n}")) for n in range(10)] == [3] * 10
    try:
        fails.delay(7).get(timeout=120)
        raise AssertionError("did not fail")
    except ValueError as error:
        assert str(error) == "no 7"


def countdowns():
    began = time.time()
    pending = [add.apply_async((n, 5000), countdown=1) for n in range(10)]
    assert [p.get(timeout=120) for p in pending] == [n + 5000 for n in range(10)]
    assert time.time() - began >= 1
    for n in range(10):
        assert counter().hget("done", f"{n}+5000") == b"1"


def control():
    answers = app.control.ping(timeout=5)
    assert len(answers) == 2 and all(list(a.values()) == [{"ok": "pong"}] for a in answers), answers
    assert app.control.inspect(timeout=5).active() is not None


def emptied():
    """Nothing is left behind: no task waits, none is unacknowledged."""
    import redis

    broker = redis.Redis(port=int(PORT), db=0)
    end = time.time() + 60
    while broker.llen("celery") or broker.hlen("unacked"):
        assert time.time() < end, (broker.llen("celery"), broker.hlen("unacked"))
        time.sleep(0.05)


def main():
    checks = [results, groups, chords, retries, countdowns, control, emptied]
    print(f"plan {len(checks)}")
    worker = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--loglevel", "WARNING"]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent), C_FORCE_ROOT="1")
    workers = [subprocess.Popen(worker + ["-n", f"{pool}@%h", "--pool", pool, "--concurrency", "2"], env=environment)
               for pool in ("prefork", "threads")]
    try:
        end = time.time() + 120
        while len(app.control.ping(timeout=1) or []) < 2:
            assert time.time() < end and all(w.poll() is None for w in workers), "the workers did not start"
        for check in checks:
            check()
            print(f"ok {check.__name__}")
    finally:
        for each in workers:
            each.terminate()
        for each in workers:
            try:
                each.wait(20)
            except subprocess.TimeoutExpired:
                each.kill()


if __name__ == "__main__":
    sys.exit(main())
