# What a user does with one engine and nothing else, on a root that can be pivoted from and a store on ext4.

the_root_is_no_ramfs() {
	grep -q '^/dev/vda /var/lib ext4' /proc/mounts
	mount -t tmpfs new /mnt
	mkdir /mnt/old
	unshare --mount sh -c 'mount --make-rprivate /; pivot_root /mnt /mnt/old'
	umount /mnt
}

images_come_from_tars_and_archives() {
	dhow import --change 'CMD ["/bin/sh"]' /vm/probe.tar busybox
	dhow load --input /vm/layers.tar
	is "$(run --rm layers:latest sh -c 'cat /kept /zstd; ls /gone 2>/dev/null; ls /opaque')" "kept
of zstd
new"
	id=$(dhow images --quiet --no-trunc layers)
	dhow save --output /tmp/saved.tar layers
	dhow rmi layers
	dhow load --input /tmp/saved.tar
	is "$(dhow images --quiet --no-trunc layers)" "$id"
	dhow rmi layers
	rm /tmp/saved.tar
}

what_is_built_is_what_the_host_builds() {
	mkdir -p /tmp/context
	cp /vm/built.Dockerfile /tmp/context/Dockerfile
	cp /vm/probe.tar /tmp/context/probe.tar
	is "$(dhow build -q --network none --build-arg SOURCE_DATE_EPOCH=1500000000 /tmp/context)" "$(cat /vm/built.id)"
	dhow image prune --force
	dhow builder prune --all --force
	rm -r /tmp/context
}

the_root_of_a_container_is_an_overlay() {
	has "$(run --rm busybox cat /proc/mounts)" "overlay / overlay rw"
	dhow load --input /vm/layers.tar
	has "$(run --rm layers cat /proc/mounts)" "overlay / overlay rw"
	# Another's files of many layers, and a part of them.
	is "$(run --rm --mount type=image,source=layers,target=/l busybox cat /l/zstd)" "of zstd"
	has "$(run --rm --mount type=image,source=layers,target=/b,image-subpath=bin busybox ls /b)" busybox
	dhow rmi layers
}

a_registry_on_the_loopback_is_pulled_from() {
	/registry/lib/ld.so --library-path /registry/lib /registry/docker-registry serve \
		/registry/config.yml >/tmp/registry.log 2>&1 &
	registry=$!
	eventually wget -q -O /dev/null http://127.0.0.1:5000/v2/
	dhow pull 127.0.0.1:5000/layers:latest
	is "$(run --rm 127.0.0.1:5000/layers cat /zstd)" "of zstd"
	has "$(dhow inspect --format '{{json .RepoDigests}}' 127.0.0.1:5000/layers)" 127.0.0.1:5000/layers@sha256:
	dhow rmi 127.0.0.1:5000/layers
	says 1 nothing dhow pull 127.0.0.1:5000/nothing
	kill "$registry"
	wait "$registry" || true
}

exit_codes_streams_and_environment() {
	code 7 run --rm busybox sh -c 'exit 7'
	code 127 run --rm busybox nothing-of-that-name
	code 126 run --rm busybox /etc
	code 137 run --rm busybox sh -c 'sh -c "kill -9 \$\$"; exit $?'
	is "$(echo given | run --rm --interactive busybox cat)" given
	is "$(run --rm --env COLOUR=red --hostname box --user user --workdir /tmp busybox \
		sh -c 'echo $COLOUR; hostname; id -u; pwd')" "red
box
1000
/tmp"
	is "$(run --rm --tty busybox tty | tr -d '\r')" /dev/pts/0
	head -c 3000000 /dev/urandom >/tmp/data
	is "$(run --rm --interactive busybox md5sum </tmp/data)" "$(md5sum </tmp/data)"
	rm /tmp/data
}

