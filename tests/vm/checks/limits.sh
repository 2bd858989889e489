# What the kernel does to a cgroup, where every controller is in version 2.

devices_are_confined() {
	says 1 "Operation not permitted" run --rm --cap-add MKNOD busybox sh -c 'mknod /disk b 254 0; head -c 1 /disk'
	run --rm --device /dev/vda busybox sh -c 'head -c 1 /dev/vda' >/dev/null
	code 1 run --rm --device /dev/vda:/dev/vda:r busybox sh -c ': >>/dev/vda'
	run --rm --privileged busybox head -c 1 /dev/vda >/dev/null
	run --rm --cap-add MKNOD --device-cgroup-rule 'b 254:* rm' busybox sh -c 'mknod /disk b 254 0; head -c 1 /disk' >/dev/null
	run --rm busybox sh -c 'echo x >/dev/null; head -c 1 /dev/urandom >/dev/null'
}

# Two looks at the log of `it`, between which nothing has come.
_is_still() {
	before=$(dhow logs it | wc -l)
	sleep 0.5
	[ "$(dhow logs it | wc -l)" = "$before" ]
}

what_is_paused_stands_still() {
	run --detach --name it busybox sh -c 'while :; do echo x; sleep 0.05; done'
	dhow pause it
	is "$(inspect it '{{.State.Status}} {{.State.Paused}}')" "paused true"
	has "$(cat "$(cgroup_of it)/cgroup.events")" "frozen 1"
	# What it has said before may still be on its way.
	eventually _is_still
	dhow unpause it
	eventually sh -c "[ \$(dhow logs it | wc -l) -gt $before ]"
}

what_is_killed_takes_all_along() {
	run --detach --name it busybox sh -c 'setsid sleep 1234 & (sleep 1234 & sleep 1234) & wait'
	eventually sh -c '[ $(ps -o args | grep -c "^sleep 1234") = 3 ]'
	dhow kill it
	dhow wait it
	is "$(ps -o args | grep -c '^sleep 1234')" 0
}

# Nobody but the engine handed the controllers down.
every_controller_is_used() {
	run --detach --name it busybox sleep 1000
	is "$(cat "$(cgroup_of it)/cgroup.controllers")" "cpuset cpu io memory hugetlb pids"
	case $(dhow info 2>&1) in *WARNING*limit*|*WARNING*support*) fail "$(dhow info)" ;; esac
	is "$(dhow info --format '{{.MemoryLimit}} {{.SwapLimit}} {{.CPUShares}} {{.CPUSet}} {{.PidsLimit}} {{.CpuCfsQuota}}')" \
		"true true true true true true"
}

# It says what the kernel was told, for what was asked.
each_limit_is_in_its_file() {
	run --detach --name it --memory 64m --memory-swap 96m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 \
		--cpuset-cpus 1 --cpuset-mems 0 --pids-limit 50 --blkio-weight 500 --device-read-bps /dev/vda:1mb \
		--device-write-iops /dev/vda:100 busybox sleep 1000
	cd "$(cgroup_of it)"
	is "$(cat memory.max memory.swap.max memory.low cpu.max cpu.weight cpuset.cpus cpuset.mems pids.max | tr '\n' ' ')" \
		"67108864 33554432 33554432 50000 100000 59 1 0 50 "
	is "$(cat io.max)" "254:0 rbps=1048576 wbps=max riops=max wiops=100"
	# Of the controller that counts what I/O costs: both kernels have it, one without it has no such file. Of the scheduler
	# bfq, which has weights of its own, it is too early.
	is "$(cat io.weight)" "default 4950"
	cd /vm
	dhow rm --force it
	run --detach --name it --cpu-period 50000 --cpu-quota 10000 --memory 64m busybox sleep 1000
	cd "$(cgroup_of it)"
	is "$(cat memory.max memory.swap.max cpu.max | tr '\n' ' ')" "67108864 67108864 10000 50000 "
	cd /vm
	dhow rm --force it
	run --detach --name it --memory 64m --memory-swap -1 --pids-limit -1 busybox sleep 1000
	cd "$(cgroup_of it)"
	is "$(cat memory.max memory.swap.max pids.max | tr '\n' ' ')" "67108864 max max "
}

