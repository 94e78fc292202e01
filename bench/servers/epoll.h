/*
 * What the C servers of this benchmark have in common: one thread on level-triggered epoll, a listener and its connections.
 * Each of them is one file that defines NAME, includes this, defines the three functions that are declared here, and has
 * main call serve.
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
	EVENTS = 512,
	ACCEPTS = 64, /* in one pass */
};

struct conn; /* the server's own */

static struct conn *opened(int fd); /* a connection was accepted, which does not block */
static void ready(struct conn *c);  /* what it waits for can be done: input, unless watch was told otherwise */
static void pass(void);             /* comes before the events of each pass */

static int ep;
static char input[READ_SIZE]; /* all connections share it */

static void die(const char *what)
{
	fprintf(stderr, NAME ": %s: %s\n", what, strerror(errno));
	exit(1);
}

/* watch waits for something to happen to a connection; NULL: to the listener. */
static void watch(int op, int fd, uint32_t events, struct conn *c)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};
	if (epoll_ctl(ep, op, fd, &ev) < 0)
		die("epoll_ctl");
}

/* zeroed is memory for a connection. */
static void *zeroed(size_t size)
{
	void *p = calloc(1, size);
	if (p == NULL)
		die("calloc");
	return p;
}

/* get reads into input; 0: nothing came, -1: the connection has ended. */
static ssize_t get(int fd)
{
	ssize_t n = read(fd, input, sizeof input);
	if (n > 0)
		return n;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* put writes what the socket takes, which may be nothing; -1: the connection is lost. */
static inline ssize_t put(int fd, const char *p, size_t n)
{
	ssize_t sent;
	do
		sent = write(fd, p, n);
	while (sent < 0 && errno == EINTR);
	return sent < 0 && errno == EAGAIN ? 0 : sent;
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
		watch(EPOLL_CTL_ADD, fd, EPOLLIN, opened(fd));
	}
}

/* listening opens HOST:PORT and says on standard error what it became. */
static int listening(const char *address)
{
	char host[256], port[32];
	const char *colon = strrchr(address, ':');
	if (colon == NULL || (size_t)(colon - address) >= sizeof host) {
		fprintf(stderr, NAME ": -listen %s: not HOST:PORT\n", address);
		exit(2);
	}
	snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);

	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *ai;
	int e = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &ai);
	if (e != 0) {
		fprintf(stderr, NAME ": -listen %s: %s\n", address, gai_strerror(e));
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

/* serve is the whole program: it ends by a signal. */
static int serve(int argc, char **argv)
{
	if (argc != 3 || strcmp(argv[1], "-listen") != 0) {
		fprintf(stderr, "usage: " NAME " -listen HOST:PORT\n");
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
		pass();
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				acceptable(listener);
			else
				ready(events[i].data.ptr);
		}
	}
}
