/*
 * What the C servers of this benchmark have in common: one thread on level-triggered epoll, a listener and its connections.
 * Each of them is one file that defines NAME, includes this, defines the three functions that are declared here, and has
 * main call serve.
 *
 * Compiled with -DLOOPS=2 it has two threads, each with a loop of its own; the kernel deals out the connections between them.
 * What a server keeps for all connections of a loop it declares PER_LOOP.
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

#ifdef LOOPS
#include <pthread.h>
#define PER_LOOP __thread
#else
#define LOOPS 1
#define PER_LOOP
#endif

enum {
	READ_SIZE = 64 << 10,
	EVENTS = 512,
	ACCEPTS = 64, /* in one pass */
};

struct conn; /* the server's own */

static struct conn *opened(int fd); /* a connection was accepted, which does not block */
static void ready(struct conn *c);  /* what it waits for can be done: input, unless watch was told otherwise */
static void pass(void);             /* comes before the events of each pass */

static PER_LOOP int ep;
static PER_LOOP char input[READ_SIZE]; /* all connections share it */

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

/* bound opens a socket that listens on sa, which is address. */
static int bound(const char *address, const struct sockaddr *sa, socklen_t size)
{
	int on = 1, fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (LOOPS > 1)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what is accepted inherits it */
	if (bind(fd, sa, size) < 0 || listen(fd, 4096) < 0)
		die(address);
	return fd;
}

/* listening opens HOST:PORT for each loop, and says on standard error what it became. */
static void listening(const char *address, int listeners[LOOPS])
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
	struct sockaddr_storage sa;
	socklen_t size = sizeof sa;
	listeners[0] = bound(address, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(ai);
	if (getsockname(listeners[0], (struct sockaddr *)&sa, &size) < 0 ||
	    getnameinfo((struct sockaddr *)&sa, size, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		die("getsockname");
	for (int i = 1; i < LOOPS; i++)
		listeners[i] = bound(address, (struct sockaddr *)&sa, size);
	fprintf(stderr, "listening on %s:%s\n", host, port);
}

/* loop accepts and serves, for ever. */
static __attribute__((noreturn)) void *loop(void *listener)
{
	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
		die("epoll_create1");
	watch(EPOLL_CTL_ADD, *(int *)listener, EPOLLIN, NULL);
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(ep, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		pass();
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				acceptable(*(int *)listener);
			else
				ready(events[i].data.ptr);
		}
	}
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
	int listeners[LOOPS];
	listening(argv[2], listeners);
#if LOOPS > 1
	for (int i = 1; i < LOOPS; i++) {
		pthread_t thread;
		if ((errno = pthread_create(&thread, NULL, loop, &listeners[i])) != 0)
			die("pthread_create");
	}
#endif
	loop(&listeners[0]);
}
