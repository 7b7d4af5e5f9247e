/*
 * Preloaded into the private Sendmail (see src/mta/sendmail.rs) and other daemons:
 * - the host name is mta.test: Sendmail sleeps a minute at its start on a machine whose own
 *   name has no dot;
 * - what it would tell syslog goes to the file named by MTA_LOG.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char path[4096];

__attribute__((constructor)) static void shim_start(void)
{
	const char *p = getenv("MTA_LOG"); /* Sendmail empties its environment later */

	if (p != NULL)
		snprintf(path, sizeof path, "%s", p);
}

int gethostname(char *name, size_t len)
{
	snprintf(name, len, "mta.test");
	return 0;
}

void openlog(const char *ident, int option, int facility)
{
	(void)ident, (void)option, (void)facility;
}

void closelog(void)
{
}

static void put(const char *fmt, va_list ap)
{
	char line[8192];
	time_t now = time(NULL);
	struct tm tm;
	int fd, n, m;

	if (path[0] == '\0')
		return;
	localtime_r(&now, &tm);
	n = (int)strftime(line, sizeof line, "%b %e %T ", &tm);
	n += snprintf(line + n, sizeof line - n, "%s[%d]: ", program_invocation_short_name,
	    (int)getpid());
	m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	n = m < (int)sizeof line - n - 1 ? n + m : (int)sizeof line - 2;
	line[n++] = '\n';
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
	if (fd >= 0) {
		if (write(fd, line, n) < 0)
			;
		close(fd);
	}
}

void syslog(int prio, const char *fmt, ...)
{
	va_list ap;

	(void)prio;
	va_start(ap, fmt);
	put(fmt, ap);
	va_end(ap);
}

void __syslog_chk(int prio, int flag, const char *fmt, ...)
{
	va_list ap;

	(void)prio, (void)flag;
	va_start(ap, fmt);
	put(fmt, ap);
	va_end(ap);
}
