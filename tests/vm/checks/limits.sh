# What the kernel does to a cgroup, where every controller is in version 2.

devices_are_confined() {
	code 1 run --rm --cap-add MKNOD busybox sh -c 'mknod /disk b 254 0; head -c 1 /disk'
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