root_in_a_user_namespace_is_nobody_outside() {
	for file in passwd:dockremap:x:987:987::/:/bin/false group:dockremap:x:987: \
		subuid:dockremap:300000:65536 subgid:dockremap:300000:65536; do
		echo "${file#*:}" >>"/etc/${file%%:*}"
	done
	mkdir -p /etc/dhow
	echo '{"userns-remap": "default"}' >/etc/dhow/daemon.json
	is "$(run --rm --volume data:/v busybox sh -c 'id -u; touch /mine /v/mine; chown 7:8 /mine /v/mine
		stat -c "%u:%g" /mine /v/mine /bin/busybox; echo x >/dev/null; cut -c 1-40 /proc/self/uid_map | tr -s " "')" "0
7:8
7:8
0:0
 0 300000 65536"
	id=$(run --detach --name web busybox sleep 1000)
	is "$(stat -c %u "/proc/$(inspect web '{{.State.Pid}}')")" 300000
	is "$(dhow exec web sh -c 'touch /mine; chown 7:8 /mine; stat -c %u:%g /mine')" 7:8
	is "$(stat -c %u:%g "/var/lib/dhow/containers/$id/upper/mine")" 7:8
	is "$(dhow cp web:/mine - | tar -tv | tr -s ' ' | cut -d' ' -f2)" 7/8
	is "$(dhow exec --tty web tty | tr -d '\r')" /dev/pts/0
	is "$(run --rm --pid container:web busybox sh -c 'readlink /proc/self/ns/user')" "$(dhow exec web readlink /proc/self/ns/user)"
	says 125 "privileged mode is incompatible" run --rm --privileged busybox true
	is "$(run --rm --userns host --privileged busybox sh -c 'cut -c 1-40 /proc/self/uid_map | tr -s " "')" " 0 0 4294967295"
	rm /etc/dhow/daemon.json
	is "$(run --rm --volume data:/v busybox stat -c %u:%g /v/mine)" 7:8
}

one_in_the_background_is_looked_at_from_all_sides() {
	id=$(run --detach --name web --label colour=red busybox sh -c 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done')
	eventually sh -c 'dhow logs web | grep -q up'
	is "$(dhow ps --no-trunc --format '{{.ID}} {{.Image}} {{.State}}' --filter label=colour=red)" "$id busybox running"
	is "$(dhow exec --env A=b web sh -c 'echo $A')" b
	code 5 dhow exec web sh -c 'exit 5'
	has "$(dhow top web)" sleep
	echo content >/tmp/file
	dhow cp /tmp/file web:/root/copied
	is "$(dhow exec web cat /root/copied)" content
	has "$(dhow diff web)" "A /root/copied"
	is "$(dhow cp web:/root/copied - | tar -xO)" content
	dhow rename web site
	dhow stop site
	is "$(inspect site '{{.State.Status}} {{.State.ExitCode}}')" "exited 3"
	is "$(dhow logs site)" "up
bye"
	dhow start site
	dhow kill site
	is "$(dhow wait site)" 137
	dhow commit site snapshot
	is "$(run --rm snapshot cat /root/copied)" content
	dhow rm site
	dhow rmi snapshot
	rm /tmp/file
}

volumes_binds_and_tmpfs() {
	run --rm --volume data:/data busybox sh -c 'echo kept >/data/file'
	is "$(run --rm --volume data:/data:ro busybox sh -c 'cat /data/file; touch /data/x 2>/dev/null || echo read-only')" "kept
read-only"
	is "$(run --rm --volume new:/etc busybox sh -c 'grep -c ^root /etc/passwd')" 1
	mkdir -p /tmp/host/below
	mount -t tmpfs below /tmp/host/below
	echo deep >/tmp/host/below/file
	is "$(run --rm --volume /tmp/host:/host busybox cat /host/below/file)" deep
	umount /tmp/host/below
	is "$(run --rm --tmpfs /scratch:size=1m busybox sh -c \
		'head -c 2000000 /dev/zero >/scratch/x 2>/dev/null || echo full')" full
	rm -r /tmp/host
}

restart_policies() {
	run --detach --name twice --restart on-failure:2 busybox sh -c 'exit 3'
	eventually status_is twice exited
	is "$(inspect twice '{{.RestartCount}} {{.State.ExitCode}}')" "2 3"
	run --detach --name always --restart always busybox true
	eventually sh -c '[ "$(dhow inspect --format "{{.RestartCount}}" always)" -ge 2 ]'
	dhow stop --time 0 always
	is "$(inspect always '{{.State.Status}}')" exited
}

health() {
	run --detach --name sick --health-cmd 'test -e /well' --health-interval 100ms --health-retries 1 busybox sleep 1000
	eventually sh -c '[ "$(dhow inspect --format "{{.State.Health.Status}}" sick)" = unhealthy ]'
	dhow exec sick touch /well
	eventually sh -c '[ "$(dhow inspect --format "{{.State.Health.Status}}" sick)" = healthy ]'
}

a_daemon_serves_the_same_store() {
	eventually test -S /run/dhow/dhow.sock
	eventually dhow -H unix:///run/dhow/dhow.sock version
	# Its own client, always over the socket, and the words of the wire.
	has "$(printf 'GET /_ping HTTP/1.0\r\n\r\n' | dhow -H unix:///run/dhow/dhow.sock system dial-stdio)" "Api-Version: 1.51"
	export DOCKER_HOST=unix:///run/dhow/dhow.sock
	is "$(run --rm busybox echo over)" over
	run --detach --name served busybox sleep 1000
	is "$(dhow exec served echo in)" in
	unset DOCKER_HOST
	is "$(dhow ps --format '{{.Names}}')" served
	is "$(dhow client ps --format '{{.Names}}')" served
}

apparmor_profiles_hold() {
	mount -t securityfs securityfs /sys/kernel/security
	trap 'rm -rf /usr/sbin/apparmor_parser /etc/apparmor.d; umount /sys/kernel/security' EXIT
	is "$(cat /sys/module/apparmor/parameters/enabled)" Y
	# Nobody is here who could compile the default profile.
	has "$(dhow info 2>&1)" "WARNING: No default AppArmor profile: dhow-default is not loaded"
	is "$(run --rm busybox cat /proc/self/attr/current)" unconfined
	says 127 "unable to apply apparmor profile none-such: no such file or directory" \
		run --rm --security-opt apparmor=none-such busybox true
	# As if the package were installed.
	mkdir -p /usr/sbin
	ln -s /vm/apparmor_parser /usr/sbin/apparmor_parser
	is "$(run --rm busybox cat /proc/self/attr/current)" "dhow-default (enforce)"
	case $(dhow info 2>&1) in *"No default AppArmor"*) fail "there is one now" ;; *apparmor*) ;; *) fail "info" ;; esac
	has "$(run --rm --cap-add SYS_ADMIN busybox mount -t tmpfs x /tmp 2>&1 || true)" "Permission denied"
	is "$(run --rm --cap-add SYS_ADMIN --security-opt apparmor=unconfined busybox \
		sh -c 'mount -t tmpfs x /tmp && cat /proc/self/attr/current')" unconfined
	is "$(run --rm --privileged busybox cat /proc/self/attr/current)" unconfined
	# An exec is in it too, also with all capabilities, and PID 1 of ours, which passes signals on.
	run --detach --init --name it busybox sleep 1000
	is "$(dhow exec it cat /proc/1/attr/current /proc/self/attr/current)" "dhow-default (enforce)