# So are those of a build, from a daemon and without one.
commands_of_a_build_are_limited() {
	mkdir -p /tmp/context
	cat >/tmp/context/Dockerfile <<-'END'
		FROM busybox
		RUN cd /sys/fs/cgroup && cat memory.max memory.swap.max cpu.max cpu.weight cpuset.cpus cpuset.mems >/said
	END
	_built --memory 64m --memory-swap 96m --cpu-period 50000 --cpu-quota 10000 --cpu-shares 512 --cpuset-cpus 1 --cpuset-mems 0
	is "$(run --rm limited cat /said | tr '\n' ' ')" "67108864 33554432 10000 50000 59 1 0 "
	_built --memory 32m --memory-swap -1
	is "$(run --rm limited head -n 3 /said | tr "\n" " ")" "33554432 max max 100000 "
	says 1 "Minimum memory limit allowed is 6MB" dhow build --no-cache --memory 1m /tmp/context
	says 1 "Requested CPUs are not available" dhow build --no-cache --cpuset-cpus 7 /tmp/context
	says 1 "invalid cgroup parent" dhow build --no-cache --cgroup-parent ../x /tmp/context
	# They bite; and their cgroup is where it was wanted.
	echo 'FROM busybox
	RUN dd if=/dev/zero of=/dev/null bs=64M count=1' >/tmp/context/Dockerfile
	says 1 "exit code: 137" dhow build --network none --memory 16m /tmp/context
	echo 'FROM busybox
	RUN sleep 1000' >/tmp/context/Dockerfile
	dhow build --network none --cgroup-parent /boats/built --memory 64m /tmp/context &
	eventually sh -c 'grep -qx 67108864 /sys/fs/cgroup/boats/built/*/memory.max'
	kill -INT $!
	wait $! || true
	is "$(find /sys/fs/cgroup/boats -mindepth 2 -type d)" ""
	rmdir /sys/fs/cgroup/boats/built /sys/fs/cgroup/boats
	is "$(dhow ps --all --quiet)" ""
	dhow rmi limited
	dhow image prune --force
	dhow builder prune --all --force
	rm -r /tmp/context
}

_built() {
	dhow build -q --no-cache --network none --tag limited "$@" /tmp/context
}

limits_that_cannot_be_are_refused() {
	says 125 "Minimum memory limit allowed is 6MB" run --rm --memory 1m busybox true
	says 125 "memory swappiness is not supported" run --rm --memory 64m --memory-swappiness 50 busybox true
	says 125 "the OOM killer cannot be disabled" run --rm --memory 64m --oom-kill-disable busybox true
	says 125 "as there are only 2 CPUs available" run --rm --cpus 5 busybox true
	says 125 "Requested CPUs are not available - requested 7, available: 0-1" run --rm --cpuset-cpus 7 busybox true
	says 127 "/dev/absent" run --rm --device-read-bps /dev/absent:1mb busybox true
	is "$(dhow ps --all --quiet)" ""
}

# dd fills a buffer of that size.
memory_is_limited() {
	run --detach --name neighbour busybox sleep 1000
	code 137 run --name it --memory 16m busybox dd if=/dev/zero of=/dev/null bs=64M count=1
	is "$(inspect it '{{.State.OOMKilled}} {{.State.ExitCode}}')" "true 137"
	run --rm --memory 256m busybox dd if=/dev/zero of=/dev/null bs=64M count=1
	# Only a child: the container goes on, and says what happened at its end.
	run --detach --name child --memory 16m busybox sh -c \
		'dd if=/dev/zero of=/dev/null bs=64M count=1; echo survived; while [ ! -e /go ]; do sleep 0.1; done'
	eventually sh -c 'dhow logs child | grep -q survived'
	dhow exec child touch /go
	is "$(dhow wait child)" 0
	is "$(inspect child '{{.State.OOMKilled}} {{.State.ExitCode}}')" "true 0"
	code 137 run --name killed --memory 16m busybox sh -c 'sh -c "kill -9 \$\$"; exit $?'
	is "$(inspect killed '{{.State.OOMKilled}}')" false
	# Builds of other checks have had theirs.
	told=$(dhow events --since 0 --until 0s --filter event=oom --filter container=it --filter container=child \
		--filter container=killed --format '{{.Actor.Attributes.name}}')
	is "$told" "it
child"
	told=$(dhow events --since 0 --until 0s --filter "container=$(inspect it '{{.Id}}')" --format '{{.Action}}' | grep -x -e oom -e die)
	is "$told" "oom
die"
	# Many at once, again and again: nobody beside them suffers.
	run --detach --name hogs --memory 32m busybox sh -c \
		'for n in 1 2 3 4; do while :; do dd if=/dev/zero of=/dev/null bs=64M count=1; done & done; wait'
	eventually sh -c "[ \$(sed -n 's/^oom_kill //p' $(cgroup_of hogs)/memory.events) -ge 8 ]"
	is "$(dhow exec neighbour echo here) $(run --rm busybox echo new)" "here new"
	is "$(inspect neighbour '{{.State.Status}} {{.State.OOMKilled}}')" "running false"
	dhow rm --force hogs
}

