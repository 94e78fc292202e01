/*
 * What a broadcast comes to in C: whatever a member sends is sent to all of them, with one send(2) for each, and that is all.
 *
 *	csend -listen 127.0.0.1:0
 *
 * One thread, level-triggered. It keeps nothing: a member whose socket has no room for all of a message ends the program,
 * so that nobody is served less than the others in silence.
 */
#define NAME "csend"
#include "../epoll.h"

struct conn {
	int fd;
	int place; /* in members */
};

static struct conn **members;
static int count, room;

static struct conn *opened(int fd)
{
	struct conn *c = zeroed(sizeof *c);
	if (count == room) {
		room = room ? 2 * room : 64;
		if ((members = realloc(members, room * sizeof *members)) == NULL)
			die("realloc");
	}
	c->fd = fd;
	c->place = count;
	members[count++] = c;
	return c;
}

static void drop(struct conn *c)
{
	struct conn *last = members[--count];
	members[c->place] = last;
	last->place = c->place;
	close(c->fd);
	free(c);
}

static void ready(struct conn *c)
{
	ssize_t n = get(c->fd);
	if (n < 0)
		drop(c);
	if (n <= 0)
		return;
	for (int i = 0; i < count; i++) {
		ssize_t sent = send(members[i]->fd, input, n, MSG_NOSIGNAL);
		if (sent < n && (sent >= 0 || errno == EAGAIN)) {
			fprintf(stderr, NAME ": a member is behind, and nothing is kept here\n");
			exit(1);
		}
		/* that one is lost comes as an event of its own */
	}
}

static void pass(void) {}

int main(int argc, char **argv)
{
	return serve(argc, argv);
}
