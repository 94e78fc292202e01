/*
 * What every HTTP server has to do on epoll, and nothing else, in C: the floor under the servers of this benchmark.
 *
 *	chttp -listen 127.0.0.1:0
 *
 * One thread, level-triggered. It looks at nothing but the empty lines that end requests, and answers each with the same
 * text; the answers to all that one read completed go out in one write. It is no HTTP server: what has no end, no form or a
 * body is not seen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	READ_SIZE = 64 << 10,
	EVENTS = 512,
	ACCEPTS = 64, /* in one pass */
};

struct conn {
	int fd;
	int matched; /* octets of the end of a request that the last read ended with */
	char *out;   /* what the socket had no room for; NULL: nothing */
	size_t from, to;
};

static int ep;
static char input[READ_SIZE];
static char answer[256]; /* with the date of this second */
static size_t answer_len;
static char output[READ_SIZE / 4 * sizeof answer]; /* a request has four octets or more */

static void die(const char *what)
{
	fprintf(stderr, "chttp: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch(int op, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};
	if (epoll_ctl(ep, op, fd, &ev) < 0)
		die("epoll_ctl");
}

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

/* put writes what the socket takes; -1: the connection is lost. */
static ssize_t put(struct conn *c, const char *p, size_t n)
{
	ssize_t sent;
	do
		sent = write(c->fd, p, n);
	while (sent < 0 && errno == EINTR);
	return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void flush(struct conn *c)
{
	ssize_t sent = put(c, c->out + c->from, c->to - c->from);
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
	ssize_t n = read(c->fd, input, sizeof input);
	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
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
	if (len > 0 && (sent = put(c, output, len)) < 0) {
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

static void acceptable(int listener)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
				return;
			die("accept4");
		}
		struct conn *c = calloc(1, sizeof *c);
		if (c == NULL)
			die("calloc");
		c->fd = fd;
		watch(EPOLL_CTL_ADD, fd, EPOLLIN, c);
	}
}

/* listening opens HOST:PORT and says on standard error what it became. */
static int listening(const char *address)
{
	char host[256], port[32];
	const char *colon = strrchr(address, ':');
	if (colon == NULL || (size_t)(colon - address) >= sizeof host) {
		fprintf(stderr, "chttp: -listen %s: not HOST:PORT\n", address);
		exit(2);
	}
	snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);

	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai;
	int e = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &ai);
	if (e != 0) {
		fprintf(stderr, "chttp: -listen %s: %s\n", address, gai_strerror(e));
		exit(1);
	}
	int on = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what is accepted inherits it */
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 4096) < 0)
		die(address);
	freeaddrinfo(ai);

	struct sockaddr_storage sa;
	socklen_t size = sizeof sa;
	if (getsockname(fd, (struct sockaddr *)&sa, &size) < 0 ||
	    getnameinfo((struct sockaddr *)&sa, size, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		die("getsockname");
	fprintf(stderr, "listening on %s:%s\n", host, port);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], "-listen") != 0) {
		fprintf(stderr, "usage: chttp -listen HOST:PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* Go programs do the same */
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
		die("epoll_create1");
	int listener = listening(argv[2]);
	watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	now();
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(ep, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		now();
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (c == NULL)
				acceptable(listener);
			else if (c->out != NULL)
				flush(c);
			else
				readable(c);
		}
	}
}
