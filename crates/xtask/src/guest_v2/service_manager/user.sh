#!/bin/sh
# What a user does who is logged in on a machine with systemd, each beside what must come of it.
status=0

# The rest of the words is a command; it must succeed.
check() {
    what=$1
    shift
    if "$@" >"$HOME/told" 2>&1; then
        echo "PASS  $what"
    else
        cat "$HOME/told"
        echo "FAIL  $what"
        status=1
    fi
}

# Whether what the command prints has this text in it.
says() {
    text=$1
    shift
    "$@" >"$HOME/said" 2>&1 || true
    grep -qF -- "$text" "$HOME/said" || { cat "$HOME/said"; return 1; }
}

# Whether the command ends with this code.
ends_with() {
    code=$1
    shift
    "$@" >"$HOME/said" 2>&1
    [ $? = "$code" ] || { cat "$HOME/said"; return 1; }
}

# Control groups of sessions, and of those the limits of processor time.
limits() {
    find /sys/fs/cgroup -path '*.scope/insula-*/*.*/cpu.max' -exec cat {} + 2>/dev/null
}

# Whether there is one session, with this limit. A session in the background may not have begun.
is_limited() {
    for attempt in $(seq 100); do
        found=$(limits)
        [ "$found" = "$1" ] && return 0
        sleep 0.2
    done
    echo "found: $found"
    return 1
}

scopes() {
    systemctl --user list-units --type=scope --no-legend --plain | grep -c Insula
}

no_scope() {
    # The service manager is told of an empty group some time after it became empty.
    for attempt in $(seq 100); do
        [ "$(scopes)" = 0 ] && return 0
        sleep 0.2
    done
    systemctl --user list-units --type=scope
    return 1
}

given="in a group that your service manager gives the daemon"
check "doctor tells that limits will hold" says "version 2: cpu, memory, pids, $given" insula doctor
check "the first run" says hello insula run -- echo hello
check "the memory limit" ends_with 137 \
    insula run --memory 64MiB -- python3 -c 'bytearray(200 << 20)'
check "the limit of processes" says "Cannot fork" \
    insula run --pids 20 -- sh -c 'for i in $(seq 40); do sleep 3 & done; wait'
check "a session in the background" insula run --detach --name long --cpu 0.5 -- sleep 1000
check "its limit, in the scope of the daemon" is_limited "50000 100000"
check "the service manager is started anew" systemctl --user daemon-reexec
check "and the limit stays" is_limited "50000 100000"
check "the daemon is killed" pkill -9 -u "$(id -u)" -f 'insula __serve'
check "the session has outlived it" says running insula ls
check "with its limit" is_limited "50000 100000"
check "the session is stopped" insula stop long
check "the site is taken down" insula down
check "no scope is left" no_scope

# What `doctor` tells those to do whose daemon stands where nothing can be divided.
check "up in a group of one's own" systemd-run --user --scope --quiet -p Delegate=yes insula up
check "has limits" insula run --detach --cpu 0.2 -- sleep 1000
check "that hold" is_limited "20000 100000"
check "the site is taken down with its session" insula down --stop
check "no scope is left then" no_scope
exit $status