processes_are_limited() {
	run --detach --name bomb --pids-limit 20 busybox sh -c 'bomb() { bomb | bomb & }; bomb; sleep 1000'
	eventually sh -c 'grep -q "max [1-9]" "/sys/fs/cgroup$(sed -n s/^0:://p /proc/$(dhow inspect --format "{{.State.Pid}}" bomb)/cgroup)/pids.events"'
	[ "$(cat "$(cgroup_of bomb)/pids.current")" -le 20 ] || fail "more than 20"
	is "$(run --rm busybox echo neighbour)" neighbour
	dhow rm --force bomb
}

# Figures of the kernel only: what it has counted of each, whatever time that took.
processors_are_limited() {
	busy='while :; do :; done'
	run --detach --name half --cpus 0.2 busybox sh -c "$busy"
	eventually sh -c "[ \$(sed -n 's/^nr_throttled //p' $(cgroup_of half)/cpu.stat) -ge 20 ]"
	usage=$(sed -n 's/^usage_usec //p' "$(cgroup_of half)/cpu.stat")
	periods=$(sed -n 's/^nr_periods //p' "$(cgroup_of half)/cpu.stat")
	[ "$usage" -lt $((periods * 50000)) ] || fail "$usage microseconds in $periods periods of a tenth of a second"
	dhow rm --force half
	is "$(run --rm --cpuset-cpus 1 busybox sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)" 1
	run --detach --name much --cpuset-cpus 1 --cpu-shares 2048 busybox sh -c "$busy"
	run --detach --name little --cpuset-cpus 1 --cpu-shares 128 busybox sh -c "$busy"
	little=$(cgroup_of little)/cpu.stat much=$(cgroup_of much)/cpu.stat
	from_little=$(sed -n 's/^usage_usec //p' "$little") from_much=$(sed -n 's/^usage_usec //p' "$much")
	eventually sh -c "[ \$(sed -n 's/^usage_usec //p' $little) -gt $((from_little + 300000)) ]"
	of_little=$(($(sed -n 's/^usage_usec //p' "$little") - from_little))
	of_much=$(($(sed -n 's/^usage_usec //p' "$much") - from_much))
	[ "$of_much" -gt $((of_little * 2)) ] || fail "much has used $of_much, little $of_little"
}

# _took FLAG... -- LINE: how long a container needs for that, in hundredths of a second, as it counts them itself
_took() {
	flags=
	while [ "$1" != -- ]; do
		flags="$flags $1"
		shift
	done
	now='sed "s/ .*//; s/[.]//" /proc/uptime'
	run --rm $flags busybox sh -c "a=\$($now); $2 2>/dev/null; b=\$($now); echo \$((b - a))"
}

# _is_held_up FLAGS RATE LINE: no sooner than the rate allows, a slow machine only makes it later; and without the rate
# it takes a third of that time, as soon as the machine lets it.
_is_held_up() {
	flags=$1 rate=$2 line=$3
	took=$(_took $flags $rate -- "$line")
	[ "$took" -ge 200 ] || fail "with $rate it took $took hundredths of a second: $line"
	eventually _is_quicker $((took / 3))
}

_is_quicker() {
	free=$(_took $flags -- "$line")
	echo "$free hundredths of a second without a limit, $took with it"
	[ "$free" -lt "$1" ]
}

# 4 MiB at 1 MiB a second, and 64 requests at 16 a second.
rates_of_devices_are_limited() {
	reads='dd if=/dev/vda of=/dev/null iflag=direct bs=64k count=64'
	writes='dd if=/dev/zero of=/file oflag=direct bs=64k count=64'
	_is_held_up "--device /dev/vda" "--device-read-bps /dev/vda:1mb" "$reads"
	_is_held_up "--device /dev/vda" "--device-read-iops /dev/vda:16" "$reads"
	_is_held_up "" "--device-write-bps /dev/vda:1mb" "$writes"
	_is_held_up "" "--device-write-iops /dev/vda:16" "$writes"
}

