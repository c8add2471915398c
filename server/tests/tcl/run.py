#!/usr/bin/env python3
"""Runs units of Redis's own test suite (7.0.15) against Ringwood and compares with the kept list of exceptions.

The suite runs in its "external" mode: it is given a host and a port and skips by itself what needs a server of its
own. Every unit gets a fresh server for each shard count. A unit written `UNIT:own` runs in the suite's normal mode
instead, with the server under test as the program that the suite starts with configurations of its own. What comes out per test is compared with exceptions.txt:
a failure without an exception fails the run; an exception whose test passed everywhere is reported, so that the list
shrinks. A test that kills or hangs the server fails by its name, and the unit runs again without it, so that one crash
does not hide the rest.

Invariants: a test counts as passed only if the suite printed its `[ok]`; whatever stops a unit before its end is a
failure; every exception names a reason that is written out in exceptions.txt.

Usage: run.py [--server FILE] [--redis] [--shards 1,2,4] [--jobs N] [--port P] [--timeout S] [UNIT...]
`--redis` says that the server is a real Redis: no --shards, and no exceptions but those of the reason `baseline`.
"""

import argparse
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
UNITS = (HERE / "units.txt").read_text().split("\n")
UNITS = [line.split("#")[0].strip() for line in UNITS if line.split("#")[0].strip()]

