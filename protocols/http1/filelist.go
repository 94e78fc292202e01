package http1

import (
	"html"
	"io/fs"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// list makes the page of a directory.
func (h *Files) list(name string) ([]byte, error) {
	entries, more, err := h.entries(name)
	if err != nil {
		return nil, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	title := "/"
	if name != "." {
		title += html.EscapeString(strings.ToValidUTF8(name, "�")) + "/"
	}
	var p strings.Builder
	p.WriteString("<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n<title>" + title +
		"</title>\n<style>body{font-family:sans-serif}td{padding-right:2em}td+td{text-align:right}</style>\n<h1>" + title + "</h1>\n<table>\n")
	if name != "." {
		p.WriteString("<tr><td><a href=\"../\">../</a>\n")
	}
	for _, e := range entries {
		name, size := e.Name(), ""
		switch info, err := e.Info(); {
		case err != nil: // it is gone
			continue
		case e.IsDir():
			name += "/"
		case e.Type().IsRegular():
			size = "<td>" + strconv.FormatInt(info.Size(), 10) + "<td>" + info.ModTime().UTC().Format("2006-01-02 15:04")
		}
		// "./" keeps a colon from ending a scheme.
		p.WriteString("<tr><td><a href=\"./" + html.EscapeString((&url.URL{Path: name}).EscapedPath()) + "\">" +
			html.EscapeString(strings.ToValidUTF8(name, "�")) + "</a>" + size + "\n")
	}
	p.WriteString("</table>\n")
	if more {
		p.WriteString("<p>There are more than " + strconv.Itoa(maxList) + ".\n")
	}
	return []byte(p.String()), nil
}

// entries reads a directory.
func (h *Files) entries(name string) (list []fs.DirEntry, more bool, err error) {
	dir, err := h.FS.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	d, ok := dir.(fs.ReadDirFile)
	if !ok {
		return nil, false, errNoFile
	}
	for len(list) <= maxList {
		some, err := d.ReadDir(256)
		for _, e := range some {
			if t := e.Type(); h.shown(e.Name()) && (t.IsRegular() || t.IsDir() || t&fs.ModeSymlink != 0) {
				list = append(list, e)
			}
		}
		if err != nil || len(some) == 0 {
			break // what was read is better than nothing
		}
	}
	if len(list) > maxList {
		return list[:maxList], true, nil
	}
	return list, false, nil
}