limits_are_updated() {
	run --detach --name it --memory 32m --pids-limit 10 busybox sleep 1000
	dhow update --memory 64m --memory-swap 128m --pids-limit 20 --cpus 0.5 --cpuset-cpus 0 it
	cd "$(cgroup_of it)"
	is "$(cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus | tr '\n' ' ')" "67108864 67108864 20 50000 100000 0 "
	cd /vm
	is "$(inspect it '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}')" "67108864 20 500000000"
	says 1 "update the memoryswap at the same time" dhow update --memory 256m it
	says 1 "CPU Quota cannot be updated as NanoCPUs has already been set" dhow update --cpu-quota 5000 it
	# What cannot hold leaves all as it was.
	code 1 dhow update --memory 128m --memory-swap 256m --cpuset-mems 5 it
	is "$(inspect it '{{.HostConfig.Memory}}') $(cat "$(cgroup_of it)/memory.max")" "67108864 67108864"
	dhow update --pids-limit -1 it
	is "$(cat "$(cgroup_of it)/pids.max")" max
	dhow stop --time 0 it
	dhow update --memory 100m it
	dhow start it
	is "$(cat "$(cgroup_of it)/memory.max")" 104857600
	# All others that can be.
	run --detach --name other busybox sleep 1000
	dhow update --cpu-period 50000 --cpu-quota 25000 --cpu-shares 512 --memory 64m --memory-swap 64m \
		--memory-reservation 32m --cpuset-mems 0 --blkio-weight 500 other
	cd "$(cgroup_of other)"
	is "$(cat cpu.max cpu.weight memory.max memory.swap.max memory.low cpuset.mems | tr '\n' ' ')" \
		"25000 50000 59 67108864 0 33554432 0 "
	is "$(cat io.weight)" "default 4950"
	cd /vm
	# Neither does one that is taken by the first files and refused by the last leave anything, where there was no limit before.
	run --detach --name free busybox sleep 1000
	code 1 dhow update --pids-limit 20 --memory 64m --memory-swap 64m --cpu-shares 512 --cpus 0.001 free
	cd "$(cgroup_of free)"
	is "$(cat pids.max memory.max memory.swap.max cpu.weight cpu.max | tr '\n' ' ')" "max max max 100 max 100000 "
	cd /vm
	is "$(inspect free '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}')" "0 <nil> 0"
	# What is not changed is not written again: a device whose rate is limited may have gone.
	mknod /dev/gone b 254 0
	run --detach --name rate --device-read-bps /dev/gone:1mb busybox sleep 1000
	rm /dev/gone
	dhow update --pids-limit 20 rate
	is "$(cat "$(cgroup_of rate)/pids.max")" 20
	has "$(cat "$(cgroup_of rate)/io.max")" "rbps=1048576"
	# What is held is in use: the kernel takes back what it can, and kills for the rest.
	run --detach --name big busybox sh -c 'dd if=/dev/zero of=/dev/null bs=48M count=100000000'
	eventually sh -c "[ \$(cat $(cgroup_of big)/memory.current) -gt 48000000 ]"
	dhow update --memory 16m --memory-swap 16m big
	is "$(dhow wait big)" 137
	is "$(inspect big '{{.State.OOMKilled}}')" true
	# One that is paused has them, too.
	dhow pause free
	dhow update --pids-limit 30 free
	is "$(cat "$(cgroup_of free)/pids.max") $(inspect free '{{.State.Status}}')" "30 paused"
	dhow unpause free
}

cgroup_parents_and_namespaces() {
	run --detach --name it --cgroup-parent /boats/small --memory 64m busybox sleep 1000
	id=$(inspect it '{{.Id}}')
	is "$(cgroup_of it)" "/sys/fs/cgroup/boats/small/$id"
	is "$(cat "$(cgroup_of it)/memory.max")" 67108864
	dhow pause it
	dhow unpause it
	dhow rm --force it
	is "$(find /sys/fs/cgroup/boats -mindepth 2 -type d)" ""
	rmdir /sys/fs/cgroup/boats/small /sys/fs/cgroup/boats
	says 125 "invalid cgroup parent" run --rm --cgroup-parent ../x busybox true
	is "$(run --rm busybox cat /proc/self/cgroup)" "0::/"
	has "$(run --rm --cgroupns host busybox cat /proc/self/cgroup)" "0::/dhow/"
	# Its own limits are not its own to lift.
	code 1 run --rm --memory 64m busybox sh -c 'echo max >/sys/fs/cgroup/memory.max'
}

