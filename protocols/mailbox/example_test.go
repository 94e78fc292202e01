package mailbox_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

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
