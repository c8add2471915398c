#!/usr/bin/env python3
"""How fast servers load a snapshot: the same file, made by a real Redis, loaded by each server in turn.

Measured is the time from the start of the process until PING answers PONG, and the CPU time (user and system) of the whole process
until then; the server's start with an empty file is measured too and taken off. Rounds are interleaved, and the median counts. CPU time
holds on a busy machine; the wall clock does so only where the CPUs given are free.

Usage: bench/loading.py [--keys 10000000] [--rounds 3] [--cpus 0,1] [--ringwood target/release/ringwood] [--shards 1,2]
                        [--redis peers/bin/redis-server-8.2] [--file dump.rdb]

The file has, of every 20 keys, 15 small strings (16 to 64 bytes, one of them with an expiry), 2 hashes of 5 fields, a list of 10, a set of 8 and a
sorted set of 8 elements. `--file` keeps it, and takes it if it is there already.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILL = """
local from, to = tonumber(ARGV[1]), tonumber(ARGV[2])
for n = from, to - 1 do
  local kind = n % 20
  if kind < 15 then
    redis.call('SET', 'key:' .. n, string.sub(redis.sha1hex(n) .. redis.sha1hex(-n), 1, 16 + n * 7 % 49))
    if kind == 0 then redis.call('PEXPIREAT', 'key:' .. n, '4102444800000') end
  elseif kind < 17 then
    redis.call('HSET', 'hash:' .. n, 'name', 'user ' .. n, 'mail', n .. '@example.com', 'age', n % 90, 'city', 'town', 'score', n)
  elseif kind == 17 then
    redis.call('RPUSH', 'list:' .. n, n, 'a', 'b', 'c', 'd', 'element ' .. n, n + 1, n + 2, n + 3, 'last')
  elseif kind == 18 then
    redis.call('SADD', 'set:' .. n, 'm' .. n, 'a', 'b', 'c', 'd', 'e', 'f', 'member')
  else
    redis.call('ZADD', 'zset:' .. n, 1, 'a', 2, 'b', 3, 'c', 4, 'd', n, 'e', 6.5, 'f', 7, 'g', 8, 'member')
  end
end
"""


def words(*args):
    parts = [str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        self.file = self.socket.makefile("rb")

    def call(self, *args):
        self.socket.sendall(words(*args))
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server is gone")
        if line[:1] == b"$":
            length = int(line[1:])
            return self.file.read(length + 2)[:-2].decode() if length >= 0 else None
        return line.decode().strip()


class Server:
    def __init__(self, command, folder, port, cpus):
        def pin():
            os.sched_setaffinity(0, cpus)
            os.setsid()
        env = dict(os.environ)
        peers = Path(command[0]).resolve().parent.parent / "lib"
        if peers.is_dir():
            env["LD_LIBRARY_PATH"] = str(peers)
        options = ["--port", str(port), "--dir", str(folder), "--dbfilename", "dump.rdb", "--save", "", "--enable-debug-command", "yes"]
        self.log = open(Path(folder) / "log", "ab")
        self.began = time.monotonic()
        self.process = subprocess.Popen(command + options, stdout=self.log, stderr=self.log, preexec_fn=pin, env=env)
        self.port = port

    def wait(self):
        """Until it serves: seconds since the start, and CPU seconds until then."""
        while True:
            if self.process.poll() is not None:
                sys.exit(f"{self.process.args[0]} ended: see {self.log.name}")
            try:
                self.client = Client(self.port)
                while self.client.call("PING") != "+PONG":
                    time.sleep(0.01)
                return time.monotonic() - self.began, self.cpu_seconds()
            except OSError:
                time.sleep(0.005)

    def cpu_seconds(self):
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def make_file(redis, path, keys, port, cpus):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        server = Server([redis], folder, port, cpus)
        server.wait()
        step = 20000
        for n in range(0, keys, step):
            reply = server.client.call("EVAL", FILL, 0, n, min(n + step, keys))
            if reply is not None:
                sys.exit(reply)
        reply = server.client.call("SAVE")
        if reply != "+OK":
            sys.exit(reply)
        server.stop()
        shutil.move(Path(folder) / "dump.rdb", path)


def measure(command, path, keys, port, cpus):
    results = []
    for file in (None, path):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            if file:
                os.symlink(file.resolve(), Path(folder) / "dump.rdb")
            server = Server(command, folder, port, cpus)
            results.append(server.wait())
            found = int(server.client.call("DBSIZE")[1:])
            server.stop()
            if file and found != keys:
                sys.exit(f"{command[0]} has {found} of {keys} keys")
    (wall_0, cpu_0), (wall, cpu) = results
    return wall - wall_0, cpu - cpu_0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keys", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", default=",".join(map(str, sorted(os.sched_getaffinity(0)))))
    parser.add_argument("--ringwood", default="target/release/ringwood")
    parser.add_argument("--shards", default="1,2")
    parser.add_argument("--redis", default="peers/bin/redis-server-8.2")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--port", type=int, default=31900)
    args = parser.parse_args()
    cpus = {int(c) for c in args.cpus.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "dump.rdb"
        if not path.exists():
            make_file(args.redis, path, args.keys, args.port, cpus)
        servers = {"redis": [args.redis]}
        for shards in args.shards.split(","):
            servers[f"ringwood, {shards} shards"] = [args.ringwood, "--shards", shards]
        results = {name: [] for name in servers}
        for _ in range(args.rounds):
            for name, command in servers.items():
                results[name].append(measure(command, path, args.keys, args.port, cpus))
        print(f"{args.keys} keys, {path.stat().st_size / 1e6:.0f} MB, CPUs {args.cpus}, median of {args.rounds}")
        base = None
        for name, rounds in results.items():
            wall, cpu = (statistics.median(column) for column in zip(*rounds))
            base = base or (wall, cpu)
            print(f"{name:22} wall {wall:6.2f} s ({base[0] / wall:.2f} x as fast)   CPU {cpu:6.2f} s ({base[1] / cpu:.2f} x as fast per core)")


if __name__ == "__main__":
    main()