# The figures of a container, between two looks of ours that see the same: what has ended is being freed for a moment.
_settled() {
	before=$(cat memory.current)
	stats=$(printf 'GET /containers/it/stats?stream=false&one-shot=true HTTP/1.0\r\n\r\n' |
		dhow -H unix:///run/dhow/dhow.sock system dial-stdio)
	[ "$before" = "$(cat memory.current)" ]
}

# _stalls SECTION: what the answer says of pressure there, in microseconds: for so long some of its processes have waited, and
# for so long all of them.
_stalls() {
	echo "$stats" | awk -v RS='{' -v section="\"$1\":" 'index($0, section) { within = 1 }
		within && sub(/.*"total":/, "") { sub(/[^0-9].*/, ""); print; if (++count == 2) exit }'
}

# The kernel sums them up every two seconds.
_pressures_are_the_kernels_own() {
	_settled || return
	for what in cpu:cpu memory:memory io:blkio; do
		[ "$(_stalls "${what#*:}_stats")" = "$(sed -n 's/.*total=//p' "${what%:*}.pressure")" ] || return
		echo "$what: $(_stalls "${what#*:}_stats")"
		[ "$(_stalls "${what#*:}_stats" | head -n 1)" -gt 0 ] || return
	done
}

# Of one that stands still, so that nothing changes between two looks. What it writes is more than it may keep in memory, and
# it writes until it has waited for the disk, which may be quick, and for memory.
stats_are_the_kernels_own() {
	run --detach --name it --memory 16m --pids-limit 30 busybox sh -c 'cd /sys/fs/cgroup
		while grep -q "some.*total=0$" io.pressure memory.pressure; do
			head -c 24000000 /dev/zero >/much; rm /much; head -c 3000000 /dev/urandom >/file; cat /file >/dev/null; sync
		done; echo done; sleep 1000'
	eventually sh -c 'dhow logs it | grep -q done'
	dhow pause it
	cd "$(cgroup_of it)"
	eventually _settled
	has "$stats" "\"memory_stats\":{\"usage\":$(cat memory.current),"
	has "$stats" "\"limit\":16777216"
	has "$stats" "\"inactive_file\":$(sed -n 's/^inactive_file //p' memory.stat)"
	has "$stats" "\"pids_stats\":{\"current\":$(cat pids.current),\"limit\":30}"
	has "$stats" "\"total_usage\":$(sed -n 's/^usage_usec //p' cpu.stat)000"
	written=$(sed -n 's/^254:0 .*wbytes=\([0-9]*\).*/\1/p' io.stat)
	[ "$written" -ge 3000000 ] || fail "only $written bytes were written"
	has "$stats" "\"major\":254,\"minor\":0,\"op\":\"write\",\"value\":$written"
	eventually _pressures_are_the_kernels_own
	cd /vm
}

# Of 4 MiB of pages of 2 MiB that there are, 2 may be had.
huge_pages_are_limited() {
	echo 2 >/proc/sys/vm/nr_hugepages
	mkdir -p /mnt/huge
	mount -t hugetlbfs huge /mnt/huge
	run --detach --name it --annotation dhow.cgroup.hugetlb.2MB.max=2097152 --volume /mnt/huge:/huge busybox sleep 1000
	is "$(cat "$(cgroup_of it)/hugetlb.2MB.max")" 2097152
	dhow exec it fallocate -l 2097152 /huge/one
	code 1 dhow exec it fallocate -l 2097152 /huge/other
	stats=$(printf 'GET /containers/it/stats?stream=false&one-shot=true HTTP/1.0\r\n\r\n' |
		dhow -H unix:///run/dhow/dhow.sock system dial-stdio)
	has "$stats" '"hugetlb_stats":{"2MB":{"usage":2097152,"limit":2097152,"failcnt":1}}'
	dhow rm --force it
	umount /mnt/huge
	echo 0 >/proc/sys/vm/nr_hugepages
}

# Of two processes one asks for too much: alone it ends, with the group both do.
an_oom_kill_takes_the_group_along() {
	hog='sleep 1000 & dd if=/dev/zero of=/dev/null bs=64M count=1; echo survived; wait'
	run --detach --name alone --memory 16m busybox sh -c "$hog"
	eventually sh -c 'dhow logs alone | grep -q survived'
	run --detach --name group --memory 16m --annotation dhow.cgroup.memory.oom.group=1 busybox sh -c "$hog"
	is "$(dhow wait group)" 137
	is "$(inspect group '{{.State.OOMKilled}}') $(dhow logs group)" "true "
	says 125 "invalid annotation" run --rm --annotation dhow.cgroup.cgroup.procs=1 busybox true
	says 125 "invalid annotation" run --rm --annotation dhow.cgroup.../x.y=1 busybox true
}

# _read_by CGROUP: how many bytes of the disk
_read_by() {
	sed -n 's/^254:0 rbytes=\([0-9]*\).*/\1/p' "$1/io.stat"
}

# Two read as fast as they may; the kernel counts.
weights_of_devices_share_them() {
	has "$(run --rm --blkio-weight 10 busybox true 2>&1)" "Block I/O weight has no effect"
	echo bfq >/sys/block/vda/queue/scheduler
	echo 0 >/sys/block/vda/queue/iosched/low_latency
	echo 1 >/sys/block/vda/queue/iosched/strict_guarantees
	is "$(run --rm --blkio-weight 10 busybox true 2>&1)" ""
	# Four each, so that both always have something to wait for.
	line='for i in 1 2 3 4; do while :; do dd if=/dev/vda of=/dev/null iflag=direct bs=128k count=1000 2>/dev/null; done & done; wait'
	run --detach --name much --blkio-weight 1000 --device /dev/vda busybox sh -c "$line"
	run --detach --name little --blkio-weight 50 --device /dev/vda busybox sh -c "$line"
	much=$(cgroup_of much) little=$(cgroup_of little)
	eventually grep -q rbytes "$much/io.stat"
	eventually grep -q rbytes "$little/io.stat"
	# Where this machine's own processors are what is short, nobody waits for the disk.
	tries=1
	until _is_shared; do
		tries=$((tries + 1))
		[ "$tries" -le 5 ] || fail "much has read $of_much, little $of_little"
	done
	dhow rm --force much little
	echo none >/sys/block/vda/queue/scheduler
}

_is_shared() {
	from_much=$(_read_by "$much") from_little=$(_read_by "$little")
	eventually sh -c "[ \$(sed -n 's/^254:0 rbytes=\([0-9]*\).*/\1/p' $much/io.stat) -gt $((from_much + 100000000)) ]"
	of_much=$(($(_read_by "$much") - from_much)) of_little=$(($(_read_by "$little") - from_little))
	[ "$of_much" -gt $((of_little * 2)) ]
}

# Where the store's file system has quotas of projects: what is too much is told with these words.
_writes_are_limited() {
	run --detach --name it --storage-opt size=4m busybox sleep 1000
	says 1 "$1" dhow exec it dd if=/dev/zero of=/file bs=1M count=8
	size=$(dhow exec it stat -c %s /file)
	[ "$size" -gt 3000000 ] && [ "$size" -le 4194304 ] || fail "$size bytes were written"
	is "$(dhow exec it df -k / | awk 'END { print $2 }')" 4096
	# Room that is given back can be used again, and that of others is theirs.
	dhow exec it sh -c 'rm /file; head -c 2000000 /dev/zero >/file'
	run --rm --storage-opt size=8m busybox sh -c 'head -c 6000000 /dev/zero >/file'
	run --rm busybox sh -c 'head -c 16000000 /dev/zero >/file'
	# Nobody takes a file out of its project.
	is "$(dhow exec it probe project /file)" EPERM
	is "$(run --rm --storage-opt size=4m --security-opt seccomp=unconfined busybox sh -c 'echo x >/x; probe project /x')" ok
	dhow restart --time 0 it
	says 1 "$1" dhow exec it dd if=/dev/zero of=/other bs=1M count=8
	says 125 "Unknown option volume" run --rm --storage-opt volume=1m busybox true
}

# The store is on an ext4.
what_is_written_is_limited() {
	_writes_are_limited "Disk quota exceeded"
}

# The second disk is an xfs.
what_is_written_is_limited_on_xfs() {
	modprobe xfs
	mkdir /mnt/xfs
	mount -t xfs -o pquota /dev/vdb /mnt/xfs
	trap 'dhow rm --force it; umount /mnt/xfs && rmdir /mnt/xfs && rm -r /run/xfs' EXIT
	export DHOW_ROOT=/mnt/xfs/root DHOW_RUN=/run/xfs
	dhow import /vm/probe.tar busybox
	_writes_are_limited "No space left on device"
	dhow rm --force it
	# Its files were given back with it: one of another size fits in their place.
	run --rm --storage-opt size=20m busybox sh -c 'head -c 18000000 /dev/zero >/file'
	dhow ps --all
	eventually _shims_are_gone
}

_shims_are_gone() {
	! ps -o args | grep -q '[d]how shim'
}

# A command of a user who was given a cgroup, from inside it.
_his() {
	(
		echo 0 >/sys/fs/cgroup/given/session/cgroup.procs
		exec su -s /bin/sh -c 'XDG_RUNTIME_DIR=/var/lib/sailor/xdg exec dhow "$@"' sailor -- dhow "$@"
	)
}

# His commands clear what shims were still in when the last one looked.
_he_left() {
	_his ps >/dev/null
	[ "$(find "$1" -type d | wc -l)" = 2 ]
}

_he_reads() {
	[ "$(_his logs it)" = "$1" ]
}

# As a session of systemd gives a cgroup to its user. There is no newuidmap, so he has one id.
an_ordinary_user_has_limits_in_the_cgroup_that_he_was_given() {
	given=/sys/fs/cgroup/given
	echo sailor:x:1999:1999::/var/lib/sailor:/bin/sh >>/etc/passwd
	echo sailor:x:1999: >>/etc/group
	mkdir -p "$given/session" /var/lib/sailor/xdg
	chown -R 1999:1999 /var/lib/sailor
	for dir in "$given" "$given/session"; do
		chown 1999:1999 "$dir" "$dir/cgroup.procs" "$dir/cgroup.threads" "$dir/cgroup.subtree_control"
	done
	_his import /vm/probe.tar busybox
	_his load --input /vm/layers.tar
	is "$(_his run --rm --network none layers:latest sh -c 'cat /kept; id -u; tr -s " " </proc/self/uid_map')" "kept
0
 0 1999 1"
	_his run --detach --network none --name it --memory 32m --memory-swap 32m --pids-limit 12 --cpus 0.5 busybox sh -c 'echo up; sleep 1000'
	eventually _he_reads up
	dir=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(_his inspect --format '{{.State.Pid}}' it)/cgroup")
	has "$dir" "$given/dhow-"
	is "$(cat "$dir/memory.max" "$dir/pids.max" "$dir/cpu.max" | tr '\n' ' ')" "33554432 12 50000 100000 "
	has "$(_his exec it sh -c 'for n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 2 & done' 2>&1 || true)" "can't fork"
	_his update --pids-limit 100 it
	is "$(cat "$dir/pids.max")" 100
	has "$(_his stats --no-stream --format '{{.MemUsage}}' it)" "/ 32MiB"
	_his pause it
	has "$(cat "$dir/cgroup.events")" "frozen 1"
	_his unpause it
	code 137 _his run --network none --name hog --memory 16m --memory-swap 16m busybox dd if=/dev/zero of=/dev/null bs=64M count=1
	is "$(_his inspect --format '{{.State.OOMKilled}}' hog)" true
	told=$(_his info 2>&1)
	has "$told" "single-id mode"
	case $told in *"No limits"* | *"limit support"*) fail "$told" ;; esac
	_his run --detach --name web --publish 127.0.0.1:8080:80 busybox httpd -f -p 80 -h /etc
	eventually wget -q -O /dev/null http://127.0.0.1:8080/passwd
	_his rm --force it hog web
	# He has nothing of root's, and root has nothing of his.
	is "$(dhow ps --all --quiet)" ""
	eventually _he_left "$given"
	eventually sh -c "[ -z \"\$(cat $given/session/cgroup.procs)\" ]"
	rmdir "$given/session" "$given"
	rm -r /var/lib/sailor
	sed -i /^sailor:/d /etc/passwd /etc/group
}
