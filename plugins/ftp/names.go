package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// temporaryPrefix and temporarySuffix mark uploads under way. Receive locations
// never take such files, so that a directory can be written and read.
const (
	temporaryPrefix = ".fairlead-"
	temporarySuffix = ".part"
)

// temporaryName is the name under which a message is uploaded: the same at every
// attempt, so that a later attempt replaces what an earlier one left, and Probe
// finds it.
func temporaryName(id string) string { return temporaryPrefix + id + temporarySuffix }

func isTemporary(name string) bool {
	return strings.HasPrefix(name, temporaryPrefix) && strings.HasSuffix(name, temporarySuffix)
}

// checkName refuses names that would leave their directory or break a command.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is not a file name", name)
	case strings.ContainsAny(name, "/\\"):
		return fmt.Errorf("name %q contains a path separator", name)
	case strings.ContainsAny(name, "\r\n\x00"):
		return fmt.Errorf("name %q contains a line break or a NUL", name)
	}
	return nil
}

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

// matches reports whether the name is one that the pattern takes. The pattern is
// valid.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil && !isTemporary(name)
}
