// Package clients has nothing but a test: the clients that people have (nc, ncat, telnet, curl, wrk, Python, Node, …) talk to the example
// servers, and ours to theirs. A client that is not installed is skipped, unless PARLEY_REQUIRE_CLIENTS is set: then it is a
// failure.
package clients
