/*
 * A line echo in C on epoll: what the servers of this benchmark are compared with.
 *
 *	cepoll -listen 127.0.0.1:0
 *
 * One thread, level-triggered. All connections share one 64 KiB read buffer; each line in it is looked for with memchr, and
 * all that a read completed goes out in one write, from where it lies. A connection owns memory only while a line of it is
 * cut, or its peer is slow. It is the least that a server can do that looks at every line.
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
#include <unistd.h>

enum {
	READ_SIZE = 64 << 10,
	MAX_LINE = 2 << 20, /* without its end; a longer line ends the connection */
	EVENTS = 512,
	ACCEPTS = 64, /* in one pass */
	SPARES = 64,
};

/*
 * What was received and not sent lies in buf: [head, ready) are whole lines, [ready, tail) is the beginning of the next.
 * An echo sends what it received, in that order, so one buffer is input and output.
 */
struct conn {
	int fd;
	int blocked; /* waits to write, and does not read */
	char *buf;   /* NULL: nothing is kept */
	size_t cap, head, ready, tail;
};

static int ep;
static char input[READ_SIZE];
static struct {
	char *buf;
	size_t cap;
} spares[SPARES]; /* buffers that were grown for a long line, for the next one */
static int spared;

static void die(const char *what)
{
	fprintf(stderr, "cepoll: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void watch(int op, int fd, uint32_t events, void *ptr)
{
	struct epoll_event ev = {.events = events, .data.ptr = ptr};
	if (epoll_ctl(ep, op, fd, &ev) < 0)
		die("epoll_ctl");
}

static void release(struct conn *c)
{
	if (c->buf != NULL) {
		if (spared < SPARES) {
			spares[spared].buf = c->buf;
			spares[spared++].cap = c->cap;
		} else {
			free(c->buf);
		}
	}
	c->buf = NULL;
	c->cap = c->head = c->ready = c->tail = 0;
}

static void drop(struct conn *c)
{
	release(c);
	close(c->fd);
	free(c);
}

/* keep appends to the connection's own memory. */
static void keep(struct conn *c, const char *p, size_t n)
{
	if (c->buf == NULL && spared > 0) {
		c->buf = spares[--spared].buf;
		c->cap = spares[spared].cap;
	}
	if (c->tail + n > c->cap) {
		size_t cap = c->cap ? c->cap : 256;
		while (cap < c->tail + n)
			cap *= 2;
		if ((c->buf = realloc(c->buf, cap)) == NULL)
			die("realloc");
		c->cap = cap;
	}
	memcpy(c->buf + c->tail, p, n);
	c->tail += n;
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

/* block switches between waiting for input and waiting for room to write. */
static void block(struct conn *c, int on)
{
	if (c->blocked != on) {
		c->blocked = on;
		watch(EPOLL_CTL_MOD, c->fd, on ? EPOLLOUT : EPOLLIN, c);
	}
}

static void flush(struct conn *c)
{
	if (c->head < c->ready) {
		ssize_t sent = put(c, c->buf + c->head, c->ready - c->head);
		if (sent < 0) {
			drop(c);
			return;
		}
		c->head += sent;
	}
	if (c->head < c->ready) {
		block(c, 1);
		return;
	}
	if (c->ready == c->tail) {
		release(c);
	} else if (c->head > 0) {
		memmove(c->buf, c->buf + c->head, c->tail - c->head);
		c->tail -= c->head;
		c->head = c->ready = 0;
	}
	block(c, 0);
}

static void readable(struct conn *c)
{
	ssize_t n = read(c->fd, input, sizeof input);
	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			drop(c);
		return;
	}
	char *end = input + n, *done = input; /* behind the last whole line */
	for (char *nl; (nl = memchr(done, '\n', end - done)) != NULL;)
		done = nl + 1;
	size_t lines = done - input;
	if (c->buf == NULL) {
		ssize_t sent = 0;
		if (lines > 0 && (sent = put(c, input, lines)) < 0) {
			drop(c);
			return;
		}
		if (sent == n)
			return; /* nearly always */
		keep(c, input + sent, n - sent);
		c->ready = lines - sent;
		block(c, c->ready > 0);
	} else {
		keep(c, input, n);
		if (lines > 0) {
			c->ready = c->tail - (n - lines);
			flush(c);
			return;
		}
	}
	if (c->tail - c->ready > MAX_LINE)
		drop(c);
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
		fprintf(stderr, "cepoll: -listen %s: not HOST:PORT\n", address);
		exit(2);
	}
	snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);

	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai;
	int e = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &ai);
	if (e != 0) {
		fprintf(stderr, "cepoll: -listen %s: %s\n", address, gai_strerror(e));
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
	    getnameinfo((struct sockaddr *)&sa, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		die("getsockname");
	fprintf(stderr, "listening on %s:%s\n", host, port);
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], "-listen") != 0) {
		fprintf(stderr, "usage: cepoll -listen HOST:PORT\n");
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
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(ep, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (c == NULL)
				acceptable(listener);
			else if (c->blocked)
				flush(c);
			else
				readable(c);
		}
	}
}
