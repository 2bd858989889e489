# Linux with SELinux in the place of AppArmor, and a policy that knows containers. It cannot be unloaded: nothing comes after.

# What a process of a container is called, and what its files are.
_label() {
	run --rm "$@" busybox cat /proc/self/attr/current | tr -d '\0'
}

_file() {
	inspect "$1" '{{.MountLabel}}'
}

# bind MODE COMMAND: in a container that has /var/lib/lent.
_lent() {
	run --rm --volume "/var/lib/lent:/lent$1" busybox sh -c "$2" 2>&1 || true
}

selinux_labels_hold() {
	dhow import /vm/probe.tar busybox
	# Until there is a policy nothing has a label.
	mount -t selinuxfs selinuxfs /sys/fs/selinux
	trap 'rm -rf /etc/selinux /var/lib/lent /var/lib/other; umount /sys/fs/selinux' EXIT
	case $(dhow info 2>&1) in *selinux* | *SELinux*) fail "there is no policy yet" ;; esac
	is "$(_label --security-opt label=type:other_t)" kernel

	# One without anything about containers.
	dd if=/vm/policy of=/sys/fs/selinux/load bs=1M
	echo 1 >/sys/fs/selinux/enforce
	is "$(cat /sys/fs/selinux/enforce)" 1
	has "$(dhow info 2>&1)" "WARNING: No SELinux labels for containers"
	has "$(_label)" :host_t:
	has "$(_label --security-opt label=disable)" :host_t:
	says 125 "label=type:other_t: there are no SELinux labels" run --rm --security-opt label=type:other_t busybox true

	# As if container-selinux were installed, for a policy called small.
	mkdir -p /etc/selinux/small/contexts
	echo 'SELINUXTYPE=small' >/etc/selinux/config
	printf '%s\n' 'process = "system_u:system_r:container_t:s0"' 'file = "system_u:object_r:container_file_t:s0"' \
		'ro_file = "system_u:object_r:container_ro_file_t:s0"' \
		>/etc/selinux/small/contexts/lxc_contexts
	has "$(dhow info --format '{{.SecurityOptions}}')" name=selinux
	case $(dhow info 2>&1) in *"No SELinux"*) fail "there are labels now" ;; esac
	run --detach --name it --ipc shareable busybox sleep 1000
	label=$(inspect it '{{.ProcessLabel}}')
	case $label in system_u:system_r:container_t:s0:c*,c*) ;; *) fail "$label" ;; esac
	level=${label#*container_t:}
	is "$(_file it)" "system_u:object_r:container_file_t:$level"
	is "$(tr -d '\0' <"/proc/$(inspect it '{{.State.Pid}}')/attr/current")" "$label"
	# An exec has it too, and what it makes is labelled as its files are.
	for flag in "" --privileged; do
		is "$(dhow exec $flag it cat /proc/self/attr/current | tr -d '\0')" "$label"
	done
	for point in / /dev /dev/pts /dev/shm; do
		has "$(dhow exec it grep " $point " /proc/mounts)" "context=\"system_u:object_r:container_file_t:$level\""
	done
	is "$(dhow exec it sh -c 'echo x >/x && cat /x')" x
	# Another one has another level, and the first keeps its own.
	case $(_label) in "$label") fail "one level for two" ;; system_u:system_r:container_t:s0:c*) ;; *) fail "no label" ;; esac
	dhow restart --time 0 it
	is "$(dhow exec it cat /proc/1/attr/current | tr -d '\0')" "$label"
	is "$(_label --pid container:it)" "$label"
	is "$(_label --ipc container:it)" "$label"
	# Init is in it by being executed, and passes signals on.
	run --detach --init --name second busybox sleep 1000
	is "$(dhow exec second cat /proc/1/attr/current | tr -d '\0')" "$(inspect second '{{.ProcessLabel}}')"
	# It may be taken along before it has ended itself.
	dhow exec second kill -TERM 1 || true
	eventually status_is second exited
	is "$(inspect second '{{.State.ExitCode}}')" 143
	# It says what is not there, gives codes on, reaps what is orphaned, and is the user.
	says 127 "docker-init: exec nothing: No such file or directory" run --rm --init busybox nothing
	says 126 "docker-init: exec /etc:" run --rm --init busybox /etc
	code 7 run --rm --init busybox sh -c 'exit 7'
	run --detach --init --user 1000 --security-opt no-new-privileges --name third busybox \
		sh -c '(sleep 0.1 &) ; while sleep 0.5; do ls /proc >/dev/shm/all; grep -c "^[0-9]*$" /dev/shm/all >/dev/shm/left; done'
	# Init, the shell and ls; who asks may be counted, too.
	_reaped() { [ "$(dhow exec third cat /dev/shm/left)" = 3 ]; }
	eventually _reaped
	is "$(dhow exec third stat -c %u /proc/1)" 1000
	is "$(dhow exec third cat /proc/1/attr/current | tr -d '\0')" "$(inspect third '{{.ProcessLabel}}')"
	dhow rm --force third
	is "$(run --rm --init --tty busybox tty)" "$(printf '/dev/pts/0\r')"

	# The kernel may have forgotten whom to tell of the end of a shim.
	for flag in "" --init; do
		run --detach $flag --name fifth busybox sleep 1000
		pid=$(inspect fifth '{{.State.Pid}}')
		kill -9 "$(awk '$1 == "PPid:" { print $2 }' "/proc/$pid/status")"
		_taken_along() { dhow ps && ! kill -0 "$pid"; }
		eventually _taken_along
		is "$(inspect fifth '{{.State.Status}} {{.State.ExitCode}}')" "exited 137"
		dhow rm fifth
	done

	# What is asked for.
	case $(_label --security-opt label=type:other_t) in system_u:system_r:other_t:s0:c*,c*) ;; *) fail "type" ;; esac
	is "$(_label --security-opt label=level:s0:c7)" system_u:system_r:container_t:s0:c7
	is "$(_label --security-opt label=level:s0:c7 --user 1000 --security-opt no-new-privileges)" system_u:system_r:container_t:s0:c7
	dhow create --network none --name third --security-opt label=filetype:other_file_t busybox true
	has "$(_file third)" system_u:object_r:other_file_t:s0:c
	says 125 "bad label option" run --rm --security-opt label=nonsense busybox true
	says 125 "unable to apply SELinux label" run --rm --security-opt label=type:none_such busybox true
	for flag in "--security-opt label=disable" --privileged "--pid host" "--ipc host"; do
		# shellcheck disable=SC2086 # two words
		has "$(_label $flag)" :host_t:
	done
	run --name fourth --privileged busybox true
	is "$(inspect fourth '{{.ProcessLabel}} {{.MountLabel}}')" " system_u:object_r:container_file_t:s0:c1022,c1023"
	has "$(inspect fourth '{{.HostConfig.SecurityOpt}}')" label=disable

	# What is lent is read where it was made theirs: by several, or by one.
	mkdir -p /var/lib/lent/below /var/lib/other
	echo lent >/var/lib/lent/below/file
	echo other >/var/lib/other/file
	ln -s /var/lib/other /var/lib/lent/link
	has "$(_lent "" 'cat /lent/below/file')" "Permission denied"
	is "$(_lent :z 'cat /lent/below/file')" lent
	is "$(_lent "" 'cat /lent/below/file; echo more >>/lent/below/file; tail -n 1 /lent/below/file')" "lent
