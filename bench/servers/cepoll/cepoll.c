/*
 * A line echo in C on epoll: what the servers of this benchmark are compared with.
 *
 *	cepoll -listen 127.0.0.1:0
 *
 * One thread, or one for each loop (see epoll.h), level-triggered. All connections of a loop share one 64 KiB read buffer; each
 * line in it is looked for with memchr, and all that a read completed goes out in one write, from where it lies. A connection
 * owns memory only while a line of it is cut, or its peer is slow. It is the least that a server can do that looks at every
 * line.
 */
#define NAME "cepoll"
#include "../epoll.h"

enum {
	MAX_LINE = 2 << 20, /* without its end; a longer line ends the connection */
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

static PER_LOOP struct {
	char *buf;
	size_t cap;
} spares[SPARES]; /* buffers that were grown for a long line, for the next one */
static PER_LOOP int spared;

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
		ssize_t sent = put(c->fd, c->buf + c->head, c->ready - c->head);
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
	ssize_t n = get(c->fd);
	if (n <= 0) {
		if (n < 0)
			drop(c);
		return;
	}
	char *end = input + n, *done = input; /* behind the last whole line */
	for (char *nl; (nl = memchr(done, '\n', end - done)) != NULL;)
		done = nl + 1;
	size_t lines = done - input;
	if (c->buf == NULL) {
		ssize_t sent = 0;
		if (lines > 0 && (sent = put(c->fd, input, lines)) < 0) {
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

static struct conn *opened(int fd)
{
	struct conn *c = zeroed(sizeof *c);
	c->fd = fd;
	return c;
}

static void ready(struct conn *c)
{
	if (c->blocked)
		flush(c);
	else
		readable(c);
}

static void pass(void) {}

int main(int argc, char **argv)
{
	return serve(argc, argv);
}
