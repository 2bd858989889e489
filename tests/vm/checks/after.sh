# After the power cut, on the same disk. init runs the line of contrib/busybox that starts what should run.

# Each check sees what the one before it saw.
keep=1

what_should_run_is_started_by_init() {
	eventually status_is always running
	eventually status_is unless running
	eventually status_is netted running
	is "$(dhow ps --format '{{.Names}}' | sort | tr '\n' ' ')" "always netted unless "
	is "$(dhow exec always cat /data/file)" durable
}

# Addresses are found free again, ports open, and names known.
networks_are_there_again() {
	eventually wget -q -O /dev/null http://127.0.0.1:8080/hostname
	one=$(inspect netted '{{.NetworkSettings.Networks.sea.IPAddress}}')
	two=$(dhow run --rm --network sea busybox sh -c 'nslookup netted. >&2; hostname -i')
	subnet=$(dhow network inspect --format '{{(index .IPAM.Config 0).Subnet}}' sea)
	is "$one $two" "${subnet%.0/*}.2 ${subnet%.0/*}.3"
	has "$(dhow ports --format '{{.Published}} {{.Name}}: {{.Reach}}')" "0.0.0.0:8080/tcp netted: everyone"
	dhow rm --force netted adrift
	dhow network rm sea
}

what_ended_with_the_power_says_so() {
	is "$(inspect plain '{{.State.Status}} {{.State.ExitCode}}')" "exited 255"
	is "$(inspect stopped '{{.State.Status}} {{.State.ExitCode}}')" "exited 137"
	is "$(inspect ended '{{.State.Status}} {{.State.ExitCode}}')" "exited 3"
	is "$(inspect fresh '{{.State.Status}}')" created
}

what_was_acknowledged_is_there() {
	is "$(dhow images --quiet --no-trunc named:later)" "$(dhow images --quiet --no-trunc busybox)"
	is "$(dhow volume ls --quiet)" kept
	is "$(dhow ps --all --format '{{.Names}}' | sort | tr '\n' ' ')" "always ended fresh plain stopped unless "
	is "$(run --rm busybox echo hello)" hello
	dhow start plain
	is "$(inspect plain '{{.State.Status}}')" running
}

what_was_built_is_not_built_again() {
	printf 'FROM busybox\nRUN echo one >/one\nRUN echo two >/two\n' >/tmp/Dockerfile
	is "$(dhow build --network none --tag built - </tmp/Dockerfile 2>&1 | grep -c CACHED)" 2
	is "$(run --rm built cat /one /two | tr '\n' ' ')" "one two "
	dhow rmi built
	dhow builder prune --all --force
}

what_was_not_is_cleared() {
	is "$(ls /var/lib/dhow/tmp)" ""
	is "$(dhow images --quiet layers | wc -l)" "$(dhow images --quiet --filter reference=layers | wc -l)"
	dhow load --input /vm/layers.tar
	is "$(run --rm layers cat /zstd)" "of zstd"
	dhow ps --all --quiet | while read -r id; do dhow rm --force --volumes "$id"; done
	dhow rmi layers named:later busybox
	is "$(ls /var/lib/dhow/layers)" ""
}
