package mailbox_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-go/parley/protocols/mailbox"
)

func ExampleMaildir() {
	top, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(top)

	box, err := mailbox.OpenMaildir(filepath.Join(top, "Maildir"))
	if err != nil {
		fmt.Println(err)
		return
	}
	name, err := box.Deliver(context.Background(), []byte("Subject: hello\r\n\r\nWorld\r\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := os.ReadFile(filepath.Join(box.Dir(), "new", name))
	fmt.Printf("%q %v\n", text, err)
	// Output: "Subject: hello\r\n\r\nWorld\r\n" <nil>
}

func ExampleDelivery() {
	top, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(top)
	box, err := mailbox.OpenMaildir(top)
	if err != nil {
		fmt.Println(err)
		return
	}
	box.LF = true

	d, err := box.Begin()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Abort() // does nothing after Commit
	fmt.Fprintf(d, "Subject: %s\r\n\r\n", "hello")
	fmt.Fprintf(d, "A message in pieces.\r\n")
	if err := d.Commit(context.Background()); err != nil {
		fmt.Println(err) // also what went wrong when it was written
		return
	}
	text, err := os.ReadFile(filepath.Join(top, "new", d.Name()))
	fmt.Printf("%q %v\n", text, err)
	// Output: "Subject: hello\n\nA message in pieces.\n" <nil>
}

func ExampleMbox() {
	top, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(top)

	box := &mailbox.Mbox{Path: filepath.Join(top, "pat")}
	at := time.Date(2026, 7, 5, 12, 0, 0, 0, time.UTC)
	message := "Subject: hello\r\n\r\nFrom now on, lines that begin so are marked.\r\n"
	if err := box.Append(context.Background(), "tim@example.org", at, strings.NewReader(message)); err != nil {
		fmt.Println(err)
		return
	}
	text, err := os.ReadFile(box.Path)
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// From tim@example.org Sun Jul  5 12:00:00 2026
	// Subject: hello
	//
	// >From now on, lines that begin so are marked.
	//
	// <nil>
}

func ExampleQueue() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	q, err := mailbox.OpenQueue(filepath.Join(dir, "queue"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer q.Close()
	d, err := q.Begin()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(d, "Subject: hello\r\n\r\nhello\r\n")
	if err := d.Commit(context.Background()); err != nil { // from here on it survives
		fmt.Println(err)
		return
	}
	fmt.Println(q.SetNote(d.Name(), []byte("tried once")))

	names, _ := q.List()
	note, err := q.Note(names[0])
	fmt.Printf("%d: %s %v\n", len(names), note, err)
	fmt.Println(q.Remove(names...))
	// Output:
	// <nil>
	// 1: tried once <nil>
	// <nil>
}
