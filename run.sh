#!/usr/bin/env bash
# PennCloud's cluster on this machine: builds, starts, shows, stops and tests it. ./run.sh help lists the commands.
#
# What runs is said by the configuration; the data directory named there also holds run/ (process ids) and log/.
# A process is signalled only when its command line says that it is the one that was started here.
set -euo pipefail

usage() {
    cat <<'TEXT'
./run.sh                   build, start the cluster, show its logs; Ctrl-C stops it
./run.sh start [NODE]      build, start the cluster (or one process) in the background
./run.sh stop [NODE]       stop the cluster (or one process) in order
./run.sh restart [NODE]    stop and start
./run.sh status            what runs and what answers
./run.sh logs [NODE]       follow the logs (of one process)
./run.sh kill NODE         kill -9 one process
./run.sh clean             delete all data, accounts and logs of the stopped cluster
./run.sh test [--long]     install what the tests need (Debian packages) and run all tests

PENNCLOUD_CONFIG   the cluster's configuration     (conf/local.toml)
PENNCLOUD_PROFILE  how it is built: release or dev (release)
PENNCLOUD_BIN      a penncloud that is built already
TEXT
}

# Frontends and SMTP servers take up to 30 s to finish what they have begun.
readonly START_SECONDS=60 STOP_SECONDS=40

die() {
    echo "run.sh: $*" >&2
    exit 1
}

# ---- the program and its configuration ----

need_compiler() {
    PATH=$PATH:$HOME/.cargo/bin
    command -v cargo >/dev/null || die "Rust is not installed (no cargo): see https://rustup.rs"
    command -v cc >/dev/null || die "no C compiler (cc), which Rust needs to link: apt-get install build-essential"
    pkg-config --exists openssl 2>/dev/null || die "no OpenSSL to build TLS with: apt-get install pkg-config libssl-dev"
}

# Where cargo puts the program.
built_binary() {
    local directory=$profile
    [[ $profile == dev ]] && directory=debug
    echo "${CARGO_TARGET_DIR:-target}/$directory/penncloud"
}

build() {
    [[ -n ${PENNCLOUD_BIN:-} ]] && return
    need_compiler
    cargo build --profile "$profile" --bin penncloud || die "the build failed, as said above"
}

find_binary() {
    binary=${PENNCLOUD_BIN:-$(built_binary)}
    [[ -x $binary ]] || die "there is no program $binary yet: ./run.sh builds it"
}

declare -A role address listeners
names=()
# 1: not everything has started.
incomplete=0

# Reads the configuration: data, domain, scheme, postmaster, names, role, address, and listeners beside the main one, each
# with what it is for.
load_cluster() {
    find_binary
    local list kind first second third fourth
    postmaster=""
    list=$("$binary" processes --config "$config" 2>&1) || die "${list#penncloud: }"
    while IFS=$'\t' read -r kind first second third fourth; do
        if [[ $kind == cluster ]]; then
            data=$first domain=$second scheme=$third postmaster=$fourth
        elif [[ $kind == listener ]]; then
            listeners[$first]+=" $second $third"
        else
            names+=("$first") role[$first]=$second address[$first]=$third
        fi
    done <<<"$list"
    run=$data/run log=$data/log
}

need_node() {
    [[ -n ${role[$1]:-} ]] || die "there is no process named $1: it is one of ${names[*]}"
}

# One run.sh at a time may start and stop. The lock goes with this shell, not with what it starts.
lock() {
    { mkdir -p "$run" "$log" && exec 9>"$run/lock"; } 2>/dev/null || die "cannot write to $data: check its owner and mode"
    flock -n 9 || die "another run.sh is starting or stopping this cluster"
}

# ---- processes ----