more"
	is "$(_lent :Z 'head -n 1 /lent/below/file')" lent
	has "$(_lent "" 'cat /lent/below/file')" "Permission denied"
	has "$(run --rm --volume /var/lib/other:/other busybox cat /other/file 2>&1 || true)" "Permission denied"
	says 125 "SELinux relabeling of /etc is not allowed" run --rm --volume /etc:/lent:Z busybox true
	# Volumes are for all.
	is "$(run --rm --volume box:/box busybox sh -c 'echo in >/box/file; cat /box/file')" in
	is "$(run --rm --volume box:/box busybox cat /box/file)" in
	has "$(run --rm --mount type=bind,source=/var/lib/dhow/volumes,target=/all busybox cat /etc/hosts /etc/resolv.conf /etc/hostname)" localhost

	# Nothing of it travels.
	dhow commit it made
	dhow save made | grep -q security.selinux && fail "a label is in a layer"
	dhow cp it:/x /tmp/x
	is "$(cat /tmp/x)" x
	rm /tmp/x

	# Root in a user namespace is held as well.
	mkdir -p /etc/dhow
	echo '{"userns-remap": "default"}' >/etc/dhow/daemon.json
	for file in subuid subgid; do echo dockremap:700000:65536 >"/etc/$file"; done
	case $(_label) in system_u:system_r:container_t:s0:c*,c*) ;; *) fail "with a user namespace: $(_label 2>&1)" ;; esac
	echo '{"selinux-enabled": false}' >/etc/dhow/daemon.json
	has "$(_label)" :host_t:
	case $(dhow info 2>&1) in *selinux* | *SELinux*) fail "it is turned off" ;; esac
	rm /etc/dhow/daemon.json

	# A level goes back with its container.
	dhow rm --force it second third fourth
	is "$(ls /var/lib/dhow/labels)" ""
}
