# What the kernel does to a cgroup, where every controller is in version 2.

devices_are_confined() {
	has "$(code 1 run --rm --cap-add MKNOD busybox sh -c 'mknod /disk b 254 0; head -c 1 /disk')" "Operation not permitted"
	run --rm --device /dev/vda busybox sh -c 'head -c 1 /dev/vda' >/dev/null
	code 1 run --rm --device /dev/vda:/dev/vda:r busybox sh -c ': >>/dev/vda'
	run --rm --privileged busybox head -c 1 /dev/vda >/dev/null
	run --rm --cap-add MKNOD --device-cgroup-rule 'b 254:* rm' busybox sh -c 'mknod /disk b 254 0; head -c 1 /disk' >/dev/null
	run --rm busybox sh -c 'echo x >/dev/null; head -c 1 /dev/urandom >/dev/null'
}

what_is_paused_stands_still() {
	run --detach --name it busybox sh -c 'while :; do echo x; sleep 0.05; done'
	dhow pause it
	is "$(inspect it '{{.State.Status}} {{.State.Paused}}')" "paused true"
	has "$(cat "$(cgroup_of it)/cgroup.events")" "frozen 1"
	before=$(dhow logs it | wc -l)
	sleep 0.5
	is "$(dhow logs it | wc -l)" "$before"
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
	[ ! -e io.weight ] || has "$(cat io.weight)" "default 4950"
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

limits_that_cannot_be_are_refused() {
	has "$(code 125 run --rm --memory 1m busybox true)" "Minimum memory limit allowed is 6MB"
	has "$(code 125 run --rm --memory 64m --memory-swappiness 50 busybox true)" "memory swappiness is not supported"
	has "$(code 125 run --rm --memory 64m --oom-kill-disable busybox true)" "the OOM killer cannot be disabled"
	has "$(code 125 run --rm --cpus 5 busybox true)" "as there are only 2 CPUs available"
	has "$(code 125 run --rm --cpuset-cpus 7 busybox true)" "Requested CPUs are not available - requested 7, available: 0-1"
	has "$(code 125 run --rm --device-read-bps /dev/absent:1mb busybox true)" "/dev/absent"
	is "$(dhow ps --all --quiet)" ""
}

# dd fills a buffer of that size.
memory_is_limited() {
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
	told=$(dhow events --since 0 --until 0s --filter event=oom --format '{{.Actor.Attributes.name}}')
	is "$told" "it
child"
	told=$(dhow events --since 0 --until 0s --filter "container=$(inspect it '{{.Id}}')" --format '{{.Action}}' | grep -x -e oom -e die)
	is "$told" "oom
die"
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
	[ "$of_much" -gt $((of_little * 3)) ] || fail "much has used $of_much, little $of_little"
}

# No sooner than the rate allows; a slow machine only makes it later.
rates_of_devices_are_limited() {
	line='a=$(cut -d. -f1 /proc/uptime); dd if=/dev/vda of=/dev/null iflag=direct bs=64k count=64 2>/dev/null; echo $(($(cut -d. -f1 /proc/uptime) - a))'
	took=$(run --rm --device /dev/vda --device-read-bps /dev/vda:1mb busybox sh -c "$line")
	[ "$took" -ge 2 ] || fail "4 MiB at 1 MiB a second took $took s"
	took=$(run --rm --device /dev/vda --device-read-iops /dev/vda:16 busybox sh -c "$line")
	[ "$took" -ge 2 ] || fail "64 reads at 16 a second took $took s"
}

limits_are_updated() {
	run --detach --name it --memory 32m --pids-limit 10 busybox sleep 1000
	dhow update --memory 64m --memory-swap 128m --pids-limit 20 --cpus 0.5 --cpuset-cpus 0 it
	cd "$(cgroup_of it)"
	is "$(cat memory.max memory.swap.max pids.max cpu.max cpuset.cpus | tr '\n' ' ')" "67108864 67108864 20 50000 100000 0 "
	cd /vm
	is "$(inspect it '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}')" "67108864 20 500000000"
	has "$(code 1 dhow update --memory 256m it)" "update the memoryswap at the same time"
	has "$(code 1 dhow update --cpu-quota 5000 it)" "CPU Quota cannot be updated as NanoCPUs has already been set"
	# What cannot hold leaves all as it was.
	code 1 dhow update --memory 128m --memory-swap 256m --cpuset-mems 5 it
	is "$(inspect it '{{.HostConfig.Memory}}') $(cat "$(cgroup_of it)/memory.max")" "67108864 67108864"
	dhow update --pids-limit -1 it
	is "$(cat "$(cgroup_of it)/pids.max")" max
	dhow stop --time 0 it
	dhow update --memory 100m it
	dhow start it
	is "$(cat "$(cgroup_of it)/memory.max")" 104857600
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
	has "$(code 125 run --rm --cgroup-parent ../x busybox true)" "invalid cgroup parent"
	is "$(run --rm busybox cat /proc/self/cgroup)" "0::/"
	has "$(run --rm --cgroupns host busybox cat /proc/self/cgroup)" "0::/dhow/"
	# Its own limits are not its own to lift.
	code 1 run --rm --memory 64m busybox sh -c 'echo max >/sys/fs/cgroup/memory.max'
}

# Of one that stands still, so that nothing changes between two looks.
stats_are_the_kernels_own() {
	run --detach --name it --memory 64m --pids-limit 30 busybox sh -c 'head -c 3000000 /dev/urandom >/file; cat /file >/dev/null; sync; echo done; sleep 1000'
	eventually sh -c 'dhow logs it | grep -q done'
	dhow pause it
	cd "$(cgroup_of it)"
	stats=$(printf 'GET /containers/it/stats?stream=false&one-shot=true HTTP/1.0\r\n\r\n' |
		dhow -H unix:///run/dhow/dhow.sock system dial-stdio)
	has "$stats" "\"memory_stats\":{\"usage\":$(cat memory.current),"
	has "$stats" "\"limit\":67108864"
	has "$stats" "\"inactive_file\":$(sed -n 's/^inactive_file //p' memory.stat)"
	has "$stats" "\"pids_stats\":{\"current\":$(cat pids.current),\"limit\":30}"
	has "$stats" "\"total_usage\":$(sed -n 's/^usage_usec //p' cpu.stat)000"
	written=$(sed -n 's/^254:0 .*wbytes=\([0-9]*\).*/\1/p' io.stat)
	[ "$written" -ge 3000000 ] || fail "only $written bytes were written"
	has "$stats" "\"major\":254,\"minor\":0,\"op\":\"write\",\"value\":$written"
	cd /vm
}
