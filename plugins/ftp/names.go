package main

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/fairlead-io/fairlead/sdk/files"
)

// temporaryName is the name under which a message is uploaded: the same at every
// attempt, so that a later attempt replaces what an earlier one left, and Probe
// finds it.
func temporaryName(id string) string { return files.TemporaryPrefix + id + ".part" }

// join makes the path of a name in a directory that begins with a slash. Such a
// path protects names that begin with a dash or a space, and spares every command
// the question which directory its connection is in.
func join(dir, name string) string {
	if strings.HasSuffix(dir, "/") {
		return dir + name
	}
	return dir + "/" + name
}

// printable returns the text as UTF-8 that tells names with other bytes apart.
func printable(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return strconv.Quote(text)
}