dhow-default (enforce)"
	is "$(dhow exec --privileged it cat /proc/self/attr/current)" "dhow-default (enforce)"
	is "$(inspect it '{{.AppArmorProfile}}')" dhow-default
	# It goes with what it ends, or ends before.
	dhow exec it kill -TERM 1 || true
	eventually status_is it exited
	is "$(inspect it '{{.State.ExitCode}}')" 143
	# Somebody has taken it away.
	printf dhow-default >/sys/kernel/security/apparmor/.remove
	# With what the package has besides, without which the parser leaves out rules about sockets.
	mkdir -p /etc/apparmor.d/abi
	cp /vm/abi-3.0 /etc/apparmor.d/abi/3.0
	is "$(run --rm busybox cat /proc/self/attr/current)" "dhow-default (enforce)"
	# Of the families of sockets it keeps AF_ALG away (38) where no filter does, and neither files' nor the network's.
	socket="run --rm --cap-add ALL --security-opt seccomp=unconfined"
	is "$($socket busybox probe socket 38)" EACCES
	[ "$($socket --security-opt apparmor=unconfined busybox probe socket 38)" != EACCES ]
	is "$($socket busybox sh -c 'probe socket 1; probe socket 2; probe socket 10')" "ok
ok
ok"
	# One's own.
	printf '%s\n' 'profile no-passwd flags=(attach_disconnected) {' 'file, capability, network, deny /etc/passwd r,' '}' |
		/vm/apparmor_parser -Kr
	said=$(run --rm --security-opt apparmor=no-passwd --security-opt no-new-privileges --user 1000 busybox \
		sh -c 'cat /proc/self/attr/current; cat /etc/passwd' 2>&1 || true)
	has "$said" "no-passwd (enforce)"
	has "$said" "Permission denied"
}

names_on_a_network() {
	dhow network create sea
	dhow run --detach --name db --network sea --network-alias store busybox sleep 1000
	dhow run --detach --name web --network sea busybox sleep 1000
	address=$(inspect db '{{.NetworkSettings.Networks.sea.IPAddress}}')
	for name in db store db.sea; do
		has "$(dhow exec web nslookup "$name.")" "Address: $address"
	done
	kill -9 "$(ps -o pid,args | sed -n 's/^ *\([0-9]*\) dhow shim resolver .*/\1/p')"
	eventually dhow exec web nslookup db.
	dhow rm --force db web
	dhow network rm sea
}

