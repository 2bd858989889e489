/* The kernel's own part of running a container, and nothing else: a cgroup, namespaces, an overlay on the given
 * root file system, /proc, /dev, pivot_root, exec, wait, and the directories gone again. What any engine must pay.
 *
 *   floor LOWER SCRATCH CGROUP PROGRAM [ARG…]
 *
 * LOWER is the image's root file system, SCRATCH a directory for upper, work and root, CGROUP a directory of the
 * cgroup2 mount in which one is made, or "-" for none. With FLOOR_BRIDGE in the environment, the name of a bridge with
 * the address 10.200.0.1/16, it is a port of that, as a pair of links with an address and a default route.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
		_exit(125);
	}
}

/* One message of rtnetlink under construction. */
static struct {
	struct nlmsghdr header;
	char body[1024];
} message;

static void begin(int kind, int flags, const void *fixed, size_t length)
{
	memset(&message, 0, sizeof message);
	message.header.nlmsg_type = (unsigned short)kind;
	message.header.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags);
	memcpy(message.body, fixed, length);
	message.header.nlmsg_len = (unsigned)NLMSG_SPACE(length);
}

static struct rtattr *add(int kind, const void *value, size_t length)
{
	struct rtattr *attribute = (void *)((char *)&message + NLMSG_ALIGN(message.header.nlmsg_len));
	attribute->rta_type = (unsigned short)kind;
	attribute->rta_len = (unsigned short)RTA_LENGTH(length);
	if (length)
		memcpy(RTA_DATA(attribute), value, length);
	message.header.nlmsg_len = NLMSG_ALIGN(message.header.nlmsg_len) + (unsigned)RTA_SPACE(length);
	return attribute;
}

static void end(struct rtattr *attribute)
{
	attribute->rta_len = (unsigned short)((char *)&message + NLMSG_ALIGN(message.header.nlmsg_len) - (char *)attribute);
}

static void ask(int fd, const char *what)
{
	char answer[4096];
	must((int)send(fd, &message, message.header.nlmsg_len, 0), what);
	must((int)recv(fd, answer, sizeof answer, 0), what);
	struct nlmsgerr *error = NLMSG_DATA((struct nlmsghdr *)answer);
	errno = -error->error;
	must(error->error, what);
}

static unsigned index_of(int fd, const char *name)
{
	char answer[16384];
	struct ifinfomsg any = { 0 };
	begin(RTM_GETLINK, 0, &any, sizeof any);
	message.header.nlmsg_flags = NLM_F_REQUEST;
	add(IFLA_IFNAME, name, strlen(name) + 1);
	must((int)send(fd, &message, message.header.nlmsg_len, 0), "ask for a link");
	must((int)recv(fd, answer, sizeof answer, 0), "hear of a link");
	struct nlmsghdr *header = (void *)answer;
	if (header->nlmsg_type != RTM_NEWLINK) {
		fprintf(stderr, "floor: there is no link %s\n", name);
		_exit(125);
	}
	return (unsigned)((struct ifinfomsg *)NLMSG_DATA(header))->ifi_index;
}