# Changes to the copy of the suite that runs, each found exactly once or the run stops. One changes what a test expects:
# Redis packs small lists and small sets of strings from 7.2 on, and Ringwood does as it does; the suite is 7.0's.
PATCHES = [
    # Line by line, so that nothing is lost when a hung run is killed.
    ("tests/test_helper.tcl", "set tcl_precision 17\n", "set tcl_precision 17\nfconfigure stdout -buffering line\n"),
    # Which test is running, for when the server dies in it.
    ("tests/test_helper.tcl", 'set ::active_clients_task($fd) "(IN PROGRESS) $data"',
     'set ::active_clients_task($fd) "(IN PROGRESS) $data"\n        puts "\\[testing\\]: $data"'),
    ("tests/support/test.tcl", "    set val [r object encoding $key]\n    assert_match $enc $val\n",
     """    set val [r object encoding $key]
    if {$val eq {listpack}} {
        set type [r type $key]
        if {$type eq {list} && $enc eq {quicklist}} return
        if {$type eq {set} && $enc eq {hashtable}} return
    }
    assert_match $enc $val
"""),
    # A server without functions has none to flush.
    ("tests/support/server.tcl", "    r function flush\n", "    catch {r function flush}\n"),
]
# Texts and forms that have changed since 7.0, put into the suite as the newest Redis has them: (file, pattern, text), each
# found at least once. What 8.2 answers is what its users see, so it is what is to be checked.
NEWER = [
    ("tests/unit/acl.tcl", r"\*NOPERM\*channels\*", "*NOPERM*channel*"),
    ("tests/unit/acl-v2.tcl", r"\*NOPERM\*keys\*", "*NOPERM*key*"),
    ("tests/unit/acl-v2.tcl", r'"This user has no (.*? )\[r ACL DRYRUN (\S+)', r'"User \2 has no \1[r ACL DRYRUN \2'),
    ("tests/unit/acl.tcl", r'"This user has no (.*? )\[r ACL DRYRUN (\S+)', r'"User \2 has no \1[r ACL DRYRUN \2'),
    ("tests/unit/acl.tcl", r"\{user hpuser on nopass resetchannels", "{user hpuser on nopass sanitize-payload resetchannels"),
    # A subcommand that a category includes is kept beside it.
    ("tests/unit/acl.tcl", r"assert_equal \{\+@all\} \$cmdstr\n\n        r ACL setuser bob >passwd1",
     "assert_equal {+@all +client|id} $cmdstr\n\n        r ACL setuser bob >passwd1"),
    # Blocking commands do not block in scripts, since 7.2: they answer at once.
    ("tests/unit/scripting.tcl", r"blpop','x',0\)\} 0\} e\n        set e\n    \} \{\*not allowed\*\}",
     "blpop','x',0)} 0} e\n        set e\n    } {WRONGTYPE*}"),
    ("tests/unit/scripting.tcl", r"(redis\.pcall\('b\w+','empty_.*\} e\n        set e\n    \} )\{\*not allowed\*\}", r"\1{}"),
    ("tests/unit/scripting.tcl", r"assert_error \"\*xread(?:group)? command is not allowed with BLOCK option from scripts\" \{(.*)\}\n",
     r"assert_equal {} [\1]\n"),
    # CLIENT LIST and INFO have more fields.
    ("tests/unit/introspection.tcl", r"multi=-1 qbuf=", "multi=-1 watch=0 qbuf="),
    ("tests/unit/introspection.tcl", r"redir=-1 resp=2\*", "redir=-1 resp=2 lib-name=* lib-ver=*"),
    # Who waits for a group's messages and finds the group gone hears what XREADGROUP would say now; the consumer is there all the same.
    ("tests/unit/type/stream-cgroups.tcl", r'(?s)(Blocking XREADGROUP: key type changed with \w+\} \{(?:(?!\n    \}).)*?)"\*no longer exists\*"',
     r'\1"WRONGTYPE*"'),
    ("tests/unit/type/stream-cgroups.tcl", r'(?s)(swapped DB, key is not a stream\} \{(?:(?!\n    \}).)*?)"\*no longer exists\*"', r'\1"WRONGTYPE*"'),
    ("tests/unit/type/stream-cgroups.tcl", r'"\*no longer exists\*"', '"NOGROUP*"'),
    ("tests/unit/type/stream-cgroups.tcl", r"(?s)# Bob should be created only when there will be new data for this consumer\n( *)assert_equal \$n_consumers 2.*?\n( *\$rd close)",
     r"assert_equal $n_consumers 3\n\2"),
    # What newer servers and Ringwood have besides that cannot be changed while the server runs.
    ("tests/unit/introspection.tcl", r"(set skip_configs \{\n)", r"\1            shards cpus shard-ports shard-port-base io-engine hash-seed unixsocketgroup mptcp repl-mptcp\n"
     "            rdma-rx-size rdma-completion-vector server-cpulist bio-cpulist aof-rewrite-cpulist bgsave-cpulist cluster-databases\n"),
    # Scores have as few digits as read back the same, not 17.
    ("tests/unit/type/zset.tcl", r"assert_equal (\[lindex \$aux \$i\]) (\[r zm?score zscoretest \$i\])", r"assert {\1 == \2}"),
    # A list of 1000 numbers is a listpack.
    ("tests/unit/aofrw.tcl", r"(foreach e \{quicklist\} \{\s*test [^\n]*\s*r flushall\s*set len) 1000", r"\1 5000"),
]
# What Redis does in a child process, Ringwood does in its own: what a test does to the child is done to that. Also (file, pattern, text).
CHILDLESS = [
    # FLUSHALL saves the empty state in the background, and a log that is switched on behind it waits for that.
    ("tests/support/util.tcl", r"(?s)(proc waitForBgrewriteaof r .*?status \$r aof_rewrite_in_progress\] eq 1)\}",
     r"\1 || [status $r aof_rewrite_scheduled] eq 1}"),
    # A child that is killed is a snapshot or rewrite that fails.
    ("tests/unit/aofrw.tcl", r"exec kill -9 \[get_child_pid 0\]", "r debug fail-snapshot"),
    ("tests/integration/aof-multi-part.tcl", r"set (pid\d) \[get_child_pid 0\]", r"set \1 0"),
    ("tests/integration/aof-multi-part.tcl", r"exec kill -9 (\$pid\d|\[get_child_pid 0\])", "r debug fail-snapshot"),
    ("tests/integration/aof-multi-part.tcl", r"s total_forks\]", "s aof_rewrites]"),
    # FLUSHALL saves the empty state in the background, where Redis waits for that; what the test rewrites right behind it would have to wait.
    ("tests/unit/aofrw.tcl", r"overrides \{aof-use-rdb-preamble no\}", 'overrides {aof-use-rdb-preamble no save ""}'),
    # The temporary file has the number of the process that writes it.
    ("tests/unit/shutdown.tcl", r"set child_pid \[get_child_pid 0\]", "set child_pid [s process_id]"),
    # Redis cuts the head of a large request off before all of it is there; here the bytes of a large value are counted when they are complete, and
    # what tells at once that they are coming is the memory that is kept for them.
    ("tests/unit/client-eviction.tcl", r"qbuf\] (==|>=) \$qbsize", "tot-mem] >= $qbsize"),
]
# Tests made to ask of several cores what they ask of one thread; the same form, found at least once each. With one shard
# they ask what they did.
#
# A slow script answers BUSY on the cores that it holds, and one without keys holds only its client's. One that has called
# DBSIZE holds all of them.
CORES = [
    (f"tests/unit/{unit}.tcl", pattern, text)
    for unit, pattern, text in [
        ("multi", r"eval \{while true", "eval {redis.call('dbsize') while true"),
        ("scripting", r"on_connection \$rd \{while true", "on_connection $rd {redis.call('dbsize') while true"),
        ("scripting", r"while 1 do redis\.call\('ping'\) end", "while 1 do redis.call('dbsize') end"),
        ("scripting", r"\$33(?=\\r\\nwhile 1 do)", "$35"),
        ("scripting", r"\$97(?=\\r\\n#!lua name=test)", "$99"),
        ("functions", r"test test \{local a = 1 while true", "test test {redis.call('dbsize') local a = 1 while true"),
        ("functions", r"eval \{local a = 1 while true", "eval {redis.call('dbsize') local a = 1 while true"),
        # A smaller table's readers are told when it is made smaller; which turn of another core that is nobody knows.
        ("tracking", r'(?s)(        \$rd ping\n        \$rd exec\n(?:(?!assert_match).)*)(        assert_match "invalidate \*\{tag\}" \[\$rd read\]\n)',
         r"\2\1"),
        # Every core has a Lua machine of its own, of 60 KB, and functions are loaded into all: what counts is that none grows.
        ("scripting", r"(r script flush ;# reset Lua VM\n +r set x 0\n)( +# Use a non blocking client to speedup the loop)",
         r"\1        r eval {return 1} 1 x\n        set before [s used_memory_lua]\n\2"),
        ("scripting", r"assert \{\[s used_memory_lua\] < 1024\*100\}", "assert {[s used_memory_lua] < $before + 1024*100*[lindex [r config get shards] 1]}"),
        # What one connection sent and was not answered yet need not have happened for another one.
        ("pubsub", r"(\n        p?unsubscribe \$rd1)(?=\n        assert_equal 0 \[r publish chan1)",
         r"\1\n        $rd1 read\n        $rd1 read\n        $rd1 read"),
        ("pubsubshard", r"(\n        sunsubscribe \$rd1)(?=\n        assert_equal 0 \[r SPUBLISH chan1)",
         r"\1\n        $rd1 read\n        $rd1 read\n        $rd1 read"),
    ]
]
# The manifest names a file for each core where Redis's names one: these see them as one, and count them so. What a test wrote itself has no head.
AS_OF_ONE_CORE = r"""proc as_of_one_core {manifest_path lines} {
    set made 0
    set kept {}
    foreach line $lines {
        if {![regexp {^file (.*)\.(\d+)\.incr\.aof("?) seq \d+ type ([ih])$} $line _ name seq quote type]} {
            lappend kept $line
            continue
        }
        set head "#RW:file"
        catch {
            set fp [open [file join [file dirname $manifest_path] "$name.$seq.incr.aof"]]
            set head [gets $fp]
            close $fp
        }
        if {![string match "#RW:file*" $head]} {
            incr made
            lappend kept $line
            continue
        }
        set nth [expr {$seq - 1 - $made}]
        if {$nth % $::env(RINGWOOD_SHARDS) == 0} {
            set seq [expr {1 + $made + $nth / $::env(RINGWOOD_SHARDS)}]
            lappend kept "file $name.$seq.incr.aof$quote seq $seq type $type"
        }
    }
    return $kept
}
"""
OF_FIRST_CORE = r"""    if {[regexp {^(.*)\.(\d+)\.incr\.aof$} $filename _ name seq]} {
        set filename "$name.[expr {($seq - 1) * $::env(RINGWOOD_SHARDS) + 1}].incr.aof"
    }
"""
CORES += [
    ("tests/support/aofmanifest.tcl", r"\A", lambda _: AS_OF_ONE_CORE),
    ("tests/support/aofmanifest.tcl", r"(?=\n    assert_equal \[llength \$lines\] \[llength \$content\])",
     r"\n    set lines [as_of_one_core $manifest_path $lines]"),
    ("tests/support/aofmanifest.tcl", r"proc check_file_exist \{dir filename\} \{\n", lambda found: found[0] + OF_FIRST_CORE),
    ("tests/integration/aof-multi-part.tcl", r'\[count_log_message 0 "Removing the temp incr aof file"\]', r"[expr {\g<0> / $::env(RINGWOOD_SHARDS)}]"),
]
# What the suite's client says when the server is gone.
LOST = re.compile(r"connection refused|I/O error reading reply|reset by peer|broken pipe|connection closed")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Exceptions:
    """The kept list: `reason NAME: text` and `UNIT | SHARDS | REASON | TEST` (`*` for any; /regex/ for a test)."""

    def __init__(self, path, only_reason=None):
        self.reasons, self.rows = {}, []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            reason = re.match(r"reason (\S+): (.+)", line)
            if reason:
                self.reasons[reason[1]] = reason[2]
                continue
            fields = [field.strip() for field in line.split(" | ", 3)]
            if len(fields) != 4 or fields[2] not in self.reasons:
                sys.exit(f"{path}:{number}: not `UNIT | SHARDS | REASON | TEST` with a known reason: {line}")
            if only_reason and fields[2] != only_reason:
                continue
            unit, shards, why, test = fields
            regex = re.compile(test[1:-1]) if len(test) > 1 and test[0] == test[-1] == "/" else None
            counts = None if shards == "*" else {int(count) for count in shards.split(",")}
            self.rows.append({"unit": unit, "shards": counts, "reason": why, "test": test, "regex": regex,
                              "line": number, "failed": 0, "passed": 0})

    def skipped(self, unit, shards):
        """Tests that do not even run, since they would leave settings behind that fail others: where the reason says so."""
        return [row["test"] for row in self.rows
                if row["unit"] == unit and (row["shards"] is None or shards in row["shards"])
                and self.reasons[row["reason"]].startswith("skipped")]

    def match(self, unit, shards, test, passed):
        """The row that covers this test, if any; remembers what became of it."""
        for row in self.rows:
            if row["unit"] not in ("*", unit) or (row["shards"] is not None and shards not in row["shards"]):
                continue
            if row["regex"].search(test) if row["regex"] else row["test"] == test:
                row["passed" if passed else "failed"] += 1
                return row
        return None


