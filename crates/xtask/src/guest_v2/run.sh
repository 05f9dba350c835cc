#!/bin/sh
# Runs every test of the guest's disk, each in a process of its own, two at a time.
#
# Lines that begin with @ are for the program that started the guest; the last one tells the result.
export PATH=/usr/sbin:/usr/bin HOME=/root TMPDIR=/tmp
. /guest/environment

one() {
    name=$2
    began=$(cut -d. -f1 /proc/uptime)
    out=/run/out.$$
    timeout "$GUEST_TEST_SECONDS" "$1" --exact "$name" --nocapture >"$out" 2>&1 </dev/null
    status=$?
    took=$(($(cut -d. -f1 /proc/uptime) - began))
    if [ $status = 0 ] && ! grep -q '^skipped' "$out"; then
        echo "PASS  ${took} s  $name"
        return 0
    fi
    # A test that says why it cannot run has not shown anything here.
    { echo "FAIL  ${took} s  $name (status $status)"; cat "$out"; } >"$out.told"
    cat "$out.told"
    return 1
}

if [ "$1" = one ]; then
    one "$2" "$3"
    exit
fi

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As service managers do: attacks look for these.
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
hostname guest
# Who started the guest ends it when it takes too long, unless it has ended itself.
(sleep "$GUEST_LIMIT_SECONDS" && busybox poweroff -f) &
busybox ip link set lo up
# Tests put one of their own in its place.
[ -e /etc/resolv.conf ] || : >/etc/resolv.conf
# A sign of life: without it, whoever started the guest takes it for one that stands still.
(while sleep 10; do echo "@alive"; done) &

if [ -n "$GUEST_COMMAND" ]; then
    sh -c "$GUEST_COMMAND" </dev/console
    status=$?
else
    uname -r
    for program in /guest/tests/*; do
        [ -f "$program" ] || continue
        (cd "$GUEST_CRATE" && "$program" --list --ignored --format terse) >/run/ignored 2>/dev/null
        (cd "$GUEST_CRATE" && "$program" --list --format terse) 2>/dev/null |
            grep -vxFf /run/ignored | sed -n "s|^\(.*\): test$|$program \1|p"
    done | grep -E "$GUEST_FILTER" | grep -vE "$GUEST_LEFT_OUT" >/run/tests
    echo "$(wc -l </run/tests) tests"
    cd "$GUEST_CRATE" && xargs -n 2 -P 2 /guest/run.sh one </run/tests
    status=$?
    [ -s /run/tests ] || status=1
    left=$(find /sys/fs/cgroup -mindepth 1 -type d)
    [ -z "$left" ] || { echo "FAIL  the tests left control groups: $left"; status=1; }
fi
if [ -n "$INSULA_UPDATE" ]; then
    for report in "$GUEST_CRATE"/../../docs/engines/*.json "$GUEST_CRATE"/../../docs/security/*.json
    do
        [ -e "$report" ] || continue
        echo "@file $(basename "$(dirname "$report")")/$(basename "$report")"
        cat "$report"
        echo "@end"
    done
fi
echo "@status $status"
sync
busybox poweroff -f
