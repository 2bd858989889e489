/* The kernel's own part of running a container, and nothing else: a cgroup, namespaces, an overlay on the given
 * root file system, /proc, /dev, pivot_root, exec, wait, and the directories gone again. What any engine must pay.
 *
 *   floor LOWER SCRATCH CGROUP PROGRAM [ARG…]
 *
 * LOWER is the image's root file system, SCRATCH a directory for upper, work and root, CGROUP a directory of the
 * cgroup2 mount in which one is made, or "-" for none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
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
	long child = syscall(SYS_clone3, &args, sizeof args);
	must((int)child, "clone");
	if (child == 0)
		inside(argv[1], scratch, argv + 4);
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