def free_port(ports, lock=threading.Lock()):
    """The next port of the range that nobody listens on."""
    with lock:
        for port in ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return port
    sys.exit("no free port in the range")


class Server:
    """One server under test, started in a folder of its own and killed by its process id."""

    def __init__(self, options, shards, ports):
        self.port = free_port(ports)
        self.dir = tempfile.mkdtemp(prefix="ringwood-tcl-")
        command = [options.server, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir,
                   "--enable-debug-command", "yes", "--enable-protected-configs", "yes"]
        if not options.redis:
            command += ["--shards", str(shards)]
        self.log = open(os.path.join(self.dir, "server.log"), "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                        cwd=self.dir)
        end = time.time() + 20
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

    def tail(self, lines=40):
        self.log.flush()
        text = Path(self.dir, "server.log").read_text(errors="replace").splitlines()
        return "\n".join([line for line in text if "### Starting test" not in line][-lines:])

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class Unit:
    """One unit against one shard count: the outcome of every test."""

    def __init__(self, unit, shards):
        self.unit, self.shards = unit, shards
        self.passed, self.failed, self.ignored, self.seconds = [], [], 0, 0.0

    def run(self, options, suite, ports, own_ports):
        begin = time.time()
        meant = options.exceptions.skipped(self.unit, self.shards)
        culprits = []  # tests that killed or hung the server: (name, what happened)
        while True:
            passed, failed, ignored, culprit = self.once(options, suite, ports, own_ports,
                                                           meant + [name for name, _ in culprits])
            if culprit is None:
                break
            culprits.append(culprit)
            if len(culprits) > 12 or culprit[0] is None:
                failed.append(("(the unit)", "given up"))
                break
        self.passed, self.failed, self.ignored = passed, failed, ignored
        self.failed += [(name or "(before the first test)", text) for name, text in culprits]
        self.failed += [(name, "skipped") for name in meant]
        self.seconds = time.time() - begin
        return self

    def once(self, options, suite, ports, own_ports, skip):
        """Runs the unit once. Returns passed, failed, how many its tags skip, and the test that ended it early."""
        unit, _, own = self.unit.partition(":")
        command = ["tclsh", "tests/test_helper.tcl", "--single", unit, "--durable", "--timeout", str(options.timeout)]
        server = None
        if own:
            wrap_server(options, suite, self.shards)
            base = free_port(own_ports)
            command += ["--clients", "1", "--baseport", str(base), "--portcount", "60"]
        else:
            server = Server(options, self.shards, ports)
            base = free_port(own_ports)
            command += ["--host", "127.0.0.1", "--port", str(server.port), "--baseport", str(base)]
        if options.accurate:
            command.append("--accurate")
        if options.tags:
            command += ["--tags", options.tags]
        for name in skip:
            command += ["--skiptest", name]
        env = {**os.environ, "RINGWOOD_SHARDS": str(max(1, self.shards))}
        tcl = subprocess.Popen(command, cwd=suite, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               stdin=subprocess.DEVNULL, start_new_session=True)
        dead = []

        def watch():
            """The suite waits for ever for a server that is gone: end it."""
            while server and tcl.poll() is None:
                if server.process.poll() is not None:
                    dead.append(server.process.returncode)
                    time.sleep(1)
                    end_group(tcl)
                    return
                time.sleep(0.2)

        watcher = threading.Thread(target=watch)
        watcher.start()
        passed, failed, ignored, current, finished, culprit, block = [], [], 0, None, False, None, None
        for raw in tcl.stdout:
            # A test's name may hold any byte.
            line = COLOUR.sub("", raw.decode("latin-1")).rstrip("\n")
            if options.verbose:
                print(f"{self.unit}/{self.shards}: {line}")
            found = re.match(r"\[(testing|ok|err|ignore|skip|exception|TIMEOUT|\d+/\d+ done)\]: ?(.*)", line)
            if not found:
                if block is not None:
                    block.append(line)
                continue
            block, (status, text) = None, found.groups()
            if status == "testing":
                current = text
            elif status == "ok":
                passed.append(re.sub(r" \(\d+ ms\)$", "", text))
                current = None
            elif status == "err":
                named = re.match(r"(.*) in tests/\S+\.tcl$", text)
                block = []
                if named:
                    failed.append((named[1], block))
                    current = None
                else:
                    # Thrown outside a test: everything up to the end of its start_server block is lost.
                    block.append(text)
                    after = passed[-1] if passed else "the start"
                    failed.append((f"(outside a test, after: {after})", block))
            elif status == "ignore":
                ignored += 1
            elif status == "TIMEOUT":
                culprit = (current, f"no progress for {options.timeout} s")
            elif status == "exception":
                block = [text]
                culprit = (current, block)
            elif status.endswith("done"):
                finished = True
        tcl.wait()
        watcher.join()
        end_group(tcl)
        if server and (dead or server.process.poll() is not None):
            # Every test after it fails too, for want of a server: the first that lost its connection is the one.
            lost = [name for name, text in failed if LOST.search("\n".join(text))]
            failed = failed[:len(failed) - len(lost)]
            name = next(iter(lost), None) or current or (passed[-1] if passed else None)
            status = server.process.poll()
            culprit = (name, f"the server ended with status {status} in this test:\n{server.tail()}")
        elif not finished and culprit is None:
            culprit = (current, "the suite ended early")
        if server:
            server.stop()
        failed = [(name, "\n".join(text).strip()) for name, text in failed]
        if culprit and isinstance(culprit[1], list):
            culprit = (culprit[0], "\n".join(culprit[1]).strip())
        if culprit:  # the last test may have failed because the server was gone
            failed = [failure for failure in failed if failure[0] != culprit[0]]
        return passed, failed, ignored, culprit


def wrap_server(options, suite, shards):
    """Puts the server under test where the suite starts its own."""
    script = suite / "src/redis-server"
    # Straight after the configuration file: the suite tries what happens at the end of the command line.
    shards = "" if options.redis else (
        f'case $1 in -*) set -- --shards {shards} "$@" ;; *)\n'
        f'file=$1; shift\n'
        # What follows the file may do without its dashes, nowhere else.
        f'case $1 in -*|"") set -- "$file" --shards {shards} "$@" ;; *) set -- "$file" "$@" --shards {shards} ;; esac ;; esac\n')
    # Under the name that it was called by, which a test looks for in the process's title.
    script.write_text(f'#!/bin/bash\n{shards}exec -a "$0" "{options.server}" "$@"\n')
    script.chmod(0o755)


def end_group(process):
    """The suite starts helpers of its own; they are one session, started by us."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def copy_suite(peers, into, redis):
    """A patched copy of the suite: it writes into its own folder."""
    source = peers / "redis-7.0-tests"
    if not (source / "runtest").exists():
        sys.exit(f"{source} is missing: bench/peers.sh installs Redis's own tests")
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("tmp"))
    (into / "tests/tmp").mkdir(exist_ok=True)
    for name in ("redis-cli", "redis-benchmark"):
        if (peers / "bin" / name).exists() and not (into / "src" / name).exists():
            (into / "src" / name).symlink_to(peers / "bin" / name)
    # Redis's server is its checker too, under that name.
    checker = peers / "bin/redis-server-7.0"
    if checker.exists() and not (into / "src/redis-check-aof").exists():
        (into / "src/redis-check-aof").symlink_to(checker)
    for file, old, new in PATCHES:
        path = into / file
        text = path.read_text(encoding="latin-1")
        if text.count(old) != 1:
            sys.exit(f"{file}: expected once, found {text.count(old)} times: {old!r}")
        path.write_text(text.replace(old, new), encoding="latin-1")
    for file, pattern, new in NEWER + CORES + ([] if redis else CHILDLESS):
        path = into / file
        text, count = re.subn(pattern, new, path.read_text(encoding="latin-1"))
        if not count:
            sys.exit(f"{file}: not found: {pattern!r}")
        path.write_text(text, encoding="latin-1")


def claim_ports(first):
    """The first port of a block that no other run has, as in tests/ports: who holds its UDP port has it, until the process ends."""
    for port in range(first, 32000, 500):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            return port, claim
        except OSError:
            claim.close()
    sys.exit(f"no ports are free from {first} on")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("units", nargs="*", help="units, as unit/type/string (default: units.txt)")
    parser.add_argument("--server", default=str(ROOT / "target/release/ringwood"))
    parser.add_argument("--redis", action="store_true", help="the server is a real Redis: find the baseline")
    parser.add_argument("--shards", default="1,2,4")
    parser.add_argument("--jobs", type=int, default=1, help="units at a time")
    parser.add_argument("--port", type=int, default=23600, help="first of 50 ports to use, and 100 for each job; later ones if another run has them")
    parser.add_argument("--timeout", type=int, default=120, help="seconds without progress that end a unit")
    parser.add_argument("--accurate", action="store_true", help="the suite's own long form")
    parser.add_argument("--tags", default="", help="passed to the suite, as -slow")
    parser.add_argument("--verbose", action="store_true", help="show the suite's output")
    parser.add_argument("--failures", type=int, default=12, help="lines shown of each failure")
    options = parser.parse_args()
    options.port, claim = claim_ports(options.port)
    # The suite listens too, on ports of its own behind those.
    ports = range(options.port, options.port + 50)
    options.server = shutil.which(options.server) or sys.exit(f"{options.server} is missing: cargo build --release")
    options.server = os.path.abspath(options.server)
    if not shutil.which("tclsh"):
        sys.exit("tclsh is missing: Debian's package tcl")
    shard_counts = [0] if options.redis else [int(count) for count in options.shards.split(",")]
    exceptions = Exceptions(HERE / "exceptions.txt", "baseline" if options.redis else None)
    options.exceptions = exceptions
    peers = Path(os.environ.get("RINGWOOD_PEERS", ROOT / "peers"))
    units = options.units or UNITS

    workspace = tempfile.mkdtemp(prefix="ringwood-tcl-suite-")
    free = []
    for job in range(options.jobs):
        copy_suite(peers, Path(workspace, str(job)), options.redis)
        share = len(ports) // options.jobs
        own = options.port + 50 + job * 100
        free.append((Path(workspace, str(job)), ports[job * share:(job + 1) * share], range(own + 32, own + 40)))

    def work(task):
        place = free.pop()
        try:
            result = Unit(*task).run(options, *place)
        finally:
            free.append(place)
        print(f"  {task[0]} with {task[1]} shards: {len(result.passed)} passed, {len(result.failed)} not, "
              f"{result.ignored} skipped by tag, {result.seconds:.0f} s", flush=True)
        return result

    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(work, [(unit, shards) for unit in units for shards in shard_counts]))
    shutil.rmtree(workspace, ignore_errors=True)
    sys.exit(report(results, units, shard_counts, exceptions, options))


def report(results, units, shard_counts, exceptions, options):
    """The failures, the table and the line that `check` counts. Returns the exit status."""
    cells, totals = {}, [0, 0, 0, 0]
    for result in results:
        bad, excepted = [], 0
        for name, text in result.failed:
            row = exceptions.match(result.unit, result.shards, name, False)
            if row:
                excepted += 1
            else:
                bad.append((name, text))
        for name in result.passed:
            exceptions.match(result.unit, result.shards, name, True)
        for name, text in bad:
            lines = text.splitlines()
            print(f"\nFAILED {result.unit} with {result.shards} shards: {name}")
            print("\n".join("    " + line[:400] for line in lines[:60 if "the server ended" in text else options.failures]))
        counts = [len(result.passed), len(bad), excepted, result.ignored]
        cells[result.unit, result.shards] = counts
        totals = [total + count for total, count in zip(totals, counts)]
    complete = len(units) == len(UNITS) and not options.redis
    stale = [row for row in exceptions.rows if row["passed"] and not row["failed"]]
    if stale:
        print("\nexceptions whose tests pass now (take them out of exceptions.txt):")
        for row in stale:
            print(f"  line {row['line']}: {row['unit']} | {row['test']}")
    gone = [row for row in exceptions.rows if not row["passed"] and not row["failed"]]
    if gone and complete:
        print("\nexceptions that matched no test of this run:")
        for row in gone:
            print(f"  line {row['line']}: {row['unit']} | {row['test']}")
    print(f"\n{'passed/failed/excepted':<28}" + "".join(f"{str(count) + ' shards':>16}" for count in shard_counts))
    for unit in units:
        row = "".join(f"{'/'.join(map(str, cells[unit, count][:3])):>16}" for count in shard_counts)
        print(f"{unit:<28}{row}")
    reasons = {}
    for row in exceptions.rows:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["failed"]
    for reason, count in sorted(reasons.items()):
        if count:
            print(f"excepted {count:>4}: {reason}: {exceptions.reasons[reason]}")
    print(f"tcl: {totals[0]} passed, {totals[1]} failed, {totals[2]} excepted, {totals[3]} skipped by tags")
    return 1 if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())
