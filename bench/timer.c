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
 * that of the command and of everything that it left running, to its end), largest resident set in KiB, failures,
 * median of what was written in KiB.
 *
 * With TIMER_DISK=PATH, what was written is what the disk of that file system counts, whoever wrote it, from a sync
 * before the command to one after it; neither is timed. Else it is -1.
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
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_COMMANDS = 64, MOST_WORDS = 128 };

struct command {
	char *label, *prepare, *space, *words[MOST_WORDS];
	double *wall, *cpu, *written;
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

static int disk = -1;

/* Opens the file system of TIMER_DISK. */
static void open_disk(const char *path)
{
	if (path && (disk = open(path, O_RDONLY | O_DIRECTORY)) < 0) {
		perror(path);
		exit(1);
	}
}

/* KiB that the disk has written so far, all that was to be written with them. */
static double written(void)
{
	struct stat stat;
	char path[64];
	unsigned long long sectors;

	if (disk < 0 || syncfs(disk) < 0 || fstat(disk, &stat) < 0)
		return -1;
	snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(stat.st_dev), minor(stat.st_dev));
	FILE *file = fopen(path, "r");
	if (!file)
		return -1;
	int fields = fscanf(file, "%*u %*u %*u %*u %*u %*u %llu", &sectors);
	fclose(file);
	return fields == 1 ? (double)sectors / 2 : -1;
}

static void once(struct command *command, int counts)
{
	struct rusage usage;
	int status, code;

	if (*command->prepare && system(command->prepare) != 0) {
		fprintf(stderr, "timer: %s: cannot prepare: %s\n", command->label, command->prepare);
		exit(1);
	}
	double before = written();
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
	double after = written();
	if (!counts)
		return;
	command->written[command->done] = after < 0 ? -1 : after - before;
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
	open_disk(getenv("TIMER_DISK"));
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
		command->written = calloc((size_t)rounds, sizeof(double));
		count++;
	}
	for (int round = 0; round < warmups + rounds; round++)
		for (int i = 0; i < count; i++)
			once(&commands[i], round >= warmups);
	for (int i = 0; i < count; i++) {
		struct command *command = &commands[i];
		double middle = median(command->wall, command->done);
		printf("%s\t%.2f\t%.2f\t%.2f\t%ld\t%d\t%.0f\n", command->label, middle, command->done ? command->wall[0] : 0,
		       median(command->cpu, command->done), command->resident, command->failures,
		       median(command->written, command->done));
	}
	return 0;
}
