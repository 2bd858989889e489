/* Runs a command as a kernel would that has no Landlock, and that lets nobody have mounts or a pid namespace of his own: what
 * confines who unpacks the tars of strangers is not to be had then, and is done without.
 *
 *   without COMMAND [ARGUMENT...]
 *
 * The kernel keeps a list of calls that a filter always allows, so that this costs them next to nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LANDLOCK_CREATE_RULESET = 444 };

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(errno) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (errno))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* If the call is not that one, the next COUNT lines are passed over. */
#define UNLESS(number, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, count)
#define UNLESS_SET(bits, count) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, count)

int main(int argc, char **argv) {
	struct sock_filter lines[] = {
		LOAD(nr),
		UNLESS(LANDLOCK_CREATE_RULESET, 1),
		ANSWER(ENOSYS),
		UNLESS(__NR_unshare, 4),
		LOAD(args[0]),
		UNLESS_SET(CLONE_NEWNS, 1),
		ANSWER(EPERM),
		ALLOW,
		UNLESS(__NR_clone, 3),
		LOAD(args[0]),
		UNLESS_SET(CLONE_NEWPID, 1),
		ANSWER(EPERM),
		ALLOW,
	};
	struct sock_fprog program = { sizeof lines / sizeof *lines, lines };
	if (argc < 2) {
		fputs("usage: without COMMAND [ARGUMENT...]\n", stderr);
		return 2;
	}
	/* Root may, with no_new_privs unset, which would change what the command does. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
		perror("filter calls");
		return 1;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
