/* trace FUNCTIONS CALLED PROGRAM ARGUMENT...
 *
 * Runs a program that is linked to fixed addresses, and writes the addresses of those functions that are called, by it or
 * by whom it starts of itself, in the order of their first calls. FUNCTIONS are hexadecimal addresses, a line each. Each
 * gets a breakpoint, which goes when it is hit. Other programs that it starts go on untraced.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 200000

struct function {
	unsigned long at;
	unsigned char first;
	int called;
};

static struct function functions[MOST];
static size_t count;
static FILE *called;

static int by_address(const void *one, const void *other)
{
	unsigned long a = ((const struct function *)one)->at, b = ((const struct function *)other)->at;
	return (a > b) - (a < b);
}

static int memory(pid_t pid)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	return open(path, O_RDWR | O_CLOEXEC);
}

static void set_breakpoints(pid_t pid)
{
	const unsigned char breakpoint = 0xcc;
	int fd = memory(pid);
	for (struct function *it = functions; it < functions + count; it++) {
		if (it->called || (!it->first && pread(fd, &it->first, 1, it->at) != 1))
			continue;
		if (pwrite(fd, &breakpoint, 1, it->at) != 1)
			perror("set a breakpoint");
	}
	close(fd);
}

/* Whether it stopped at a breakpoint of ours, which is gone then. */
static int hit(pid_t pid)
{
	struct user_regs_struct registers;
	ptrace(PTRACE_GETREGS, pid, 0, &registers);
	struct function wanted = {.at = registers.rip - 1};
	struct function *it = bsearch(&wanted, functions, count, sizeof wanted, by_address);
	if (!it)
		return 0;
	int fd = memory(pid);
	if (pwrite(fd, &it->first, 1, it->at) != 1)
		perror("take a breakpoint away");
	close(fd);
	registers.rip = it->at;
	ptrace(PTRACE_SETREGS, pid, 0, &registers);
	if (!it->called)
		fprintf(called, "%016lx\n", it->at);
	it->called = 1;
	return 1;
}

int main(int argc, char **argv)
{
	FILE *list = argc > 3 ? fopen(argv[1], "r") : NULL;
	called = list ? fopen(argv[2], "w") : NULL;
	struct stat program, other;
	if (!called || stat(argv[3], &program)) {
		fprintf(stderr, "usage: trace FUNCTIONS CALLED PROGRAM ARGUMENT...\n");
		return 2;
	}
	while (count < MOST && fscanf(list, "%lx", &functions[count].at) == 1)
		count++;
	qsort(functions, count, sizeof *functions, by_address);
	pid_t pid, first = fork();
	if (!first) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execv(argv[3], argv + 3);
		_exit(127);
	}
	int status, begun = 0, result = 1;
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
			continue;
		}
		int signal = WSTOPSIG(status), event = status >> 16;
		if (event == PTRACE_EVENT_EXEC || !begun) {
			char path[32];
			snprintf(path, sizeof path, "/proc/%d/exe", pid);
			if (!begun)
				ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
			begun = 1;
			if (stat(path, &other) || other.st_ino != program.st_ino || other.st_dev != program.st_dev) {
				ptrace(PTRACE_DETACH, pid, 0, 0);
				continue;
			}
			set_breakpoints(pid);
			signal = 0;
		} else if (event || signal == SIGSTOP || (signal == SIGTRAP && hit(pid))) {
			signal = 0;
		}
		ptrace(PTRACE_CONT, pid, 0, signal);
	}
	return result;
}
