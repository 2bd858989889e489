# The daemon as a service of busybox's init, and a power cut.

_daemon() {
	ps -o pid,args | sed -n 's/^ *\([0-9]*\) .*[d]how daemon.*/\1/p'
}

_another_daemon() {
	now=$(_daemon)
	[ -n "$now" ] && [ "$now" != "$1" ] && dhow -H unix:///run/dhow/dhow.sock version >/dev/null
}

containers_outlive_a_killed_daemon_and_init_starts_another() {
	eventually test -n "$(_daemon)"
	first=$(_daemon)
	is "$(cut -d' ' -f4 "/proc/$first/stat")" 1
	id=$(dhow -H unix:///run/dhow/dhow.sock run --network none --detach --name it busybox sh -c 'while :; do date; sleep 0.1; done')
	pid=$(inspect it '{{.State.Pid}}')
	kill -9 "$first"
	eventually _another_daemon "$first"
	is "$(inspect it '{{.State.Status}} {{.State.Pid}}')" "running $pid"
	is "$(dhow -H unix:///run/dhow/dhow.sock ps --quiet --no-trunc)" "$id"
	is "$(dhow -H unix:///run/dhow/dhow.sock exec it echo in)" in
}

a_shim_that_is_killed_is_started_again_by_the_daemon() {
	run --detach --name it --restart always busybox sleep 1000
	shim=$(cut -d' ' -f4 "/proc/$(inspect it '{{.State.Pid}}')/stat")
	kill -9 "$shim"
	eventually sh -c "[ \$(dhow inspect --format '{{.State.Status}}' it) = running ] && [ ! -d /proc/$shim ]"
}

# The last one: the machine is killed at the end of it, and what follows is in after.sh.
the_power_is_cut() {
	dhow volume create kept
	run --rm --volume kept:/data busybox sh -c 'echo durable >/data/file; sync'
	run --detach --name always --restart always --volume kept:/data busybox sh -c 'echo up; sleep 100000'
	run --detach --name unless --restart unless-stopped busybox sleep 100000
	run --detach --name stopped --restart unless-stopped busybox sleep 100000
	dhow stop --time 0 stopped
	dhow network create sea
	dhow run --detach --name netted --restart always --network sea --publish 8080:80 busybox httpd -f -p 80 -h /etc
	dhow run --detach --name adrift --network sea busybox sleep 100000
	run --detach --name plain busybox sleep 100000
	run --detach --rm --name fleeting busybox sleep 100000
	dhow create --network none --name fresh busybox true
	code 3 dhow run --network none --name ended busybox sh -c 'exit 3'
	dhow tag busybox named:later
	# Two steps of a build are over, and the third is in flight.
	printf 'FROM busybox\nRUN echo one >/one\nRUN echo two >/two\nRUN sleep 99999\n' >/tmp/Dockerfile
	dhow build --network none - </tmp/Dockerfile &
	eventually sh -c "ps | grep -q '[s]leep 99999'"
	# It was not begun before they were on the disk.
	is "$(ls /var/lib/dhow/layers/*/pending.json 2>/dev/null)" ""
	# What a pull or a load that is cut leaves behind.
	mkdir -p /var/lib/dhow/tmp/left
	dhow load --input /vm/layers.tar &
	loading=$!
	echo @cut
	wait "$loading"
	sleep 1000
}
