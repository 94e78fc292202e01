/*
 * What every HTTP server has to do on epoll, and nothing else, in C: the floor under the servers of this benchmark.
 *
 *	chttp -listen 127.0.0.1:0
 *
 * One thread, level-triggered. It looks at nothing but the empty lines that end requests, and answers each with the same
 * text; the answers to all that one read completed go out in one write. It is no HTTP server: what has no end, no form or a
 * body is not seen.
 */
#define NAME "chttp"
#include "../epoll.h"
#include <time.h>

struct conn {
	int fd;
	int matched; /* octets of the end of a request that the last read ended with */
	char *out;   /* what the socket had no room for; NULL: nothing */
	size_t from, to;
};

static char answer[256]; /* with the date of this second */
static size_t answer_len;
static char output[READ_SIZE / 4 * sizeof answer]; /* a request has four octets or more */

static void drop(struct conn *c)
{
	free(c->out);
	close(c->fd);
	free(c);
}

/* now makes the answer, once a second. */
static void now(void)
{
	static time_t last;
	struct timespec ts;
	struct tm tm;
	char date[64];
	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (ts.tv_sec == last)
		return;
	last = ts.tv_sec;
	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&last, &tm));
	answer_len = snprintf(answer, sizeof answer,
			      "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
			      "Content-Length: 14\r\n\r\nHello, World!\n",
			      date);
}

static void flush(struct conn *c)
{
	ssize_t sent = put(c->fd, c->out + c->from, c->to - c->from);
	if (sent < 0) {
		drop(c);
		return;
	}
	if ((c->from += sent) == c->to) {
		free(c->out);
		c->out = NULL;
		watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
	}
}

static void readable(struct conn *c)
{
	ssize_t n = get(c->fd);
	if (n <= 0) {
		if (n < 0)
			drop(c);
		return;
	}
	size_t len = 0;
	char *p = input, *end = input + n;
	while (p < end) {
		if (c->matched == 0 && (p = memchr(p, '\r', end - p)) == NULL)
			break;
		if (*p == "\r\n\r\n"[c->matched]) {
			c->matched++;
		} else {
			c->matched = *p == '\r';
		}
		p++;
		if (c->matched == 4) {
			c->matched = 0;
			memcpy(output + len, answer, answer_len);
			len += answer_len;
		}
	}
	ssize_t sent = 0;
	if (len > 0 && (sent = put(c->fd, output, len)) < 0) {
		drop(c);
		return;
	}
	if ((size_t)sent == len)
		return; /* nearly always */
	c->from = 0;
	c->to = len - sent;
	if ((c->out = malloc(c->to)) == NULL)
		die("malloc");
	memcpy(c->out, output + sent, c->to);
	watch(EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
}

static struct conn *opened(int fd)
{
	struct conn *c = zeroed(sizeof *c);
	c->fd = fd;
	return c;
}

static void ready(struct conn *c)
{
	if (c->out != NULL)
		flush(c);
	else
		readable(c);
}

static void pass(void)
{
	now();
}

int main(int argc, char **argv)
{
	return serve(argc, argv);
}
