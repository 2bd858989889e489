# What the checks are written with.

fail() {
	echo "FAILED: $*"
	exit 1
}

# is ACTUAL EXPECTED
is() {
	[ "$1" = "$2" ] || fail "'$1' is not '$2'"
}

# has TEXT PART
has() {
	case $1 in
		*"$2"*) ;;
		*) fail "'$2' is not in '$1'" ;;
	esac
}

# hasnt TEXT PART
hasnt() {
	case $1 in
		*"$2"*) fail "'$2' is in '$1'" ;;
	esac
}

# code N COMMAND...: it ends with that exit code; says what it said. Not in the words of another command, where its failure
# is nobody's: that is `says`.
code() {
	local wanted=$1 status=0
	shift
	"$@" 2>&1 || status=$?
	[ "$status" = "$wanted" ] || fail "$*: exit code $status, not $wanted"
}

# says N PART COMMAND...: it ends with that exit code, and that is in what it says.
says() {
	local wanted=$1 part=$2 said
	shift 2
	said=$(code "$wanted" "$@") || { echo "$said"; exit 1; }
	has "$said" "$part"
}

# eventually COMMAND...: waits until it succeeds. A bound on a hang, no statement about speed.
eventually() {
	local count=0
	until "$@" >/tmp/tried 2>&1; do
		count=$((count + 1))
		[ "$count" -lt 1500 ] || fail "did not happen: $*: $(cat /tmp/tried)"
		sleep 0.2
	done
}

# run FLAG... IMAGE COMMAND...: with no network, for this is about something else.
run() {
	dhow run --network none "$@"
}

inspect() {
	dhow inspect --format "$2" "$1"
}

status_is() {
	[ "$(inspect "$1" '{{.State.Status}}')" = "$2" ]
}

# The directory of a container's cgroup.
cgroup_of() {
	echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(inspect "$1" '{{.State.Pid}}')/cgroup")"
}

# What may not be more after a check than before it.
_stand() {
	# With a policy of SELinux each says that it has labels.
	cut -d' ' -f5- /proc/self/mountinfo | sed 's/,seclabel\>//' | sort
	find /sys/fs/cgroup -type d | grep -v -e '^/sys/fs/cgroup/dhow$' -e '/dhow/shims$' -e '/dhow/devices-' | sort
	for dir in /var/lib/dhow/containers /var/lib/dhow/names /var/lib/dhow/tmp /run/dhow/containers; do
		[ ! -d "$dir" ] || find "$dir" -mindepth 1 -maxdepth 1
	done
	for process in /proc/[0-9]*; do
		[ "$(readlink "$process/exe" 2>/dev/null)" = / ] && tr '\0' ' ' <"$process/cmdline" && echo
	done
	true
}

_clear() {
	for id in $(dhow ps --all --quiet --no-trunc); do
		dhow rm --force --volumes "$id" >/dev/null
	done
	for volume in $(dhow volume ls --quiet); do
		dhow volume rm "$volume" >/dev/null
	done
	# A shim is gone a moment after it has answered.
	local count=0
	while [ "$count" -lt 3000 ] && ps -o args | grep -q '[d]how shim'; do
		count=$((count + 1))
		sleep 0.1
	done
}
