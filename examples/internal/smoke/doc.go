// Package smoke has nothing but a test: it builds the example programs and uses them as somebody would who found them,
// over real connections and with real signals. A new example gets an entry in one of the tables of programs_test.go: servers, or
// clients.
package smoke