/* A pair of links: a port of the bridge here, eth0 with its address and route in the child's namespace. */
static void connect_to(const char *bridge, long child)
{
	int host = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), ours, theirs, there;
	char path[64], name[IFNAMSIZ];
	unsigned char mac[6] = { 2, 0x42, 10, 200, 0, 2 };
	uint32_t address = htonl(0x0ac80002), gateway = htonl(0x0ac80001), number;
	struct ifinfomsg up = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP }, down = { 0 };

	must(host, "open a netlink socket");
	must(ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "open our namespace");
	snprintf(path, sizeof path, "/proc/%ld/ns/net", child);
	must(theirs = open(path, O_RDONLY | O_CLOEXEC), path);
	must(setns(theirs, CLONE_NEWNET), "enter the namespace");
	must(there = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "open a netlink socket");
	must(setns(ours, CLONE_NEWNET), "come back");

	snprintf(name, sizeof name, "floor%d", getpid());
	unsigned master = index_of(host, bridge);
	begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up, sizeof up);
	add(IFLA_IFNAME, name, strlen(name) + 1);
	add(IFLA_MASTER, &master, 4);
	struct rtattr *info = add(IFLA_LINKINFO, NULL, 0);
	add(IFLA_INFO_KIND, "veth", 5);
	struct rtattr *data = add(IFLA_INFO_DATA, NULL, 0);
	struct rtattr *peer = add(VETH_INFO_PEER, &down, sizeof down);
	add(IFLA_IFNAME, "eth0", 5);
	add(IFLA_ADDRESS, mac, 6);
	add(IFLA_NET_NS_FD, &theirs, 4);
	end(peer);
	end(data);
	end(info);
	ask(host, "make a pair of links");

	number = index_of(there, "eth0");
	up.ifi_index = (int)number;
	begin(RTM_NEWLINK, 0, &up, sizeof up);
	ask(there, "set eth0 up");
	struct ifaddrmsg at = { .ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = number };
	begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &at, sizeof at);
	add(IFA_LOCAL, &address, 4);
	add(IFA_ADDRESS, &address, 4);
	ask(there, "set its address");
	struct rtmsg route = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST };
	begin(RTM_NEWROUTE, NLM_F_CREATE, &route, sizeof route);
	add(RTA_GATEWAY, &gateway, 4);
	add(RTA_OIF, &number, 4);
	ask(there, "set its default route");
}

static int ready[2];

static void inside(const char *lower, const char *scratch, char **program)
{
	static const struct {
		const char *name;
		int minor;
	} devices[] = { { "null", 3 }, { "zero", 5 }, { "full", 7 }, { "random", 8 }, { "urandom", 9 } };
	char options[8192], path[4096];

	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make / private");
	must(chdir(scratch), "enter the scratch directory");
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", lower);
	must(mount("overlay", "root", "overlay", 0, options), "mount the overlay");
	must(chdir("root"), "enter the root");
	must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount proc");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"), "mount dev");
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		snprintf(path, sizeof path, "dev/%s", devices[i].name);
		must(mknod(path, S_IFCHR | 0666, makedev(1, devices[i].minor)), path);
	}
	must(syscall(SYS_pivot_root, ".", "."), "pivot");
	must(umount2(".", MNT_DETACH), "leave the host's root");
	must(chdir("/"), "enter /");
	must(sethostname("floor", 5), "name the host");
	close(ready[1]);
	must((int)read(ready[0], path, 1), "wait for the network");
	execv(program[0], program);
	must(-1, program[0]);
}

int main(int argc, char **argv)
{
	char path[4096];
	int group = -1, status = 0;

	if (argc < 5) {
		fprintf(stderr, "usage: floor LOWER SCRATCH CGROUP PROGRAM [ARG…]\n");
		return 125;
	}
	const char *scratch = argv[2];
	static const char *const parts[] = { "", "/upper", "/work", "/root" };
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof path, "%s%s", scratch, parts[i]);
		must(mkdir(path, 0755), path);
	}
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET,
		.exit_signal = SIGCHLD,
	};
	char cgroup[4096];
	if (strcmp(argv[3], "-") != 0) {
		snprintf(cgroup, sizeof cgroup, "%s/floor-%d", argv[3], getpid());
		must(mkdir(cgroup, 0755), cgroup);
		group = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		must(group, cgroup);
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)group;
	}
	must(pipe2(ready, O_CLOEXEC), "make a pipe");
	long child = syscall(SYS_clone3, &args, sizeof args);
	must((int)child, "clone");
	if (child == 0)
		inside(argv[1], scratch, argv + 4);
	if (getenv("FLOOR_BRIDGE"))
		connect_to(getenv("FLOOR_BRIDGE"), child);
	close(ready[1]);
	must(waitpid((pid_t)child, &status, 0), "wait");
	if (group >= 0)
		must(rmdir(cgroup), cgroup);
	snprintf(path, sizeof path, "%s/work/work", scratch);
	rmdir(path);
	for (int i = 3; i >= 0; i--) {
		snprintf(path, sizeof path, "%s%s", scratch, parts[i]);
		must(rmdir(path), path);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
