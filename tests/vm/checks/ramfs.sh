# On the initramfs: pivot_root(2) is refused there, and the store's file system holds no overlay.

the_root_is_a_ramfs() {
	has "$(sed -n 's/.* \/ \/ .* - //p' /proc/self/mountinfo)" rootfs
	mkdir /tmp/new
	mount -t tmpfs new /tmp/new
	mkdir /tmp/new/old
	says 1 "Invalid argument" pivot_root /tmp/new /tmp/new/old
	umount /tmp/new
	rmdir /tmp/new
}

a_container_lives_on_a_ramfs_root() {
	dhow import --change 'CMD ["/bin/sh"]' /vm/probe.tar busybox
	is "$(run --rm busybox echo hello)" hello
	code 7 run --rm busybox sh -c 'exit 7'
	run --detach --name web busybox sh -c 'echo out; echo err >&2; sleep 1000'
	is "$(dhow exec web sh -c 'echo inside; cat /proc/1/comm')" "inside
sleep"
	eventually sh -c 'dhow logs web 2>/dev/null | grep -q out'
	is "$(dhow logs web 2>/dev/null)" out
	is "$(dhow ps --format '{{.Names}} {{.State}}')" "web running"
	dhow stop --time 0 web
	is "$(inspect web '{{.State.ExitCode}}')" 137
	dhow rm web
	is "$(dhow ps --all --quiet)" ""
}

nobody_climbs_out_on_a_ramfs_root() {
	touch /of-the-host
	is "$(run --rm busybox probe escape)" in
	is "$(run --rm --privileged busybox probe escape)" in
	for flags in "" --privileged; do
		# shellcheck disable=SC2086 # none or one
		is "$(run --rm $flags busybox sh -c 'ls / /proc/1/root/ | grep -c -e of-the-host -e ^vm$ || true')" 0
	done
	run --detach --name web busybox sleep 1000
	is "$(dhow exec web probe escape)" in
	is "$(dhow exec --privileged web probe escape)" in
	is "$(dhow exec web sh -c 'ls / | grep -c of-the-host || true')" 0
}

a_container_on_a_ramfs_root_sees_no_mount_of_the_host() {
	seen=$(run --rm busybox cat /proc/self/mountinfo)
	for place in /run /vm /dev/report /sys/fs/bpf /tmp; do
		case $seen in *" $place "*) fail "$place is in $seen" ;; esac
	done
	# Neither by asking for the root of its own mount namespace anew.
	seen=$(run --rm --cap-add SYS_ADMIN --security-opt seccomp=unconfined busybox \
		nsenter --mount=/proc/self/ns/mnt ls /)
	case $seen in *of-the-host*) fail "$seen" ;; esac
}

mounts_and_terminals_on_a_ramfs_root() {
	mkdir -p /tmp/shared
	echo given >/tmp/shared/file
	is "$(run --rm --volume /tmp/shared:/shared --tmpfs /scratch --read-only busybox sh -c \
		'cat /shared/file; touch /scratch/x && echo scratch; touch /x 2>/dev/null || echo read-only')" "given
scratch
read-only"
	is "$(run --rm --tty busybox sh -c 'test -t 0 && tty' | tr -d '\r')" /dev/pts/0
	rm -r /tmp/shared
}

nothing_is_left_on_a_ramfs_root() {
	dhow rmi busybox
	rm -f /of-the-host
	is "$(dhow images --quiet)" ""
	is "$(ls /var/lib/dhow/layers)" ""
	rm -rf /var/lib/dhow /run/dhow
	rmdir /sys/fs/cgroup/dhow/*/ /sys/fs/cgroup/dhow
}
