/* Times commands one after the other, round by round (A B C A B C …), so that a change of the machine's load meets
 * them all, and prints medians.
 *
 *   timer ROUNDS WARMUPS < commands
 *
 * A line of standard input is   LABEL|PREPARE|NAMESPACE|COMMAND   with words split at blanks:
 * PREPARE is run by sh before each timing and is not timed, NAMESPACE is a mount namespace's file that the command
 * enters before it is executed; both may be empty. A command's output goes to /dev/null.
 *
 * Output, one line a command, split by tabs: label, median wall, least wall, median CPU (all in milliseconds; CPU is
 * that of the command and of everything that it left running, to its end), largest resident set in KiB, failures.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_COMMANDS = 64, MOST_WORDS = 128 };

struct command {
	char *label, *prepare, *space, *words[MOST_WORDS];
	double *wall, *cpu;
	long resident;
	int done, failures;
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double used(const struct rusage *usage)
{
	return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e3 +
	       (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e3;
}

static int order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *values, int count)
{
	if (count == 0)
		return 0;
	qsort(values, (size_t)count, sizeof *values, order);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void once(struct command *command, int counts)
{
	struct rusage usage;
	int status, code;

	if (*command->prepare && system(command->prepare) != 0) {
		fprintf(stderr, "timer: %s: cannot prepare: %s\n", command->label, command->prepare);
		exit(1);
	}
	double start = now();
	pid_t pid = vfork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		if (!getenv("TIMER_SHOW_ERRORS"))
			dup2(null, 2);
		if (*command->space) {
			int space = open(command->space, O_RDONLY | O_CLOEXEC);
			if (setns(space, CLONE_NEWNS) < 0)
				_exit(124);
		}
		execvp(command->words[0], command->words);
		_exit(127);
	}
	while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
		;
	double wall = now() - start;
	double cpu = used(&usage);
	long resident = usage.ru_maxrss;
	/* What it left behind is this process's child now. It ends before the next round starts. */
	while (wait4(-1, &code, 0, &usage) > 0 || errno == EINTR) {
		cpu += used(&usage);
		if (usage.ru_maxrss > resident)
			resident = usage.ru_maxrss;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		command->failures++;
	if (!counts)
		return;
	command->wall[command->done] = wall;
	command->cpu[command->done++] = cpu;
	if (resident > command->resident)
		command->resident = resident;
}

int main(int argc, char **argv)
{
	static struct command commands[MOST_COMMANDS];
	int count = 0;
	char *line = NULL;
	size_t room = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: timer ROUNDS WARMUPS < commands\n");
		return 2;
	}
	int rounds = atoi(argv[1]), warmups = atoi(argv[2]);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	while (count < MOST_COMMANDS && getline(&line, &room, stdin) > 0) {
		struct command *command = &commands[count];
		char *rest = strdup(line), *blank = NULL;
		rest[strcspn(rest, "\n")] = 0;
		command->label = strsep(&rest, "|");
		command->prepare = strsep(&rest, "|");
		command->space = strsep(&rest, "|");
		if (!rest)
			continue;
		int words = 0;
		for (char *word = strtok_r(rest, " ", &blank); word && words < MOST_WORDS - 1; word = strtok_r(NULL, " ", &blank))
			command->words[words++] = word;
		command->wall = calloc((size_t)rounds, sizeof(double));
		command->cpu = calloc((size_t)rounds, sizeof(double));
		count++;
	}
	for (int round = 0; round < warmups + rounds; round++)
		for (int i = 0; i < count; i++)
			once(&commands[i], round >= warmups);
	for (int i = 0; i < count; i++) {
		struct command *command = &commands[i];
		double middle = median(command->wall, command->done);
		printf("%s\t%.2f\t%.2f\t%.2f\t%ld\t%d\n", command->label, middle, command->done ? command->wall[0] : 0,
		       median(command->cpu, command->done), command->resident, command->failures);
	}
	return 0;
}