# The command line of a process. One that is between two programs, or ends and has let go of its memory but not yet of its
# sockets, shows none for a while: it is waited for. What is left of it after its last thread is not.
command_of() {
    local stat line parent threads end=$((SECONDS + STOP_SECONDS))
    while ((SECONDS < end)); do
        { line=$(tr '\0' ' ' <"/proc/$1/cmdline") && read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
        if [[ -n $line ]]; then
            echo "$line"
            return 0 # in a trap a bare return would give what was before
        fi
        read -r _ parent _ <<<"${stat##*) }"
        [[ $parent != 2 ]] || return 1 # the kernel's own
        threads=("/proc/$1/task/"*)
        if [[ ${stat##*) } == [ZX]* ]] && ((${#threads[@]} <= 1)); then return 1; fi
        sleep 0.05
    done
    return 1
}

# The id of a process that was started here and still runs.
pid_of() {
    local pid line
    { read -r pid <"$run/$1.pid"; } 2>/dev/null && line=$(command_of "$pid") || return 1
    [[ $line == *" ${role[$1]:-} --config $config --name $1 "* ]] && echo "$pid"
}

running() {
    local name
    for name in "${names[@]}"; do
        if pid_of "$name" >/dev/null; then echo "$name"; fi
    done
}

# Processes on the same data that another configuration has started.
strangers() {
    local file name pid line
    for file in "$run"/*.pid; do
        name=$(basename "$file" .pid)
        { read -r pid <"$file"; } 2>/dev/null && line=$(command_of "$pid") || continue
        [[ $line == *" --config "*" --name $name "* && -z $(pid_of "$name") ]] && echo "$name"
    done
    return 0
}

# Ends where somebody else's processes have the data.
need_no_strangers() {
    local others
    others=$(strangers)
    [[ -z $others ]] || die "another configuration has started ${others//$'\n'/, } on $data: set PENNCLOUD_CONFIG to it"
}

# Who listens on host:port, if somebody does.
port_owner() {
    local host=${1%:*} port a b c d hex inode link pid
    port=$(printf ':%04X' "${1##*:}")
    hex='[0-9A-F]*'
    if [[ $host =~ ^[0-9.]+$ && $host != 0.0.0.0 ]]; then
        IFS=. read -r a b c d <<<"$host"
        hex=$(printf '(%02X%02X%02X%02X|0+)' "$d" "$c" "$b" "$a")
    fi
    inode=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v local="^$hex$port\$" '$4 == "0A" && $2 ~ local { print $10; exit }')
    [[ -n $inode ]] || return 1
    link=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\\[$inode\\]" -print -quit 2>/dev/null) || true
    if [[ -z $link ]]; then
        echo "a process of another user"
        return
    fi
    pid=${link#/proc/} pid=${pid%%/*}
    echo "process $pid ($(cat "/proc/$pid/comm"))"
}

need_port() {
    local owner at
    for at in "${address[$1]}" $(listeners_of "$1"); do
        if owner=$(port_owner "$at"); then
            die "$1 cannot start: $owner listens on $at already"
        fi
    done
}

# The addresses of a process beside its main one.
listeners_of() {
    local word
    for word in ${listeners[$1]:-}; do [[ $word == *:* ]] && echo "$word"; done
    return 0
}

launch() {
    setsid "$binary" "${role[$1]}" --config "$config" --name "$1" --log-file "$log/$1.log" \
        </dev/null >"$log/$1.out" 2>&1 9>&- &
    echo $! >"$run/$1.pid"
    disown
}

# Whether a process speaks its protocol.
answers() (
    set +e
    exec 2>/dev/null 3<>"/dev/tcp/${2%:*}/${2##*:}" || exit 1
    case $1 in
    master | backend) printf 'PING\n' >&3 ;;
    smtp) ;;
    *) printf 'GET /ping HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" >&3 ;;
    esac
    IFS= read -r -t 2 line <&3
    [[ $1 == smtp ]] && printf 'QUIT\r\n' >&3
    case $line in
    PONG* | DENIED* | "HTTP/1.1 "* | "220 "* | "220-"*) exit 0 ;;
    *) exit 1 ;;
    esac
)

# Whether what was launched has not ended; it may not be penncloud yet, but the shell that becomes it.
lives() {
    local pid
    { read -r pid <"$run/$1.pid"; } 2>/dev/null && command_of "$pid" >/dev/null
}

# Whether a backend reaches every tablet: it says RETRY for owners of those that are still being opened. Those
# of a node that an admin has shut down are not waited for; its name is printed.
serves() (
    set +e
    exec 2>/dev/null 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
    printf 'GET ~run.sh/%d probe\n' {1..40} >&3
    for _ in {1..40}; do
        IFS= read -r -t 5 line <&3
        case $line in
        NOTFOUND*) ;;
        DENIED*) exit 0 ;;
        "RETRY node "*" is shut down"*)
            line=${line#RETRY node }
            echo "${line%% *}"
            ;;
        *) exit 1 ;;
        esac
    done
)

# Waits until all tablets are served through every backend, and says which nodes an admin has shut down.
await_store() {
    local name said shut="" end=$((SECONDS + START_SECONDS))
    for name in "${names[@]}"; do
        [[ ${role[$name]} == backend ]] || continue
        pid_of "$name" >/dev/null || continue
        until said=$(serves "${address[$name]}"); do
            if ((SECONDS >= end)); then
                failed+=("the store does not serve all it holds after $START_SECONDS s: printf 'STATUS\n' | nc $(first_of master | tr : ' ') says what is wrong")
                return
            fi
            sleep 0.1
        done
        shut+=" $said"
    done
    for name in $(printf '%s\n' $shut | sort -u); do
        echo "$name is shut down: wake it up in the console, or printf 'WAKEUP $name\n' | nc $(first_of master | tr : ' ')" >&2
    done
}

# Waits until a process that was launched answers, or notes why it does not.
await() {
    local end=$((SECONDS + START_SECONDS)) why
    until answers "${role[$1]}" "${address[$1]}"; do
        if ! lives "$1"; then
            why=$(tail -qn 1 "$log/$1.out" "$log/$1.log" 2>/dev/null | head -n 1) || true
            failed+=("$1 ended at its start: ${why#penncloud: }")
            return
        fi
        if ((SECONDS >= end)); then
            failed+=("$1 does not answer on ${address[$1]} after $START_SECONDS s: see $log/$1.log")
            return
        fi
        sleep 0.1
    done
}

# Starts those of the named processes that do not run, and waits for them. Nothing is launched before every port is known
# to be free; when Ctrl-C comes first, those that were started here are stopped again. Where one of many does not start the
# others go on, for a store with a broken disk serves: what is wrong is said at the end.
start_nodes() {
    local name why
    started=() failed=()
    for name in "$@"; do
        pid_of "$name" >/dev/null || need_port "$name"
    done
    trap stop_started EXIT
    trap 'die "stopped before everything had started"' INT TERM HUP
    for name in "$@"; do
        pid_of "$name" >/dev/null && continue
        started+=("$name")
        launch "$name"
    done
    for name in "${started[@]}"; do await "$name"; done
    ((${#failed[@]} < $#)) || die "${failed[0]}"
    [[ $# -lt ${#names[@]} ]] || await_store
    trap - EXIT INT TERM HUP
    for why in "${failed[@]}"; do echo "run.sh: $why" >&2; done
    ((${#failed[@]} == 0)) || incomplete=1
}

stop_started() {
    trap "" INT TERM HUP
    local i
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do stop_node "${started[i]}"; done
}

# Ends a process in order; one that does not end in time is killed.
stop_node() {
    local pid end=$((SECONDS + STOP_SECONDS))
    pid=$(pid_of "$1") || return 0
    kill -TERM "$pid" 2>/dev/null || true
    while pid_of "$1" >/dev/null; do
        if ((SECONDS >= end)); then
            echo "$1 did not end within $STOP_SECONDS s and is killed" >&2
            kill -KILL "$pid" 2>/dev/null || true
            end=$((SECONDS + STOP_SECONDS))
        fi
        sleep 0.05
    done
    rm -f "$run/$1.pid"
}

# Ends everything: those who use the store, the master, the store. A backend that ends while there is a master hands
# its tablets over to others; when all end there is nobody to take them.
stop_all() {
    local i wanted
    for wanted in other master backend; do
        for ((i = ${#names[@]} - 1; i >= 0; i--)); do
            case ${role[${names[i]}]} in
            master | backend) [[ ${role[${names[i]}]} == "$wanted" ]] || continue ;;
            *) [[ $wanted == other ]] || continue ;;
            esac
            stop_node "${names[i]}"
        done
    done
}

# ---- what people see ----

first_of() {
    local name
    for name in "${names[@]}"; do
        if [[ ${role[$name]} == "$1" ]]; then
            echo "${address[$name]}"
            return
        fi
    done
}

# Where mail programs send, at the first process that has such a listener.
say_submission() {
    local name word how said=""
    for name in "${names[@]}"; do
        for word in ${listeners[$name]:-}; do
            case $word in
            submission) how=STARTTLS ;;
            submissions) how=TLS ;;
            *) said+="${said:+ or }$word ($how)" ;;
            esac
        done
        [[ -z $said ]] || break
    done
    echo "${said:+; mail programs send by $said}"
}

say_where() {
    local backend
    backend=$(first_of backend)
    echo "PennCloud runs: ${#names[@]} processes, data in $data."
    echo "  Web      $scheme://$(first_of balancer)/"
    echo "  Console  $scheme://$(first_of console)/   user admin, password in $data/secrets.json"
    echo "  Mail     SMTP on $(first_of smtp), for <user>@$domain$(say_submission)"
    echo "  Store    nc ${backend/:/ }   then HELP, or PUT alice note 5 and hello"
    echo "  Master   nc $(first_of master | tr : ' ')   then WHERE alice"
}

# Log lines, each with the name of its process. The first argument goes to tail.
show_logs() {
    local option=$1 files=() name line
    shift
    for name in "$@"; do
        if [[ -e $log/$name.log ]]; then files+=("$log/$name.log"); fi
    done
    ((${#files[@]} > 0)) || die "there are no logs in $log"
    name=$1
    # shellcheck disable=SC2086 # several options
    tail -v $option "${files[@]}" 2>/dev/null 9>&- | while IFS= read -r line; do
        if [[ $line =~ ^"==> "(.*)/(.*)".log <=="$ ]]; then
            name=${BASH_REMATCH[2]}
        elif [[ -n $line ]]; then
            printf '%-8s %s\n' "$name" "$line"
        fi
    done
}

# Shows logs and says when a process ends, until all have ended or somebody presses Ctrl-C.
watch_cluster() {
    local tail_pid name now before
    show_logs "-n 0 -F" "${names[@]}" &
    tail_pid=$!
    trap 'trap "" INT TERM HUP; echo; echo "Stopping …"; lock; stop_all; end_tail "$tail_pid"; echo "Stopped."; exit 0' INT TERM HUP
    before=" ${names[*]} "
    while [[ $before != "  " ]]; do
        sleep 1 9>&- &
        wait $! || true
        now=" $(running | tr '\n' ' ')"
        for name in $before; do
            [[ $now == *" $name "* ]] || echo "$name has ended; ./run.sh start $name starts it again"
        done
        [[ $now == " " ]] && break
        before=$now
    done
    end_tail "$tail_pid"
    echo "All processes have ended."
}

# Ends the log reader: the pipe's shell and the tail below it.
end_tail() {
    local child
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null) "$1"; do kill "$child" 2>/dev/null || true; done
}

# ---- commands ----

# Everything that comes before a start, of one process or of all.
prepare() {
    build
    load_cluster
    (($# == 0)) || need_node "$1"
    local said
    said=$("$binary" format --config "$config" 2>&1) || die "${said#penncloud: }"
    [[ -z $said ]] || echo "$said"
    lock
}

run_start() {
    prepare "$@"
    if (($# > 0)); then
        pid_of "$1" >/dev/null && die "$1 is running already"
        start_nodes "$1"
        echo "$1 runs on ${address[$1]}."
        return
    fi
    [[ $(running | wc -l) -eq ${#names[@]} ]] && die "PennCloud is running already: see ./run.sh status"
    start_nodes "${names[@]}"
    say_where
    exit "$incomplete"
}

run_foreground() {
    prepare
    [[ -z $(running) ]] || die "PennCloud is running already: ./run.sh stop ends it"
    start_nodes "${names[@]}"
    say_where
    echo "Ctrl-C stops it."
    exec 9>&-
    watch_cluster
}

run_stop() {
    load_cluster
    if (($# > 0)); then
        need_node "$1"
        pid_of "$1" >/dev/null || die "$1 is not running"
        lock
        stop_node "$1"
        echo "$1 has stopped."
        return
    fi
    need_no_strangers
    [[ -n $(running) ]] || die "PennCloud is not running"
    lock
    stop_all
    echo "PennCloud has stopped."
}

run_restart() {
    prepare "$@"
    local wanted=("${names[@]}")
    if (($# > 0)); then
        wanted=("$1")
        stop_node "$1"
    else
        stop_all
    fi
    start_nodes "${wanted[@]}"
    (($# > 0)) && echo "$1 runs on ${address[$1]}." || say_where
    exit "$incomplete"
}

run_status() {
    load_cluster
    local name pid state bad=0
    for name in "${names[@]}"; do
        if ! pid=$(pid_of "$name"); then
            pid=- state="does not run" bad=$((bad + 1))
        elif answers "${role[$name]}" "${address[$name]}"; then
            state="runs"
        else
            state="runs, does not answer" bad=$((bad + 1))
        fi
        printf '%-10s %-9s %-22s %8s  %s\n' "$name" "${role[$name]}" "${address[$name]}" "$pid" "$state"
    done
    if [[ -n $postmaster ]]; then
        echo "Mail to postmaster@$domain goes to the user $postmaster, and is put off while there is none."
    else
        echo "Mail to postmaster@$domain is put off: no user is named by cluster.postmaster in $config."
    fi
    ((bad == 0)) || die "$bad of ${#names[@]} processes are not in service"
}

run_logs() {
    load_cluster
    local wanted=("${names[@]}") option="-n 50"
    if (($# > 0)); then
        need_node "$1"
        wanted=("$1")
    fi
    [[ -t 1 ]] && option="-n 50 -F"
    show_logs "$option" "${wanted[@]}"
}

run_kill() {
    load_cluster
    (($# > 0)) || die "say which process: ./run.sh kill NODE, one of ${names[*]}"
    need_node "$1"
    local pid
    pid=$(pid_of "$1") || die "$1 is not running"
    kill -KILL "$pid"
    while pid_of "$1" >/dev/null; do sleep 0.05; done
    echo "$1 (process $pid) is killed."
}

run_clean() {
    load_cluster
    [[ -e $data ]] || die "there is nothing to clean: $data does not exist"
    [[ -z $(running) ]] || die "PennCloud is running: ./run.sh stop first"
    need_no_strangers
    [[ -e $data/secrets.json || -d $data/run ]] || die "$data does not look like a data directory of PennCloud: nothing deleted"
    if [[ -t 0 ]]; then
        read -rp "Delete everything in $data? [y/N] " reply
        [[ $reply == [yY]* ]] || die "nothing deleted"
    fi
    rm -rf "$data" 2>/dev/null || die "cannot delete everything in $data: check its owner and mode"
    echo "$data is deleted."
}

# ---- tests ----

# Installs Debian packages for the commands that are missing, where that is allowed.
install_for_tests() {
    local missing=() pair sudo=()
    command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
    for pair in swaks:swaks nc:netcat-openbsd curl:curl strace:strace eatmydata:eatmydata mkfs.ext4:e2fsprogs ip:iproute2 \
        iptables:iptables unshare:util-linux; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    perl -MNet::SSLeay -e 1 2>/dev/null || missing+=(libnet-ssleay-perl) # swaks speaks TLS by it
    ((${#missing[@]} > 0)) || return 0
    if ((EUID != 0)); then sudo=(sudo -n); fi
    echo "Installing what tests need: ${missing[*]}"
    if ! command -v apt-get >/dev/null || ! "${sudo[@]}" true 2>/dev/null; then
        echo "Cannot install ${missing[*]} (no apt-get, or not root): their checks will be skipped." >&2
    elif ! { "${sudo[@]}" apt-get update -q && DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$log_directory/packages.log" 2>&1; then
        echo "Installing failed (see $log_directory/packages.log): their checks will be skipped." >&2
    fi
}

run_test() {
    need_compiler
    log_directory=${CARGO_TARGET_DIR:-target}
    mkdir -p "$log_directory" 2>/dev/null || die "cannot write to $log_directory"
    install_for_tests
    if [[ ${1:-} == --long ]]; then
        export PENNCLOUD_LONG=1
        shift
    fi
    # Tests wait for processes, time-outs and disks more than they compute.
    export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))}
    local result=0 skipped
    cargo test "$@" 2>&1 | tee "$log_directory/test.log" || result=$?
    skipped=$(grep -o 'skipped: .*' "$log_directory/test.log" | sort -u || true)
    if [[ -n $skipped ]]; then
        echo "$(wc -l <<<"$skipped") checks were skipped on this machine:"
        sed 's/^skipped: /  /' <<<"$skipped"
    else
        echo "No check was skipped."
    fi
    ((result == 0)) || die "tests failed, as said above (the whole output: $log_directory/test.log)"
}

config=$(realpath -m "${PENNCLOUD_CONFIG:-$(dirname "$(readlink -f "$0")")/conf/local.toml}")
[[ -z ${PENNCLOUD_BIN:-} ]] || PENNCLOUD_BIN=$(realpath -m "$PENNCLOUD_BIN")
profile=${PENNCLOUD_PROFILE:-release}
[[ $profile == release || $profile == dev ]] || die "PENNCLOUD_PROFILE is release or dev, not $profile"
cd "$(dirname "$(readlink -f "$0")")"

command=${1:-foreground}
(($# > 0)) && shift
case $command in
start | stop | restart | logs | kill) (($# < 2)) || die "one process at a time, not $*" ;;
esac
case $command in
foreground) run_foreground ;;
start | stop | restart | status | logs | kill | clean | test) "run_$command" "$@" ;;
help | -h | --help) usage ;;
*) die "there is no command $command: ./run.sh help lists them" ;;
esac
