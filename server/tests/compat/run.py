#!/usr/bin/env python3
"""Runs real clients and frameworks, unmodified, against Ringwood: redis-py, node-redis, ioredis, BullMQ, Celery.

Each program beside this file gets a fresh server per shard count, checks what it was answered, and prints `ok NAME` for
every check that held. The packages are installed once, at the versions of requirements.txt and package.json, into
`target/compat` (RINGWOOD_COMPAT overrides); it needs the package registries only then.

Invariants: a program that ends without having printed all names of its plan (its first line, `plan N`) failed; nothing
passes by not running. Against a real Redis (`--redis`) the same programs must pass: they check clients, not us.

Usage: run.py [--server FILE] [--redis] [--shards 1,4] [--port P] [--timeout S] [PROGRAM...]
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
PROGRAMS = ["redis_py.py", "node_redis.mjs", "ioredis.mjs", "bullmq.mjs", "celery_app.py"]


def install(folder):
    """The packages, if they are not there at these versions. Returns how Python and Node are started."""
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python/bin/python"
    stamp = hashlib.sha256((HERE / "requirements.txt").read_bytes()).hexdigest()
    done = folder / "python/done"
    if not done.exists() or done.read_text() != stamp:
        shutil.rmtree(folder / "python", ignore_errors=True)
        venv.create(folder / "python", with_pip=True)
        must([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
              str(HERE / "requirements.txt")], "pip could not install the Python clients")
        done.write_text(stamp)
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit("node or npm is missing: Debian's packages nodejs and npm")
    stamp = hashlib.sha256((HERE / "package.json").read_bytes()).hexdigest()
    done = folder / "node/done"
    if not done.exists() or done.read_text() != stamp:
        shutil.rmtree(folder / "node", ignore_errors=True)
        (folder / "node").mkdir()
        shutil.copy(HERE / "package.json", folder / "node/package.json")
        # No package's install script is needed: the native parts have JavaScript beside them.
        must(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder / "node")],
             "npm could not install the Node clients")
        done.write_text(stamp)
    return str(python), folder / "node"


def must(command, reason):
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"{reason}: {' '.join(command)}")


def free_ports(first, count):
    """The first of `count` ports in a row that nobody listens on."""
    for port in range(first, first + 400, count):
        taken = False
        for each in range(port, port + count):
            with socket.socket() as probe:
                taken |= probe.connect_ex(("127.0.0.1", each)) == 0
        if not taken:
            return port
    sys.exit("no free ports in the range")


class Server:
    """One server under test, in a folder of its own, ended by its process id."""

    def __init__(self, options, shards):
        self.port = free_ports(options.port, 16)
        self.dir = tempfile.mkdtemp(prefix="ringwood-compat-")
        command = [options.server, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir, "--save", ""]
        if not options.redis:
            command += ["--shards", str(shards), "--shard-ports", "yes"]
        self.log = open(Path(self.dir, "server.log"), "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        end = time.time() + 30
        while time.time() < end and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    client.sendall(b"PING\r\n")
                    if client.recv(64).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit(f"{' '.join(command)} does not answer:\n{self.tail()}")

    def tail(self, lines=20):
        self.log.flush()
        return "\n".join(Path(self.dir, "server.log").read_text(errors="replace").splitlines()[-lines:])

    def stop(self):
        """True if it was alive until now."""
        alive = self.process.poll() is None
        if alive:
            self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return alive


def run(program, shards, options, python, node):
    """Returns how many checks passed and failed."""
    server = Server(options, shards)
    work = tempfile.mkdtemp(prefix="ringwood-compat-work-")
    environment = dict(os.environ, RINGWOOD_PORT=str(server.port), RINGWOOD_SHARDS=str(0 if options.redis else shards),
                       RINGWOOD_SEED=str(options.seed), PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
    if program.endswith(".py"):
        command = [python, str(HERE / program)]
    else:
        # Where its packages are is where a module lies.
        shutil.copy(HERE / program, node / program)
        shutil.copy(HERE / "check.mjs", node / "check.mjs")
        command = ["node", str(node / program)]
    began = time.time()
    child = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, start_new_session=True, text=True, errors="replace")
    late = threading.Event()

    def end():
        late.set()
        os.killpg(child.pid, signal.SIGKILL)

    timer = threading.Timer(options.timeout, end)
    timer.start()
    output, _ = child.communicate()
    timer.cancel()
    # Its workers are of its session.
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    shutil.rmtree(work, ignore_errors=True)
    tail = server.tail()
    alive = server.stop()
    passed = re.findall(r"^ok (.+)$", output, re.M)
    plan = re.search(r"^plan (\d+)$", output, re.M)
    missing = max(int(plan[1]) - len(passed), 0) if plan else 1
    failed = missing
    if (child.returncode != 0 or late.is_set() or not alive) and not failed:
        failed = 1
    name = f"{program} with {shards} shards" if not options.redis else f"{program} with Redis"
    print(f"  {name}: {len(passed)} passed, {failed} not, {time.time() - began:.0f} s", flush=True)
    if failed:
        why = "no end" if late.is_set() else f"status {child.returncode}"
        print(f"FAILED {name} ({why}{'' if alive else ', the server ended'}):")
        print("\n".join("    " + line[:300] for line in output.splitlines()[-60:]))
        print("    the server's log:")
        print("\n".join("    " + line[:300] for line in tail.splitlines()))
    return len(passed), failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("programs", nargs="*", help=f"of: {' '.join(PROGRAMS)} (default: all)")
    parser.add_argument("--server", default=str(ROOT / "target/release/ringwood"))
    parser.add_argument("--redis", action="store_true", help="the server is a real Redis")
    parser.add_argument("--shards", default="1,4")
    parser.add_argument("--port", type=int, default=24600, help="first of the ports to use")
    parser.add_argument("--timeout", type=int, default=180, help="seconds that end a program")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.server = os.path.abspath(shutil.which(options.server) or sys.exit(f"{options.server} is missing"))
    for program in options.programs:
        if program not in PROGRAMS:
            sys.exit(f"{program} is none of: {' '.join(PROGRAMS)}")
    python, node = install(Path(os.environ.get("RINGWOOD_COMPAT", ROOT / "target/compat")))
    totals = [0, 0]
    for program in options.programs or PROGRAMS:
        for shards in [0] if options.redis else [int(n) for n in options.shards.split(",")]:
            for n, count in enumerate(run(program, shards, options, python, node)):
                totals[n] += count
    print(f"compat: {totals[0]} passed, {totals[1]} failed")
    sys.exit(1 if totals[1] else 0)


if __name__ == "__main__":
    main()