# What development hosts lack in their kernels: ipvlan, dummies, VLANs, SCTP.
links_of_the_host_are_shared() {
	ip link add lan0 type veth
	ip link set lan0 up
	# Its other end, without which it has no carrier.
	ip link set veth0 up
	# on DRIVER OPTION...: two containers of such a network reach each other.
	on() {
		dhow network create -d "$@" --subnet 10.99.0.0/24 sea
		dhow run --detach --name one --network sea --ip 10.99.0.7 busybox sleep 1000
		dhow run --rm --network sea busybox ping -c 1 -W 5 10.99.0.7
		has "$(dhow exec one ip route)" "$route"
		dhow rm --force one
	}
	route="default via 10.99.0.1"
	on ipvlan -o parent=lan0
	dhow network rm sea
	for mode in l3 l3s; do
		route="default dev eth0"
		on ipvlan -o parent=lan0 -o "ipvlan_mode=$mode"
		dhow network rm sea
	done
	route="default via 10.99.0.1"
	# Without a parent, there is one for the network alone.
	for driver in macvlan ipvlan; do
		on "$driver"
		has "$(ip link)" " dm-"
		dhow network rm sea
		hasnt "$(ip link)" " dm-"
	done
	# A VLAN is made, shared, and goes with the last network.
	on macvlan -o parent=lan0.10
	has "$(cat /proc/net/vlan/lan0.10)" "VID: 10"
	dhow network create -d macvlan --subnet 10.98.0.0/24 -o parent=lan0.10 bay
	dhow network rm sea
	has "$(ip link)" "lan0.10@lan0"
	dhow run --rm --network bay busybox true
	dhow network rm bay
	hasnt "$(ip link)" "lan0.10"
	# Somebody else's stays.
	ip link add link lan0 name lan0.20 type vlan id 20
	on ipvlan -o parent=lan0.20
	dhow network rm sea
	has "$(ip link)" "lan0.20@lan0"
	ip link del lan0
}

# A bridge of somebody's with two machines on it, for which this host is the router: NAME NET. Their pids.
_bridge_with_machines() {
	ip link add "$1" type bridge
	ip addr add "10.$2.0.1/24" dev "$1"
	ip link set "$1" up
	for number in 2 3; do
		unshare -n sleep 1000 >/dev/null 2>&1 &
		pid=$!
		eventually sh -c "[ \"\$(readlink /proc/$pid/ns/net)\" != \"\$(readlink /proc/self/ns/net)\" ]"
		# The other end is the kernel's veth0.
		ip link add "$1-$number" type veth
		ip link set "$1-$number" master "$1"
		ip link set "$1-$number" up
		ip link set veth0 netns "$pid"
		nsenter -t "$pid" -n ip addr add "10.$2.0.$number/24" dev veth0
		nsenter -t "$pid" -n ip link set veth0 up
		nsenter -t "$pid" -n ip route add default via "10.$2.0.1"
		echo "$pid"
	done
}

from_a_bridge_of_others_to_another_one_nothing_is_forwarded() {
	# A second after the last container, it is as it was found.
	eventually grep -q 0 /proc/sys/net/ipv4/ip_forward
	one=$(_bridge_with_machines one 97)
	dhow run --detach --name it busybox sleep 1000
	# One that is made while the rules are loaded.
	two=$(_bridge_with_machines two 96)
	is "$(cat /proc/sys/net/ipv4/ip_forward)" 1
	# on PID PING...: in the namespace of a machine.
	on() {
		pid=$1
		shift
		nsenter -t "$pid" -n ping -c 1 -W 1 "$@"
	}
	for way in "97 96 $one" "96 97 $two"; do
		set -- $way
		eventually on "$3" "10.$1.0.3"
		on "$4" "10.$1.0.1"
		code 1 on "$3" "10.$2.0.2"
	done
	kill $one $two
	dhow rm --force it
	ip link del one
	ip link del two
}

a_port_of_sctp_is_published() {
	tar -x -f /vm/probe.tar -C /tmp bin/probe
	dhow run --detach --name it --publish 9009:9/sctp busybox probe sctp 9
	has "$(dhow ports --format '{{.Published}} {{.Reach}}')" "0.0.0.0:9009/sctp everyone"
	gateway=$(inspect it '{{.NetworkSettings.Gateway}}')
	eventually sh -c '[ "$(/tmp/bin/probe sctp 9009 127.0.0.1)" = ahoy ]'
	for host in 127.0.0.1 "$gateway"; do
		is "$(/tmp/bin/probe sctp 9009 "$host")" ahoy
	done
	is "$(dhow run --rm busybox probe sctp 9009 "$gateway")" ahoy
	says 125 "port is already allocated" dhow run --rm --publish 9009:9/sctp busybox true
	dhow rm --force it
	rm -r /tmp/bin
}
